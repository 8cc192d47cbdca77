"""What the settings of the augmentation do, in words."""

from collections.abc import Iterator

from vitreous.config import AugmentationConfig


def describe(config: AugmentationConfig) -> Iterator[str]:
    """A few words for each variation that is on, the shift always.

    >>> ", ".join(describe(AugmentationConfig(flip="alternating", shift_px=2, mixup=0.2)))
    'shift 2 px, mirrored in every second epoch, mixup 0.2'
    """
    yield f"shift {config.shift_px or 0} px"
    if config.flip:
        yield "mirrored in every second epoch" if config.flip == "alternating" else "mirrored"
    if config.zoom:
        yield f"zoomed by up to {config.zoom:.0%}"
    if config.rotate:
        yield f"turned by up to {config.rotate:g}°"
    if config.shear:
        yield f"sheared by up to {config.shear:.0%}"
    if config.scale:
        yield f"scaled by up to {1 + config.scale:g}"
    if config.light:
        yield f"light varied by up to {config.light:.0%}"
    if config.saturation:
        yield f"saturation varied by up to {config.saturation:.0%}"
    if config.hue:
        yield f"hue turned by up to {360 * config.hue:.0f}°"
    if config.randaugment:
        yield f"RandAugment {config.randaugment} x {config.randaugment_magnitude:g}"
    if config.cutout:
        yield f"cutout {config.cutout:.0%}"
    if config.mixup:
        yield f"mixup {config.mixup:g}"
    if config.cutmix:
        yield f"CutMix {config.cutmix:g}"

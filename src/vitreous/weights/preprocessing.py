"""How the images looked that foreign weights were trained on. It belongs to the weights, and is never guessed.

Read from what came with them: the note that `vitreous convert` leaves in the header, a ``config.json`` of timm or
Hugging Face beside them, or the file name under which torchvision gives them out.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from vitreous.errors import ConfigError

PRESETS = {  # mean and std of each channel, red first, on the 0..1 scale
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "inception": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
METADATA_KEY = "preprocessing"

_FITS = ("crop", "pad", "squash")
_INTERPOLATIONS = ("nearest", "lanczos", "bilinear", "bicubic", "box")  # in Pillow's order: Hugging Face stores numbers
_TIMM_FITS = {"center": "crop", "border": "pad", "squash": "squash"}
_HUGGING_FACE_SQUASHES_FROM = 384  # px: the processor of ConvNeXt and ResNet crops below, and squashes from there on


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightPreprocessing:
    """The pixels that weights expect.

    ``mean`` and ``std`` are on the 0..1 scale, one a channel, red first whatever ``is_bgr`` says; ``size`` is (height,
    width); ``crop_fraction`` is the share of the fitted picture's side that the network sees, the middle of it;
    ``is_bgr`` says that the first channel of the first convolution is blue.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int] | None = None
    fit: str = "crop"
    crop_fraction: float = 1.0
    interpolation: str = "bilinear"
    is_bgr: bool = False

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            numbers = getattr(self, name)
            if not isinstance(numbers, list | tuple) or len(numbers) not in (1, 3) or not all(map(_is_number, numbers)):
                raise ValueError(f"{name} = {numbers!r} must be one or three numbers")
            object.__setattr__(self, name, tuple(map(float, numbers)))
        if len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise ValueError(f"std = {self.std} must be above 0, a number for each of mean = {self.mean}")
        if self.size is not None:
            sides = tuple(self.size)
            if len(sides) != 2 or not all(type(side) is int and 1 <= side <= 65_536 for side in sides):
                raise ValueError(f"size = {self.size!r} must be a height and a width in pixels")
            object.__setattr__(self, "size", sides)
        if self.fit not in _FITS:
            raise ValueError(f"fit = {self.fit!r} must be one of {', '.join(_FITS)}")
        if self.interpolation not in _INTERPOLATIONS:
            raise ValueError(f"interpolation = {self.interpolation!r} must be one of {', '.join(_INTERPOLATIONS)}")
        if not _is_number(self.crop_fraction) or not 0 < self.crop_fraction <= 1:
            raise ValueError(f"crop fraction = {self.crop_fraction!r} must be above 0 and at most 1")

    def for_channels(self, channels: int) -> Self:
        """The same for a network of 1 or 3 channels: colours become their average, grey is repeated.

        >>> WeightPreprocessing(mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.2)).for_channels(1).mean
        (0.5,)
        """
        if len(self.mean) == channels:
            return self
        return dataclasses.replace(
            self,
            mean=(math.fsum(self.mean) / len(self.mean),) * channels,
            std=(math.fsum(self.std) / len(self.std),) * channels,
        )

    def to_json(self) -> str:
        """One line, as ``from_json`` reads it."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What ``to_json`` wrote.

        Raises:
            ValueError, TypeError: it did not write this.
        """
        return cls(**json.loads(text))


def ask_for_preprocessing(path: Path) -> str:
    """The sentence for weights that came without a word about their images."""
    return (
        f"{path} does not say how the images were normalized that it was trained on, and a guess would cost accuracy "
        "without a word.\nSay it: --set data.preset=imagenet (torchvision, most of timm), inception (all 0.5) or none; "
        "or --set data.mean=[R,G,B] --set data.std=[R,G,B] on the 0..1 scale."
    )


# --- from the header --------------------------------------------------------------------------------------------------


def noted_preprocessing(path: Path, metadata: Mapping[str, str]) -> WeightPreprocessing | None:
    """What `vitreous convert` noted in the file's header.

    Raises:
        ConfigError: the note is damaged.
    """
    if METADATA_KEY not in metadata:
        return None
    try:
        return WeightPreprocessing.from_json(metadata[METADATA_KEY])
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"the header of {path} says nonsense about preprocessing: {error}.") from None


# --- from torchvision's file names ------------------------------------------------------------------------------------

# Name and first eight digits of the SHA-256, as torchvision names its files; then the side to which a picture is scaled
# before the middle 224 px are cut out. Source: torchvision 0.24, models/*.py; the hashes that it replaced: 0.5 to 0.9.
_TORCHVISION_SIDES = {
    "alexnet-owt-7be5be79": 256,
    "alexnet-owt-4df8aa71": 256,
    "vgg11-8a719046": 256,
    "vgg11-bbd30ac9": 256,
    "vgg11_bn-6002323d": 256,
    "vgg13-19584684": 256,
    "vgg13-c768596a": 256,
    "vgg13_bn-abd245e5": 256,
    "vgg16-397923af": 256,
    "vgg16_bn-6c64b313": 256,
    "vgg19-dcbb9e9d": 256,
    "vgg19_bn-c79401a0": 256,
    "resnet18-f37072fd": 256,
    "resnet18-5c106cde": 256,
    "resnet34-b627a593": 256,
    "resnet34-333f7ec4": 256,
    "resnet50-0676ba61": 256,
    "resnet50-19c8e357": 256,
    "resnet50-11ad3fa6": 232,
    "resnet101-63fe2227": 256,
    "resnet101-5d3b4d8f": 256,
    "resnet101-cd907fc2": 232,
    "resnet152-394f9c45": 256,
    "resnet152-b121ed2d": 256,
    "resnet152-f82ba261": 232,
    "mobilenet_v2-b0353104": 256,
    "mobilenet_v2-7ebf99e0": 232,
}


def torchvision_name(stem: str, sha256: str = "") -> str | None:
    """The name under which torchvision gives this file out, by its own name or by its SHA-256.

    >>> torchvision_name("resnet50-0676ba61"), torchvision_name("backbone", "0676ba61b6795bbe1773cffd8598")
    ('resnet50-0676ba61', 'resnet50-0676ba61')
    """
    if stem in _TORCHVISION_SIDES:
        return stem
    return next((name for name in _TORCHVISION_SIDES if sha256 and name.endswith(f"-{sha256[:8]}")), None)


def torchvision_preprocessing(name: str) -> WeightPreprocessing:
    """What torchvision's file of this name expects: the shorter side scaled to 256 or 232 px, 224 px of the middle."""
    mean, std = PRESETS["imagenet"]
    return WeightPreprocessing(mean=mean, std=std, size=(224, 224), crop_fraction=224 / _TORCHVISION_SIDES[name])


# --- from a file beside the weights -----------------------------------------------------------------------------------


def preprocessing_beside(weights: Path) -> tuple[WeightPreprocessing, str] | None:
    """What ``config.json`` or ``preprocessor_config.json`` in the folder of ``weights`` says, and where it says it.

    Raises:
        ConfigError: the file is there, and damaged or says what cannot be.
    """
    for name in ("preprocessor_config.json", "config.json"):
        path = weights.parent / name
        if not path.is_file():
            continue
        config = _read(path)
        try:
            for origin, read in (("timm", _from_timm), ("Hugging Face", _from_hugging_face)):
                if found := read(config):
                    return found, f"{origin}'s {path}"
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            raise ConfigError(f"{path} says what cannot be about preprocessing: {error}; mend or remove it.") from None
    return None


def _read(path: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} beside the weights cannot be read: {error}; mend or remove it.") from None
    if not isinstance(config, dict):
        raise ConfigError(f"{path} beside the weights is not a JSON object; mend or remove it.")
    return config


def _from_timm(config: Mapping[str, Any]) -> WeightPreprocessing | None:
    """Its defaults are timm's. Source: timm 1.0, models/_hub.py and data/config.py."""
    values = config.get("pretrained_cfg", config)  # files from before 2023 have one level
    if not values.get("mean") or not values.get("std"):
        return None
    _, height, width = values["input_size"] if values.get("input_size") else (3, 224, 224)
    return WeightPreprocessing(
        mean=values["mean"],
        std=values["std"],
        size=(height, width),
        fit=_TIMM_FITS.get(values.get("crop_mode") or "center", str(values.get("crop_mode"))),
        crop_fraction=values.get("crop_pct") or 0.875,
        interpolation=values.get("interpolation") or "bicubic",
    )


def _from_hugging_face(config: Mapping[str, Any]) -> WeightPreprocessing | None:
    """Its numbers count from 0..255 times ``rescale_factor``; ours are on 0..1. Source: transformers' processors."""
    if "image_mean" not in config and config.get("do_normalize", True):
        return None
    is_normalized, is_rescaled = config.get("do_normalize", True), config.get("do_rescale", True)
    mean, std = (config["image_mean"], config["image_std"]) if is_normalized else PRESETS["none"]
    scale = 255 * (config.get("rescale_factor", 1 / 255) if is_rescaled else 1.0)
    offset = 1.0 if config.get("rescale_offset") else 0.0  # taken away after scaling
    is_bgr = bool(config.get("do_flip_channel_order", False))
    size, fit, fraction = _hugging_face_size(config)
    return WeightPreprocessing(
        mean=tuple((number + offset) / scale for number in _red_first(mean, is_bgr)),
        std=tuple(number / scale for number in _red_first(std, is_bgr)),
        size=size,
        fit=fit,
        crop_fraction=fraction,
        interpolation=_INTERPOLATIONS[config.get("resample", 2)],
        is_bgr=is_bgr,
    )


def _hugging_face_size(config: Mapping[str, Any]) -> tuple[tuple[int, int] | None, str, float]:
    """(height, width), fit and crop fraction."""
    size = config.get("size")
    if size is None:
        return None, "crop", 1.0
    if isinstance(size, int) and (config.get("crop_pct") or config.get("do_center_crop")):
        size = {"shortest_edge": size}
    is_cropped = bool(config.get("crop_size")) and config.get("do_center_crop", True)
    crop = _sides(config["crop_size"]) if is_cropped else None
    if not (isinstance(size, dict) and "shortest_edge" in size):
        field = _sides(size)
        return crop or field, "squash", min(crop) / min(field) if crop else 1.0
    edge = size["shortest_edge"]
    if config.get("crop_pct"):
        is_small = edge < _HUGGING_FACE_SQUASHES_FROM
        return (edge, edge), "crop" if is_small else "squash", config["crop_pct"] if is_small else 1.0
    return crop or (edge, edge), "crop", min(crop) / edge if crop else 1.0


def _sides(size: Any) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    return (size["height"], size["width"]) if isinstance(size, dict) else (size[0], size[1])


def _red_first(numbers: Sequence[float], is_bgr: bool) -> Sequence[float]:
    return list(numbers)[::-1] if is_bgr else list(numbers)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

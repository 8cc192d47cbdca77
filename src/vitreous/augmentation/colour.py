"""Light and colour: new grey levels from the old ones of the same pixel and, for contrast, of the whole image."""

from functools import cache

import torch
from torch import Tensor

from vitreous.augmentation.rounding import HALF, cos_sin, to_bytes

_LUMA_RGB = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's grey
_U_SCALE, _V_SCALE = 0.492, 0.877  # BT.601: u = 0.492 (blue - luma), v = 0.877 (red - luma)


def linear(images_NHWC: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """Each level times ``scale`` plus ``offset``, a number an image (N) or an image and channel (N,C), rounded."""
    levels_NHWC = images_NHWC.float()
    for change, number in ((levels_NHWC.mul_, scale), (levels_NHWC.add_, offset + HALF)):
        change(number.float().to(images_NHWC.device).view(len(images_NHWC), 1, 1, -1))
    return to_bytes(levels_NHWC)


def lit(images_NHWC: Tensor, contrast_N: Tensor, brightness_N: Tensor) -> Tensor:
    """Multiply the contrast about the image's mean, and then all of it."""
    contrast_N, brightness_N = (each_N.to(images_NHWC.device) for each_N in (contrast_N, brightness_N))
    sum_N = images_NHWC.sum(1, dtype=torch.int32).flatten(1).sum(1)  # of whole numbers, so exact in any order
    mean_N = sum_N.double() / images_NHWC[0].numel()
    return linear(images_NHWC, contrast_N * brightness_N, mean_N * (1 - contrast_N) * brightness_N)


def recoloured(images_NHWC: Tensor, saturation_N: Tensor, degrees_N: Tensor) -> Tensor:
    """Multiply the distance of each colour from the grey as light as it, and turn its hue; grey images stay.

    The hue is turned in the plane of the two colour differences of ITU-R BT.601, which keeps the luma.
    """
    if images_NHWC.shape[3] == 1:
        return images_NHWC
    luma_33, turn_33 = _colour_matrices()
    cos_N11, sin_N11 = ((saturation_N * each_N)[:, None, None] for each_N in cos_sin(degrees_N))
    weights_N33 = luma_33 + cos_N11 * (torch.eye(3, dtype=torch.float64) - luma_33) + sin_N11 * turn_33
    weights_33N11 = weights_N33.float().to(images_NHWC.device).permute(1, 2, 0)[..., None, None]
    planes_3NHW = [plane_NHW.float() for plane_NHW in images_NHWC.unbind(3)]
    recoloured_NHWC = torch.empty_like(images_NHWC)
    for channel, weights_3N11 in enumerate(weights_33N11):
        red, green, blue = (plane * weight for plane, weight in zip(planes_3NHW, weights_3N11, strict=True))
        recoloured_NHWC[..., channel] = to_bytes(red.add_(green).add_(blue).add_(HALF))
    return recoloured_NHWC


@cache
def _colour_matrices() -> tuple[Tensor, Tensor]:
    """From (red, green, blue): the luma in all three, and the colour differences a quarter turn on."""
    luma_3 = torch.tensor(_LUMA_RGB, dtype=torch.float64)
    red_3, _, blue_3 = torch.eye(3, dtype=torch.float64) - luma_3
    red_turned_3, blue_turned_3 = blue_3 * (_U_SCALE / _V_SCALE), -red_3 * (_V_SCALE / _U_SCALE)
    green_turned_3 = -(luma_3[0] * red_turned_3 + luma_3[2] * blue_turned_3) / luma_3[1]  # so that the luma stays
    return luma_3.expand(3, 3), torch.stack((red_turned_3, green_turned_3, blue_turned_3))

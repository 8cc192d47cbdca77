"""RandAugment: a few operations an image, drawn from fourteen, all of one strength.

Source: Cubuk et al., "RandAugment: Practical automated data augmentation with a reduced search space", 2020, with the
ranges that torchvision gives the operations. Two things differ: what moves pixels is done before the rest, as part of
the image's one resampling; and what comes in from outside is the reflected picture.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Self

import torch
from torch import Tensor

from vitreous.augmentation.colour import linear, lit, recoloured
from vitreous.augmentation.counter import Draw, Stream
from vitreous.augmentation.geometry import affine, product
from vitreous.augmentation.rounding import HALF, to_bytes

MOST_MAGNITUDE = 30

_MOST_DEGREES = 30.0
_MOST_SLOPE = 0.3
_MOST_MOVE = 150 / 331  # of the side
_MOST_BITS_LOST = 4
_MOST_CHANGE = 0.9  # of a factor that is 1 where nothing changes


def auto_contrasted(images_NHWC: Tensor) -> Tensor:
    """Stretch each channel's levels over 0 .. 255; a channel of one level stays."""
    lowest_NC = images_NHWC.amin((1, 2)).double()
    span_NC = images_NHWC.amax((1, 2)).double() - lowest_NC
    scale_NC = torch.where(span_NC > 0, 255 / span_NC, 1.0)
    return linear(images_NHWC, scale_NC, torch.where(span_NC > 0, -lowest_NC * scale_NC, 0.0))


def equalized(images_NHWC: Tensor) -> Tensor:
    """Make each channel's levels about equally frequent, by the whole-number arithmetic of Pillow's ``equalize``."""
    planes_NCHW = images_NHWC.permute(0, 3, 1, 2)
    levels_PL = planes_NCHW.reshape(-1, images_NHWC[0, ..., 0].numel()).long()  # P planes of L pixels
    one = torch.ones((), dtype=torch.int32, device=levels_PL.device)
    counts_PV = one.new_zeros((len(levels_PL), 256)).scatter_add_(1, levels_PL, one.expand_as(levels_PL)).long()
    every_V = torch.arange(256, device=levels_PL.device)
    highest_P1 = levels_PL.amax(1, keepdim=True)
    step_P1 = (counts_PV.sum(1, keepdim=True) - counts_PV.gather(1, highest_P1)) // 255
    table_PV = (counts_PV.cumsum(1) - counts_PV + step_P1 // 2) // step_P1.clamp(min=1)
    table_PV = torch.where(step_P1 > 0, table_PV.clamp(max=255), every_V).to(torch.uint8)
    return table_PV.gather(1, levels_PL).view(planes_NCHW.shape).permute(0, 2, 3, 1).contiguous()


def posterized(images_NHWC: Tensor, bits_lost_N: Tensor) -> Tensor:
    """Set the lowest bits of each level to 0."""
    mask_N = (255 << bits_lost_N).to(torch.uint8).to(images_NHWC.device)
    return images_NHWC & mask_N[:, None, None, None]


def solarized(images_NHWC: Tensor, threshold_N: Tensor) -> Tensor:
    """Invert the levels that are not below the threshold, a whole one."""
    threshold_N111 = threshold_N.to(torch.uint8).to(images_NHWC.device)[:, None, None, None]
    return torch.where(images_NHWC >= threshold_N111, 255 - images_NHWC, images_NHWC)


def sharpened(images_NHWC: Tensor, factor_N: Tensor) -> Tensor:
    """Multiply what a smoothing of 3 x 3 pixels (the centre counts 5 times) takes away; the outermost pixels stay."""
    if min(images_NHWC.shape[1:3]) < 3:
        return images_NHWC
    levels = images_NHWC.to(torch.int16)
    rows = levels[:, :-2] + levels[:, 1:-1] + levels[:, 2:]
    inner = levels[:, 1:-1, 1:-1]
    sum_of_13 = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:] + 4 * inner
    smooth = (2 * sum_of_13 + 13) // 26  # the mean, rounded in whole numbers
    factor_N111 = factor_N.float().to(images_NHWC.device)[:, None, None, None]
    changed = images_NHWC.clone()
    changed[:, 1:-1, 1:-1] = to_bytes((inner - smooth).float().mul_(factor_N111).add_(smooth).add_(HALF))
    return changed


def _factor(signed_N: Tensor) -> Tensor:
    return 1 + _MOST_CHANGE * signed_N


_Change = Callable[[Tensor, Tensor], Tensor]  # images and their signed strengths, -1 .. 1 -> images

_LEVELS: MappingProxyType[str, _Change] = MappingProxyType(
    {
        "auto_contrast": lambda images, _: auto_contrasted(images),
        "equalize": lambda images, _: equalized(images),
        "posterize": lambda images, signed: posterized(images, (_MOST_BITS_LOST * signed.abs()).round().long()),
        "solarize": lambda images, signed: solarized(images, (255 * (1 - signed.abs())).ceil()),
        "color": lambda images, signed: recoloured(images, _factor(signed), torch.zeros_like(signed)),
        "contrast": lambda images, signed: lit(images, _factor(signed), torch.ones_like(signed)),
        "brightness": lambda images, signed: lit(images, torch.ones_like(signed), _factor(signed)),
        "sharpness": lambda images, signed: sharpened(images, _factor(signed)),
    }
)
_PLACES = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
OPERATIONS = (*_PLACES, *_LEVELS, "identity")


@dataclass(frozen=True, slots=True)
class Operations:
    """What each image meets, round by round."""

    kind_RN: Tensor  # the number in ``OPERATIONS``
    signed_RN: Tensor  # its strength, -1 .. 1

    @classmethod
    def drawn(cls, num_rounds: int, magnitude: float, draw: Draw) -> Self:
        """At least one round; each operation of ``magnitude`` (0 .. 30) in a direction drawn with it."""
        streams = [Stream.RANDAUGMENT + 2 * number for number in range(num_rounds)]
        kinds, signs = (torch.stack([draw(stream + part) for stream in streams]) for part in (0, 1))
        signed_RN = torch.where(signs < 0.5, 1.0, -1.0).double() * (magnitude / MOST_MAGNITUDE)
        return cls((kinds * len(OPERATIONS)).long(), signed_RN)

    def is_moving(self) -> Tensor:
        """Which images meet an operation that moves pixels."""
        return (self.kind_RN < len(_PLACES)).any(0)

    def maps(self, height: int, width: int) -> Tensor:
        """What the operations that move pixels amount to: N,2,3, as ``geometry.affine``'s."""
        by_name = {name: self.signed_RN * (self.kind_RN == number) for number, name in enumerate(_PLACES)}
        num_rounds, num = self.kind_RN.shape
        maps_RN23 = affine(
            right_N=by_name["translate_x"].flatten() * _MOST_MOVE * width,
            down_N=by_name["translate_y"].flatten() * _MOST_MOVE * height,
            degrees_N=by_name["rotate"].flatten() * _MOST_DEGREES,
            slope_right_N=by_name["shear_x"].flatten() * _MOST_SLOPE,
            slope_down_N=by_name["shear_y"].flatten() * _MOST_SLOPE,
            factor_N=torch.ones(num_rounds * num, dtype=torch.float64),
        ).view(num_rounds, num, 2, 3)
        return functools.reduce(product, maps_RN23.unbind())

    def __call__(self, images_NHWC: Tensor) -> Tensor:
        """The images after the operations that change levels, a group of images for each operation and round."""
        for kind_N, signed_N in zip(self.kind_RN, self.signed_RN, strict=True):
            order_N = kind_N.argsort(stable=True)
            counts = kind_N.bincount(minlength=len(OPERATIONS)).tolist()
            grouped_NHWC = images_NHWC.index_select(0, order_N.to(images_NHWC.device))
            groups, strengths = torch.split(grouped_NHWC, counts), torch.split(signed_N[order_N], counts)
            changed = [
                _LEVELS[name](group, signed) if name in _LEVELS and len(group) else group
                for name, group, signed in zip(OPERATIONS, groups, strengths, strict=True)
            ]
            images_NHWC = torch.cat(changed).index_select(0, order_N.argsort().to(images_NHWC.device))
        return images_NHWC

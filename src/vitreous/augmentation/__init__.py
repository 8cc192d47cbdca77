"""Batched variations of training images, drawn from (seed, epoch, image) alone.

Order, batch size, workers and restarts change nothing: image 7 in epoch 3 is always varied in the same way. To keep
that to the last bit, what is computed for an image uses only operations that round alike wherever it lies in a batch.
"""

from dataclasses import dataclass, fields
from functools import partial
from typing import Self

import torch
from torch import Tensor

from vitreous.augmentation.boxes import drawn_box, filled
from vitreous.augmentation.colour import lit, recoloured
from vitreous.augmentation.counter import Draw, Stream, uniform
from vitreous.augmentation.geometry import affine, mirrored, product, replaced, resampled, shifted
from vitreous.augmentation.randaugment import Operations
from vitreous.config import AugmentationConfig

_SLICE = 2**21  # numbers that a processor varies at a time, so that they stay in its cache
_MOST_STRETCH = (4 / 3) ** 0.5  # of one axis, the other shrinking by as much: shapes from 3:4 to 4:3


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Move, mirror, zoom, turn, shear and scale; then light and colour; then RandAugment's operations; then cutout.

    Attributes:
        flip: mirror left-right: True by chance, with probability 1/2; "alternating" in every second epoch, in even ones
            or in odd ones as drawn for the image, so that any two epochs in a row show both sides (Jordan, "94% on
            CIFAR-10 in 3.29 seconds on a single GPU", 2024).
        shift_px: move by -shift_px .. shift_px pixels on each axis; the edge is reflected.
        zoom: enlarge a part to the whole field. The part has a share of 1 - zoom .. 1 of both sides, is stretched to at
            most 3:4 or 4:3 of the field's shape, and lies anywhere inside; then ``shift_px`` moves it, which may reach
            beyond the edge.
        light: multiply the contrast about the image's mean, and then all of it, by 1 - light .. 1 + light each.
        rotate: turn about the centre by -rotate .. rotate degrees.
        shear: move pixels along each axis by -shear .. shear of their distance from the centre along the other.
        scale: enlarge or shrink about the centre by a factor of 1 / (1 + scale) .. 1 + scale.
        saturation: multiply the distance of each colour from grey by 1 - saturation .. 1 + saturation.
        hue: turn the hue by -hue .. hue of the whole circle. Grey images have neither.
        randaugment: number of RandAugment's operations that each image meets.
        randaugment_magnitude: their strength, 0 .. 30.
        cutout: hide a square with this share of the shorter side, drawn by its centre and cut off at the edge, behind
            the image's mean colour (DeVries and Taylor, "Improved regularization of convolutional neural networks with
            cutout", 2017).

    Pixels that zoom, rotate, shear, scale or RandAugment fetch are resampled once, bilinearly, with the edge reflected.
    """

    flip: bool | str = False
    shift_px: int = 0
    zoom: float = 0.0
    light: float = 0.0
    rotate: float = 0.0
    shear: float = 0.0
    scale: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    randaugment: int = 0
    randaugment_magnitude: float = 9.0
    cutout: float = 0.0

    @classmethod
    def from_config(cls, config: AugmentationConfig) -> Self:
        """What the settings ask for; what was not chosen is off."""
        asked = {spec.name: getattr(config, spec.name) for spec in fields(cls)}
        return cls(**{name: value for name, value in asked.items() if value is not None})

    def __call__(self, pixels_MHWC: Tensor, index_N: Tensor, *, seed: int, epoch: int) -> Tensor:
        """The images ``index_N`` of the whole set ``pixels_MHWC`` (uint8), varied: N,H,W,C, uint8, where the set is.

        Numbers are drawn on the processor, so that is the place for ``index_N``.
        """
        most = max(1, _SLICE // pixels_MHWC[0].numel()) if pixels_MHWC.device.type == "cpu" else len(index_N)
        slices = [self._varied(pixels_MHWC, slice_S, seed, epoch) for slice_S in torch.split(index_N, most)]
        return torch.cat(slices) if len(slices) > 1 else slices[0]

    def _varied(self, pixels_MHWC: Tensor, index_N: Tensor, seed: int, epoch: int) -> Tensor:
        draw = partial(uniform, seed, epoch, index_N)
        operations = Operations.drawn(self.randaugment, self.randaugment_magnitude, draw) if self.randaugment else None
        images_NHWC = pixels_MHWC.index_select(0, index_N.to(pixels_MHWC.device))
        images_NHWC = self._placed(images_NHWC, draw, self._is_mirrored(index_N, seed, epoch), operations)
        if self.light:
            contrast_N, brightness_N = (_about(1, self.light, draw(s)) for s in (Stream.CONTRAST, Stream.BRIGHTNESS))
            images_NHWC = lit(images_NHWC, contrast_N, brightness_N)
        if self.saturation or self.hue:
            saturation_N = _about(1, self.saturation, draw(Stream.SATURATION))
            images_NHWC = recoloured(images_NHWC, saturation_N, 360 * _about(0, self.hue, draw(Stream.HUE)))
        if operations:
            images_NHWC = operations(images_NHWC)
        return self._cut_out(images_NHWC, draw) if self.cutout else images_NHWC

    def _is_mirrored(self, index_N: Tensor, seed: int, epoch: int) -> Tensor:
        if not self.flip:
            return torch.zeros(len(index_N), dtype=torch.bool)
        if self.flip == "alternating":
            return (uniform(seed, 0, index_N, Stream.FLIP) < 0.5) ^ bool(epoch % 2)
        return uniform(seed, epoch, index_N, Stream.FLIP) < 0.5

    def _placed(self, images_NHWC: Tensor, draw: Draw, is_mirrored_N: Tensor, operations: Operations | None) -> Tensor:
        """Each image after what moves its pixels: as runs of bytes, or resampled where that will not do."""
        down_N, right_N = (
            (draw(stream) * (2 * self.shift_px + 1)).long() - self.shift_px
            for stream in (Stream.SHIFT_DOWN, Stream.SHIFT_RIGHT)
        )
        is_everywhere = bool(self.zoom or self.rotate or self.shear or self.scale)
        is_resampled_N = torch.full_like(is_mirrored_N, is_everywhere)
        if operations:
            is_resampled_N |= operations.is_moving()
        placed_NHWC = images_NHWC
        if self.shift_px and not is_everywhere:
            placed_NHWC = shifted(placed_NHWC, down_N, right_N, self.shift_px)
        if self.flip and not is_everywhere:
            placed_NHWC = mirrored(placed_NHWC, is_mirrored_N)
        if not is_resampled_N.any():
            return placed_NHWC
        _, height, width, _ = images_NHWC.shape
        rows_NH, columns_NW = self._part(height, width, draw)
        columns_NW = torch.where(is_mirrored_N[:, None], columns_NW.flip(1), columns_NW)
        maps_N23 = self._maps(draw, down_N, right_N)
        if operations:
            maps_N23 = product(maps_N23, operations.maps(height, width))
        numbers_K = is_resampled_N.nonzero()[:, 0]
        places = rows_NH[numbers_K], columns_NW[numbers_K], maps_N23[numbers_K]
        numbers_K = numbers_K.to(images_NHWC.device)
        return replaced(placed_NHWC, numbers_K, resampled(images_NHWC.index_select(0, numbers_K), *places))

    def _maps(self, draw: Draw, down_N: Tensor, right_N: Tensor) -> Tensor:
        """The settings' affine map, the shift (which says where a pixel comes from) included: N,2,3."""
        return affine(
            right_N=-right_N.double(),
            down_N=-down_N.double(),
            degrees_N=_about(0, self.rotate, draw(Stream.ROTATE)),
            slope_right_N=_about(0, self.shear, draw(Stream.SHEAR_RIGHT)),
            slope_down_N=_about(0, self.shear, draw(Stream.SHEAR_DOWN)),
            factor_N=_up_or_down(2 * draw(Stream.SCALE) - 1, self.scale),
        )

    def _part(self, height: int, width: int, draw: Draw) -> tuple[Tensor, Tensor]:
        """Where the rows and columns of a part lie, to fractions of a pixel; the part's area is the share's square."""
        share_N = 1 - self.zoom * draw(Stream.ZOOM_SHARE)
        stretch_N = _up_or_down(2 * draw(Stream.ZOOM_STRETCH) - 1, (1 / share_N).clamp(max=_MOST_STRETCH) - 1)
        rows_NH = _within(height, share_N * stretch_N, draw(Stream.ZOOM_TOP))
        return rows_NH, _within(width, share_N / stretch_N, draw(Stream.ZOOM_LEFT))

    def _cut_out(self, images_NHWC: Tensor, draw: Draw) -> Tensor:
        num, height, width, _ = images_NHWC.shape
        side_N = torch.tensor(max(1, round(self.cutout * min(height, width)))).expand(num)
        rows = drawn_box(height, side_N, draw(Stream.CUTOUT_ROW))
        columns = drawn_box(width, side_N, draw(Stream.CUTOUT_COLUMN))
        sum_NC = images_NHWC.sum(1, dtype=torch.int32).sum(1)
        mean_NC = (2 * sum_NC + height * width).div(2 * height * width, rounding_mode="floor").to(torch.uint8)
        mean_N1WC = mean_NC[:, None, None].expand(-1, -1, width, -1).contiguous()
        return filled(images_NHWC, mean_N1WC, rows, columns)


def _about(centre: float, most: float, drawn_N: Tensor) -> Tensor:
    """Numbers in centre - most .. centre + most."""
    return centre + most * (2 * drawn_N - 1)


def _up_or_down(signed_N: Tensor, most: float | Tensor) -> Tensor:
    """Factors in 1 .. 1 + most for 0 .. 1, and one over them for 0 .. -1."""
    factor_N = 1 + signed_N.abs() * most
    return torch.where(signed_N < 0, 1 / factor_N, factor_N)


def _within(length: int, share_N: Tensor, drawn_N: Tensor) -> Tensor:
    """The centres of equal steps, one a pixel, through a part of the pixels that begins anywhere it fits."""
    start_N = drawn_N * (1 - share_N) * length
    return ((torch.arange(length) + 0.5) * share_N[:, None] + start_N[:, None] - 0.5).clamp(0, length - 1)

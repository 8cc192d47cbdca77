"""Batched variations of training images, drawn from (seed, epoch, image) alone.

Order, batch size, workers and restarts change nothing: image 7 in epoch 3 is always varied in the same way. To keep
that to the last bit, what is computed for an image uses only operations that round alike wherever it lies in a batch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from vitreous.augmentation.counter import uniform

_MOST_STRETCH = (4 / 3) ** 0.5  # of one axis, the other shrinking by as much: shapes from 3:4 to 4:3
_HALF = 0.5  # added before bytes are made, which cuts the fraction off: several times faster than ``round``

Draw = Callable[[int], Tensor]  # a stream's number in [0, 1) for each image of the batch: N, float64


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Mirror, move, zoom and change the light; geometry is one gather of the batch, or one resampling if it zooms.

    Attributes:
        flip: mirror left-right with probability 1/2.
        shift_px: move by -shift_px .. shift_px pixels on each axis; the edge is reflected.
        zoom: enlarge a part to the whole field, bilinearly. The part has a share of 1 - zoom .. 1 of both sides, is
            stretched to at most 3:4 or 4:3 of the field's shape, and lies anywhere inside; then ``shift_px`` moves it,
            which may reach beyond the edge.
        light: multiply the contrast about the image's mean, and then all of it, by 1 - light .. 1 + light each.
    """

    flip: bool
    shift_px: int
    zoom: float = 0.0
    light: float = 0.0

    def __call__(self, pixels_MHWC: Tensor, index_N: Tensor, *, seed: int, epoch: int) -> Tensor:
        """The images ``index_N`` of the whole set ``pixels_MHWC`` (uint8), varied: N,H,W,C, uint8."""
        draw = partial(uniform, seed, epoch, index_N)
        rows_NH, columns_NW = (torch.arange(length).expand(len(index_N), -1) for length in pixels_MHWC.shape[1:3])
        if self.zoom:
            rows_NH, columns_NW = self._part(rows_NH, columns_NW, draw)
        rows_NH, columns_NW = self._moved(rows_NH, draw(0)), self._moved(columns_NW, draw(1))
        if self.flip:
            columns_NW = torch.where(draw(2)[:, None] < 0.5, columns_NW.flip(1), columns_NW)
        images_NHWC = (_resampled if self.zoom else _gathered)(pixels_MHWC, index_N, rows_NH, columns_NW)
        return self._lit(images_NHWC, draw) if self.light else images_NHWC

    def _moved(self, places_NL: Tensor, drawn_N: Tensor) -> Tensor:
        steps_N = (drawn_N * (2 * self.shift_px + 1)).long() - self.shift_px
        return reflect(places_NL + steps_N[:, None], places_NL.shape[1])

    def _part(self, rows_NH: Tensor, columns_NW: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """Where the rows and columns of a part lie, to fractions of a pixel; the part's area is the share's square."""
        share_N = 1 - self.zoom * draw(3)
        signed_N = 2 * draw(4) - 1
        stretch_N = 1 + signed_N.abs() * ((1 / share_N).clamp(max=_MOST_STRETCH) - 1)
        stretch_N = torch.where(signed_N < 0, 1 / stretch_N, stretch_N)
        return _within(rows_NH, share_N * stretch_N, draw(5)), _within(columns_NW, share_N / stretch_N, draw(6))

    def _lit(self, images_NHWC: Tensor, draw: Draw) -> Tensor:
        contrast_N, brightness_N = (
            (1 + self.light * (2 * draw(stream) - 1)).to(images_NHWC.device) for stream in (7, 8)
        )
        sum_N = images_NHWC.flatten(2).sum(2, dtype=torch.int32).sum(1)  # of whole numbers, so exact in any order
        mean_N = sum_N.double() / images_NHWC[0].numel()
        scale_N, offset_N = contrast_N * brightness_N, mean_N * (1 - contrast_N) * brightness_N + _HALF
        scale_N111, offset_N111 = (each.float()[:, None, None, None] for each in (scale_N, offset_N))
        return (images_NHWC * scale_N111).add_(offset_N111).clamp_(0, 255).to(torch.uint8)


def reflect(places: Tensor, length: int) -> Tensor:
    """Fold places outside 0 .. length-1 back inside, the edge not repeated, as ``torch.nn.ReflectionPad2d`` does.

    >>> reflect(torch.tensor([-2, -1, 0, 4, 5, 6]), 5).tolist()
    [2, 1, 0, 4, 3, 2]
    """
    if length == 1:
        return torch.zeros_like(places)
    period = 2 * (length - 1)
    folded = places.remainder(period)
    return torch.minimum(folded, period - folded)


def _within(places_NL: Tensor, share_N: Tensor, drawn_N: Tensor) -> Tensor:
    """The centres of L equal steps through a part of the L pixels that begins anywhere it fits."""
    length = places_NL.shape[1]
    start_N = drawn_N * (1 - share_N) * length
    return ((places_NL + 0.5) * share_N[:, None] + start_N[:, None] - 0.5).clamp(0, length - 1)


def _gathered(pixels_MHWC: Tensor, index_N: Tensor, rows_NH: Tensor, columns_NW: Tensor) -> Tensor:
    places = index_N[:, None, None], rows_NH[:, :, None], columns_NW[:, None]
    n, rows, columns = (place.to(pixels_MHWC.device) for place in places)
    return pixels_MHWC[n, rows, columns]


def _resampled(pixels_MHWC: Tensor, index_N: Tensor, rows_NH: Tensor, columns_NW: Tensor) -> Tensor:
    """As ``_gathered``, between pixels as well: bilinear, rounded to whole grey levels."""
    height, width = pixels_MHWC.shape[1:3]
    y_NH, x_NW = (
        (places.float() * (2 / max(length - 1, 1)) - 1).to(pixels_MHWC.device)
        for places, length in ((rows_NH, height), (columns_NW, width))
    )  # on grid_sample's scale, where -1 and 1 are the centres of the first and the last pixel
    grid_NHW2 = torch.stack((x_NW[:, None].expand(-1, height, -1), y_NH[:, :, None].expand(-1, -1, width)), dim=3)
    images_NCHW = pixels_MHWC[index_N.to(pixels_MHWC.device)].permute(0, 3, 1, 2).float()
    sampled_NCHW = grid_sample(images_NCHW, grid_NHW2, padding_mode="border", align_corners=True)
    return sampled_NCHW.add_(_HALF).to(torch.uint8).permute(0, 2, 3, 1).contiguous()

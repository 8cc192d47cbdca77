"""Batched variations of training images, drawn from (seed, epoch, image) alone.

Order, batch size, workers and restarts change nothing: image 7 in epoch 3 is always varied in the same way.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from vitreous.augmentation.counter import uniform


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Mirror and move; both are one gather of the batch.

    Attributes:
        flip: mirror left-right with probability 1/2.
        shift_px: move by -shift_px .. shift_px pixels on each axis; the edge is reflected.
    """

    flip: bool
    shift_px: int

    def __call__(self, pixels_MHWC: Tensor, index_N: Tensor, *, seed: int, epoch: int) -> Tensor:
        """The images ``index_N`` of the whole set ``pixels_MHWC``, varied: N,H,W,C of the same dtype."""
        height, width = pixels_MHWC.shape[1:3]
        rows_NH = self._moved(torch.arange(height), index_N, seed, epoch, stream=0)
        columns_NW = self._moved(torch.arange(width), index_N, seed, epoch, stream=1)
        if self.flip:
            mirrored_N = uniform(seed, epoch, index_N, stream=2) < 0.5
            columns_NW = torch.where(mirrored_N[:, None], columns_NW.flip(1), columns_NW)
        device = pixels_MHWC.device
        n, rows, columns = (
            place.to(device) for place in (index_N[:, None, None], rows_NH[:, :, None], columns_NW[:, None])
        )
        return pixels_MHWC[n, rows, columns]

    def _moved(self, places_L: Tensor, index_N: Tensor, seed: int, epoch: int, stream: int) -> Tensor:
        """Where each output row (or column) of each image comes from: N,L."""
        if self.shift_px == 0:
            return places_L.expand(len(index_N), -1)
        steps_N = (uniform(seed, epoch, index_N, stream) * (2 * self.shift_px + 1)).long() - self.shift_px
        return reflect(places_L + steps_N[:, None], len(places_L))


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

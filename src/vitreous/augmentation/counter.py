"""Random numbers without a state: a pure function of (seed, epoch, image, stream).

The mixer is SplitMix64's finalizer (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014,
variant 13 of Stafford), in the wrap-around arithmetic of 64-bit integers.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Any

import numpy as np
import torch
from torch import Tensor

_BITS = 2**64 - 1
_GAMMA = 0x9E3779B97F4A7C15  # the golden ratio in 64 bits
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB

Draw = Callable[[int], Tensor]  # a stream's number in [0, 1) for each image of the batch: N, float64


class Stream(IntEnum):
    """What a number is drawn for. A run that was stopped relies on these, so none ever changes."""

    SHIFT_DOWN = 0
    SHIFT_RIGHT = 1
    FLIP = 2
    ZOOM_SHARE = 3
    ZOOM_STRETCH = 4
    ZOOM_TOP = 5
    ZOOM_LEFT = 6
    CONTRAST = 7
    BRIGHTNESS = 8
    ROTATE = 9
    SHEAR_RIGHT = 10
    SHEAR_DOWN = 11
    SCALE = 12
    SATURATION = 13
    HUE = 14
    CUTOUT_ROW = 15
    CUTOUT_COLUMN = 16
    MIX_PARTNER = 17
    MIX_KIND = 18
    MIX_SHARE = 19
    MIX_ROW = 20
    MIX_COLUMN = 21
    RANDAUGMENT = 100  # the first operation's kind and sign, then the second's, and so on


def uniform(seed: int, epoch: int, index_N: Tensor, stream: int) -> Tensor:
    """One number in [0, 1) for each image: N, float64, in the processor's memory.

    ``stream`` keeps the draws for different purposes apart.

    >>> uniform(3, 1, torch.tensor([7, 8]), Stream.FLIP)
    tensor([0.2545, 0.0223], dtype=torch.float64)
    """
    state = 0
    for part in (seed, epoch, stream):
        state = _mixed((state + part * _GAMMA + _GAMMA) & _BITS)
    index = index_N.cpu().numpy().astype(np.uint64)
    bits = _mixed(index * np.uint64(_GAMMA) + np.uint64(state))
    return torch.from_numpy((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def _mixed(z: Any) -> Any:
    """Of a whole number, or of an array of ``np.uint64``."""
    z = ((z ^ (z >> 30)) * _FIRST) & _BITS
    z = ((z ^ (z >> 27)) * _SECOND) & _BITS
    return z ^ (z >> 31)

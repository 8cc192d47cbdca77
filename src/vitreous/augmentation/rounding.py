"""Arithmetic that rounds alike wherever in a batch an image lies.

Sums, products and roots do; what a library computes for several numbers at a time (sines, small matrix products) may
round the last few in another way.
"""

import math

import torch
from torch import Tensor

HALF = 0.5  # added before bytes are made, which cuts the fraction off: several times faster than ``round``


def to_bytes(levels: Tensor) -> Tensor:
    """Whole grey levels, fractions cut off; what lies outside 0 .. 255 becomes the nearest inside. Changes ``levels``.

    By way of whole numbers of 32 bits, which is faster than from fractions to bytes at once.

    >>> to_bytes(torch.tensor([-3.0, 7.9, 300.0]))
    tensor([  0,   7, 255], dtype=torch.uint8)
    """
    return levels.clamp_(0, 255).to(torch.int32).to(torch.uint8)


def cos_sin(degrees_N: Tensor) -> tuple[Tensor, Tensor]:
    """Of each angle by itself: N and N, float64."""
    radians = [math.radians(degrees) for degrees in degrees_N.tolist()]
    cos_N, sin_N = ([of(angle) for angle in radians] for of in (math.cos, math.sin))
    return torch.tensor(cos_N, dtype=torch.float64), torch.tensor(sin_N, dtype=torch.float64)

"""Random numbers without a state: a pure function of (seed, epoch, image, stream).

The mixer is SplitMix64's finalizer (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014,
variant 13 of Stafford), in the wrap-around arithmetic of 64-bit integers.
"""

import torch
from torch import Tensor

_GAMMA = -7046029254386353131  # 0x9E3779B97F4A7C15, the golden ratio in 64 bits
_FIRST = -4658895280553007687  # 0xBF58476D1CE4E5B9
_SECOND = -7723592293110705685  # 0x94D049BB133111EB


def uniform(seed: int, epoch: int, index_N: Tensor, stream: int) -> Tensor:
    """One number in [0, 1) for each image: N, float64.

    ``stream`` keeps the draws for different purposes apart.
    """
    key = torch.tensor([seed, epoch, stream], dtype=torch.int64)
    state = torch.zeros(1, dtype=torch.int64)
    for part in key:
        state = _mix(state + part * _GAMMA + _GAMMA)
    bits_N = _mix(state + index_N * _GAMMA)
    return _shift_right(bits_N, 11).double() * 2.0**-53


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift_right(z, 30)) * _FIRST
    z = (z ^ _shift_right(z, 27)) * _SECOND
    return z ^ _shift_right(z, 31)


def _shift_right(z: Tensor, bits: int) -> Tensor:
    """Logical shift: torch's ``>>`` copies the sign bit, which is masked off."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)

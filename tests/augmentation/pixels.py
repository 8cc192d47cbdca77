"""Images for the tests of the augmentation."""

import numpy as np
import torch

from tests.images import picture


def noise(num=5, height=9, width=7, channels=3, seed=0):
    """Random levels: N,H,W,C, uint8."""
    levels = np.random.default_rng(seed).integers(0, 256, (num, height, width, channels), dtype=np.uint8)
    return torch.from_numpy(levels)


def pictures(num=6, height=24, width=31, channels=3):
    """Smooth ones, whose neighbouring pixels differ little: N,H,W,C, uint8."""
    levels = np.stack([picture(height, width, seed) for seed in range(num)])
    return torch.from_numpy(levels[..., :channels].copy())

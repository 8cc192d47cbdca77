"""First weights: repeatable from a seed, and scaled so that signals neither fade nor grow with depth."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, torch's random numbers on the processor follow from the seed; afterwards they go on as if untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def initialise_he(network: nn.Module, *, linear_std: float | None = None) -> None:
    """Normal weights of variance 2 / fan-out for the convolutions, biases 0; other layers keep torch's defaults.

    Torch's defaults are weight 1 and bias 0 for batch norm, uniform within 1 / sqrt(fan-in) for linear layers; those
    have normal weights and biases 0 where ``linear_std`` is given.

    Source: He et al. 2015, "Delving Deep into Rectifiers", eq. 14.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear) and linear_std is not None:
            nn.init.normal_(module.weight, std=linear_std)
            nn.init.zeros_(module.bias)

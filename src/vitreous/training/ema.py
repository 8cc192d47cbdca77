"""The network that is scored and kept: the trained one, or its exponential moving average."""

import copy

import torch
from torch import nn


class Average:
    """A copy of a network whose weights and buffers follow the original's.

    With ``decay`` d each step moves the copy by (1 - d) of the difference; with 0 it is the original whenever it is
    read. The decay is held back early on, min(d, (1 + n) / (10 + n)) at step n, so that the first weights fade.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network)
        self.decay = decay
        ours, theirs = self.network.state_dict(), network.state_dict()
        floating = [name for name, tensor in ours.items() if tensor.is_floating_point()]
        self._ours = [ours[name] for name in floating]
        self._theirs = [theirs[name] for name in floating]
        self._counts = [(ours[name], theirs[name]) for name in ours if name not in floating]

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Move after optimizer step ``step``."""
        if self.decay > 0:
            decay = min(self.decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(self._ours, self._theirs, 1 - decay)

    @torch.no_grad()
    def settle(self) -> nn.Module:
        """The network to score now."""
        if self.decay == 0:
            torch._foreach_copy_(self._ours, self._theirs)
        for ours, theirs in self._counts:
            ours.copy_(theirs)
        return self.network

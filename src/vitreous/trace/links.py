"""How an operation's output depends on one of its inputs, as sets: one of three things, a *link*.

    Axes        along each dimension, which units read which: windows, sums, products, number by number
    Moved       the same numbers in other places: torch itself moves their places around
    Everything  not followed: any number of the output may depend on any of the input, and the set is a bound

Masks are true and false for each number of a tensor; they may have the extent 1 where they are uniform.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from vitreous.trace.shapes import Shape


class Link(Protocol):
    """Between one input of an operation and its output."""

    def back(self, mask: Tensor) -> Tensor:
        """From the numbers of the output to those of the input that they depend on."""

    def forth(self, mask: Tensor) -> Tensor:
        """From the numbers of the input to those of the output that depend on them."""


@dataclass(frozen=True)
class Everything:
    """Any number of the output may depend on any of the input."""

    ins: Shape
    outs: Shape

    def back(self, mask: Tensor) -> Tensor:
        return mask.any().reshape((1,) * len(self.ins))

    def forth(self, mask: Tensor) -> Tensor:
        return mask.any().reshape((1,) * len(self.outs))


class Along(Protocol):
    """What the units along one dimension of the output read along one of the input; masks have it last."""

    def back(self, mask: Tensor) -> Tensor: ...

    def forth(self, mask: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Reads:
    """Unit o reads unit i where ``table[o, i]``."""

    table: Tensor  # float: outs, ins

    def back(self, mask: Tensor) -> Tensor:
        return self._through(mask, self.table)

    def forth(self, mask: Tensor) -> Tensor:
        return self._through(mask, self.table.T)

    def _through(self, mask: Tensor, table: Tensor) -> Tensor:
        return mask.expand(*mask.shape[:-1], table.shape[0]).to(table.dtype) @ table > 0


@dataclass(frozen=True)
class Grouped:
    """Each of the groups reads the whole of its own."""

    groups: int
    ins: int
    outs: int

    def back(self, mask: Tensor) -> Tensor:
        return self._spread(mask, self.ins)

    def forth(self, mask: Tensor) -> Tensor:
        return self._spread(mask, self.outs)

    def _spread(self, mask: Tensor, extent: int) -> Tensor:
        if mask.shape[-1] == 1 or self.groups == 1:
            return mask.any(-1, keepdim=True)
        each = mask.reshape(*mask.shape[:-1], self.groups, -1).any(-1)
        return each.repeat_interleave(extent // self.groups, -1)


@dataclass(frozen=True)
class Axes:
    """For each dimension of the input: the dimension of the output and what its units read, or None.

    A dimension without partner is read whole, and along one of the output without partner all units read the same.
    """

    dims: Sequence[tuple[int, Along | None] | None]
    num_outs: int

    def back(self, mask: Tensor) -> Tensor:
        used = [pair[0] for pair in self.dims if pair is not None]
        free = [dim for dim in range(self.num_outs) if dim not in used]
        mask = mask.any(free) if free else mask
        order = sorted(used)
        mask = mask.permute([order.index(dim) for dim in used])
        for dim, pair in enumerate(self.dims):
            if pair is None:
                mask = mask.unsqueeze(dim)
            elif pair[1] is not None:
                mask = pair[1].back(mask.movedim(dim, -1)).movedim(-1, dim)
        return mask

    def forth(self, mask: Tensor) -> Tensor:
        read = [dim for dim, pair in enumerate(self.dims) if pair is None]
        mask = mask.any(read) if read else mask
        pairs = [pair for pair in self.dims if pair is not None]
        for dim, (_, along) in enumerate(pairs):
            if along is not None:
                mask = along.forth(mask.movedim(dim, -1)).movedim(-1, dim)
        order = sorted(range(len(pairs)), key=lambda n: pairs[n][0])
        mask = mask.permute(order)
        for dim in range(self.num_outs):
            if all(dim != pair[0] for pair in pairs):
                mask = mask.unsqueeze(dim)
        return mask


@dataclass(frozen=True)
class Moved:
    """The same numbers in other places: ``sources`` has for each of the output's the place in the input, or -1."""

    sources: Tensor
    ins: Shape

    def back(self, mask: Tensor) -> Tensor:
        places = self.sources[mask.expand(self.sources.shape)]
        result = torch.zeros(math.prod(self.ins), dtype=torch.bool)
        result[places[places >= 0]] = True
        return result.reshape(self.ins)

    def forth(self, mask: Tensor) -> Tensor:
        given = mask.expand(self.ins).reshape(-1)
        return given[self.sources.clamp(min=0)] & (self.sources >= 0)

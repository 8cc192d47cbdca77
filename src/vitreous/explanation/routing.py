"""Where the gradient of a class's score went in the pools: a maximum gives it to the winner, a mean to everyone alike.

A max pool gives each of its gradients to the one unit that was the largest of the window; the others get nothing, and
the largest of several windows gets the sum. An average pool gives each unit of the window the same part, one over the
divisor, which at the border depends on whether the padding is counted.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from vitreous.errors import UserError
from vitreous.trace.arguments import found
from vitreous.trace.recording import Operation, Recording, Ref
from vitreous.trace.values import Values
from vitreous.trace.windows import arguments_of, windows_of


@dataclass(frozen=True)
class Route:
    """One pool: what came to its output, and what it passed on to its input.

    Arrays are without the batch dimension: those of the input are C,H,W, or C,L where the pool has one axis. The input
    may have got more, by other ways than this pool.
    """

    kind: Literal["max", "average"]
    operation: int  # its number in the recording
    layer: str
    call: int
    source: str  # the layer that made its input
    source_operation: int
    source_call: int
    winners: Tensor | None  # of a max pool, like its output: y * W + x of the winner; the first of equals
    divisors: Tensor | None  # of an average pool, H,W of its output: what the sum of the window is divided by
    wins: Tensor  # like the input: windows that it is the largest of; of an average pool, those that it lies in
    arrived: Tensor  # like the output: the gradient that came
    routed: Tensor  # like the input: the gradient passed on

    @property
    def win_map(self) -> Tensor:
        """How often the units of a place won, all channels together."""
        return self.wins.sum(dim=0)

    @property
    def gradient_map(self) -> Tensor:
        """How much gradient came to a place: the absolute values of all channels together."""
        return self.routed.abs().sum(dim=0)

    @property
    def share_without_wins(self) -> float:
        """Of the input's units: those that are the largest of no window, or lie in none."""
        return float((self.wins == 0).double().mean())

    @property
    def share_without_gradient(self) -> float:
        """Of the input's units: those that got nothing, because they did not win or because nothing came."""
        return float((self.routed == 0).double().mean())

    @property
    def strongest(self) -> dict[str, Any] | None:
        """The address of the input's unit that got the most; None if none got anything."""
        strength = self.routed.abs()
        if not strength.any():
            return None
        at = torch.unravel_index(strength.argmax(), strength.shape)
        return {"layer": self.source, "call": self.source_call, "at": [int(each) for each in at]}

    def to_json(self) -> dict[str, Any]:
        """In brief: shapes and shares, without the arrays."""
        brief: dict[str, Any] = {
            "layer": self.layer,
            "call": self.call,
            "kind": self.kind,
            "input": list(self.routed.shape),
            "output": list(self.arrived.shape),
            "num_units": self.routed.numel(),
            "share_without_wins": self.share_without_wins,
            "share_without_gradient": self.share_without_gradient,
            "strongest": self.strongest,
        }
        if self.divisors is not None:
            brief["divisor"] = {"smallest": int(self.divisors.min()), "largest": int(self.divisors.max())}
        return brief


def routes(values: Values, target: int) -> list[Route]:
    """The ways that the gradient of one class's score took through the pools, in running order.

    Args:
        values: of one image, recorded with gradients.
        target: the class's number.

    Raises:
        UserError: there is no such class, or the values were recorded without gradients.
    """
    gradients = values.gradients(class_score(values.result, target))
    return [_route(values, pool, gradients) for pool in _pools(values.recording)]


def class_score(result: Tensor, target: int) -> Tensor:
    """What a network says of one class of one image: a number with a graph; the sum over the places of a map.

    Raises:
        UserError: there is no such class, or the result has no graph.
    """
    if result.dim() < 2 or len(result) != 1:
        raise UserError(f"the network gives {tuple(result.shape)}; a class's score is read from (1, classes).")
    if not 0 <= target < result.shape[1]:
        raise UserError(f"there is no class {target}; the network has {result.shape[1]}, from 0 on.")
    if not result.requires_grad:
        raise UserError("the values have no gradients; record them with with_gradients=True.")
    return result[0, target].sum()


# --- one pool ---------------------------------------------------------------------------------------------------------

_WINDOWED = {f"{kind}_pool{n}d" for n in (1, 2, 3) for kind in ("max", "avg")}
_OTHERS = {
    **{
        f"adaptive_{kind}_pool{n}d": ("input", "output_size", "return_indices")
        for n in (1, 2, 3)
        for kind in ("max", "avg")
    },
    "mean": ("input", "dim", "keepdim"),
}


class _Pool(NamedTuple):
    """A pool, as it can be run again on other numbers."""

    number: int  # of its operation
    operation: Operation
    function: str  # as torch.nn.functional has it; "mean" as torch has it
    source: Ref
    settings: Mapping[str, Any]  # its arguments but the input

    def run(self, x: Tensor, **others: Any) -> Any:
        home = torch if self.function == "mean" else functional
        return getattr(home, self.function)(x, **self.settings, **others)


def _pools(recording: Recording) -> Iterator[_Pool]:
    for number, operation in enumerate(recording.operations):
        function = operation.function.removesuffix("_with_indices")
        if function not in _WINDOWED and function not in _OTHERS:
            continue
        settings = _arguments(operation, function)
        source = settings.pop("input")
        settings.pop("return_indices", None)
        pool = _Pool(number, operation, function, source, settings)
        if source.operation is not None and _is_of_places(pool):
            yield pool


def _arguments(operation: Operation, function: str) -> dict[str, Any]:
    if function in _WINDOWED:
        return arguments_of(operation)
    return {**dict(zip(_OTHERS[function], operation.args, strict=False)), **operation.kwargs}


def _is_of_places(pool: _Pool) -> bool:
    """A batch of maps comes in, and a mean is one over their places."""
    rank = len(pool.source.shape)
    if pool.function != "mean":
        return rank == int(pool.function[-2]) + 2
    dims = list(found(int, (pool.settings.get("dim"), pool.settings.get("axis"))))
    return rank == 4 and bool(dims) and all(dim % rank >= 2 for dim in dims)


def _route(values: Values, pool: _Pool, gradients: Mapping[tuple[int, int], Tensor]) -> Route:
    names, operations = values.recording.names, values.recording.operations
    made, x = values.outputs[pool.number][0], values.of(pool.source)
    arrived = gradients.get((pool.number, 0), torch.zeros_like(made))
    winners: Tensor | None = None
    divisors: Tensor | None = None
    if "max" in pool.function:
        winners = pool.run(x, return_indices=True)[1]
        wins, routed = _to_winners(torch.ones_like(made), winners, x), _to_winners(arrived, winners, x)
    else:
        divisors = _divisors(pool, made)
        wins, routed = _to_all(divisors.to(made).expand_as(made), pool, x), _to_all(arrived, pool, x)
    assert pool.source.operation is not None
    return Route(
        kind="average" if winners is None else "max",
        operation=pool.number,
        layer=names[pool.number],
        call=pool.operation.call,
        source=names[pool.source.operation],
        source_operation=pool.source.operation,
        source_call=operations[pool.source.operation].call,
        winners=None if winners is None else winners[0],
        divisors=divisors,
        wins=wins[0].round().long(),
        arrived=arrived[0],
        routed=routed[0],
    )


def _to_winners(gradient: Tensor, winners: Tensor, x: Tensor) -> Tensor:
    """All of it to one unit of each window."""
    planes = torch.zeros_like(x).flatten(2)
    return planes.scatter_add(2, winners.flatten(2), gradient.flatten(2)).reshape(x.shape)


def _to_all(gradient: Tensor, pool: _Pool, x: Tensor) -> Tensor:
    """An even part to every unit of each window; a mean is linear, so what comes in plays no part."""
    with torch.enable_grad():
        zeros = torch.zeros_like(x, requires_grad=True)
        (passed,) = torch.autograd.grad(pool.run(zeros), zeros, gradient)
    return passed


def _divisors(pool: _Pool, made: Tensor) -> Tensor:
    """Of each window of an average pool: the units in it over their mean where all are 1, whatever the settings."""
    if pool.function == "mean":
        return torch.full(made.shape[2:], math.prod(pool.source.shape) // made.numel())
    ones = torch.ones(1, 1, *pool.source.shape[2:], dtype=torch.double)
    units = reduce(lambda rest, axis: rest[..., None] * axis, map(torch.tensor, _num_units(pool)))
    return torch.as_tensor(units / pool.run(ones)[0, 0]).round().long()


def _num_units(pool: _Pool) -> list[list[int]]:
    """Along each axis: how many of the input's units lie in each window, without padding."""
    if pool.function not in _WINDOWED:  # torch.nn.AdaptiveAvgPool2d: from floor(o n / m) to ceil((o + 1) n / m)
        sizes = zip(pool.source.shape[2:], pool.operation.outputs[0][2:], strict=True)
        return [[-(-(o + 1) * n // m) - o * n // m for o in range(m)] for n, m in sizes]
    return [
        [
            sum(0 <= unit * axis.stride - axis.padding[0] + tap < axis.size for tap in range(axis.kernel))
            for unit in range(axis.units)
        ]
        for axis in windows_of(pool.operation)
    ]

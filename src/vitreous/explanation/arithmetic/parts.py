"""What a rule is asked and what it answers: one number of one operation, and the numbers that it was made of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vitreous.errors import UserError
from vitreous.trace.arguments import found
from vitreous.trace.recording import Operation, Ref
from vitreous.trace.values import Values

Index = tuple[int, ...]  # into a tensor, the dimension of the batch included
Numbers = NDArray[np.float64]
Places = NDArray[np.int64]  # T,D: an index for each of T numbers


@dataclass(frozen=True, slots=True)
class Asked:
    """One number of an operation's output."""

    values: Values
    number: int  # of the operation
    index: Index
    output: int = 0  # which, where the operation gives several: of a chunk, of a split

    @property
    def operation(self) -> Operation:
        """The operation itself."""
        return self.values.recording.operations[self.number]

    @property
    def made(self) -> Tensor:
        """The output that the number stands in."""
        return self.values.outputs[self.number][self.output]

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """As the operation was given it, by its place or its name."""
        given = self.operation.args[place] if len(self.operation.args) > place else default
        return self.operation.kwargs.get(name, given)

    def tensors(self) -> list[Ref]:
        """Every tensor among the arguments, in order."""
        return list(found(Ref, (self.operation.args, dict(self.operation.kwargs))))

    def of(self, ref: Ref) -> Tensor:
        """The numbers of an argument."""
        return self.values.of(ref)

    def numbers(self, ref: Ref, places: Places) -> Numbers:
        """Some of them, in float64."""
        picked = self.of(ref)[tuple(places.T)]
        return np.asarray(picked.double().cpu().numpy()).reshape(len(places))


@dataclass(frozen=True, slots=True)
class Part:
    """Numbers of one tensor, T of them, each with what it is multiplied by.

    ``weights`` are NaN where the operation does not multiply; then ``products`` say what each number contributes.
    """

    source: Ref
    places: Places
    activations: Numbers
    weights: Numbers
    is_padding: NDArray[np.bool_]
    products: Numbers
    weight_source: Ref | None = None  # where the weights are numbers of another operation, as in an attention
    weight_places: Places | None = None


@dataclass(frozen=True, slots=True)
class Parts:
    """What a number was made of; ``value`` is what float64 makes of it, if not bias + the sum of the products."""

    parts: Sequence[Part]
    how: str  # in words, with the numbers that all terms share
    bias: float = 0.0
    value: float | None = None
    steps: Sequence[str] = field(default=())
    scale: float = 0.0  # the largest number that was rounded on the way, where the products do not show it


Rule = Callable[[Asked], Parts]
RULES: dict[str, Rule] = {}


class NotFollowed(UserError):
    """An operation, or a way to call it, of which no rule is known: nothing is guessed."""


def explains(*functions: str) -> Callable[[Rule], Rule]:
    """Make a function the rule of these torch functions."""

    def register(rule: Rule) -> Rule:
        for function in functions:
            assert function not in RULES, function
            RULES[function] = rule
        return rule

    return register


def for_axes(*functions: str) -> list[str]:
    """Names for one, two and three axes.

    >>> for_axes("conv{}d")
    ['conv1d', 'conv2d', 'conv3d']
    """
    return [function.format(num_axes) for function in functions for num_axes in (1, 2, 3)]


def part(
    asked: Asked,
    source: Ref,
    places: Places,
    weights: Numbers | float,
    is_padding: NDArray[np.bool_] | None = None,
    products: Numbers | None = None,
    weight_source: Ref | None = None,
    weight_places: Places | None = None,
) -> Part:
    """Numbers of a tensor with their weights; those on padding are zeros and are not looked up.

    The weights have addresses where another operation made them.
    """
    padding = np.zeros(len(places), bool) if is_padding is None else is_padding
    activations = np.zeros(len(places))
    activations[~padding] = asked.numbers(source, places[~padding])
    spread = np.broadcast_to(np.asarray(weights, np.float64), (len(places),)).copy()
    made = spread * activations if products is None else products
    if weight_source is None or weight_source.operation is None:
        return Part(source, places, activations, spread, padding, made)
    return Part(source, places, activations, spread, padding, made, weight_source, weight_places)


def chosen(asked: Asked, source: Ref, places: Places, best: int) -> Part:
    """Numbers of which one counts once and the others not at all, not even where they are infinite."""
    weights = np.zeros(len(places))
    weights[best] = 1
    activations = asked.numbers(source, places)
    return part(asked, source, places, weights, products=np.where(weights == 1, activations, 0.0))


def grid(*axes: Sequence[int] | NDArray[np.int64]) -> Places:
    """All combinations, the last axis running fastest.

    >>> grid([0], [1, 2]).tolist()
    [[0, 1], [0, 2]]
    """
    return np.stack([each.ravel() for each in np.meshgrid(*axes, indexing="ij")], axis=1).astype(np.int64)


def one(index: Sequence[int]) -> Places:
    """A single place."""
    return np.array([list(index)], np.int64)

"""What each torch function does to the sight of units: one family of functions after another.

    parts.py      what a rule is given and what it answers
    windows.py    convolution, pooling, padding, windows side by side
    larger.py     resampling, shuffling, repeating
    wholes.py     dense layers, matrix products, means, normalisation
    numbers.py    activations, sums and products of tensors
    moves.py      another shape or order, parts, several tensors together

A rule is called as the function was, with a Seen in place of each tensor, and gives the sights of its output. Functions
of which nothing is written here are unknown, and so is what follows from them: never guessed, never left out. A new
function joins its family's decorator, or gets a rule of its own.
"""

from collections.abc import Callable, Sequence
from typing import Any

from vitreous.trace.arguments import found, replaced
from vitreous.trace.rules import larger, moves, numbers, wholes, windows
from vitreous.trace.rules.numbers import ELEMENTWISE, FRESH
from vitreous.trace.rules.parts import RULES, UNFORESEEN, NotFollowed, Seen, Sights
from vitreous.trace.shapes import Shape
from vitreous.trace.sight import UNKNOWN

__all__ = ["ELEMENTWISE", "FRESH", "RULES", "UNFORESEEN", "NotFollowed", "Seen", "Sights", "plain", "rule_for"]

_FAMILIES = (larger, moves, numbers, wholes, windows)  # imported for the rules that they bring
Rule = Callable[[Sequence[Shape], tuple[Any, ...], dict[str, Any]], list[Seen]]


def rule_for(function: str) -> Rule:
    """The rule for a torch function: (shapes of the outputs, args, kwargs) -> the outputs, seen.

    The same rule tells what units see and where they stand. For places, what stands nowhere is as good as a constant.
    """
    rule = RULES.get(plain(function), _not_followed)

    def apply(outputs: Sequence[Shape], args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Seen]:
        num_axes = max((len(each.axes) for each in found(Seen, (args, kwargs))), default=0)
        if num_axes == 0:
            return [Seen(shape) for shape in outputs]
        unknown = (UNKNOWN,) * num_axes
        axes = _followed(rule, outputs, (args, kwargs), unknown)
        places = _followed(rule, outputs, replaced(Seen, lambda each: each.standing, (args, kwargs)), unknown)
        return [Seen(*each) for each in zip(outputs, axes, places, strict=True)]

    return apply


def _followed(rule: Callable[..., Sights], outputs: Sequence[Shape], given: Any, unknown: Sights) -> list[Sights]:
    args, kwargs = given
    try:
        return [_checked(rule(shape, *args, **kwargs), shape, unknown) for shape in outputs]
    except UNFORESEEN:
        return [unknown for _ in outputs]


def _not_followed(out: Shape, /, *_: Any, **__: Any) -> Sights:
    raise NotFollowed


def _checked(sights: Sights, shape: Shape, unknown: Sights) -> Sights:
    """A rule that did not foresee its arguments may give what is no sight of this tensor."""
    fits = len(sights) in (0, len(unknown)) and all(each.dim is None or 0 <= each.dim < len(shape) for each in sights)
    return sights if fits else unknown


def plain(function: str) -> str:
    """The name without what marks it as in place or as an operator: relu_ -> relu, __iadd__ -> iadd."""
    return function.strip("_")

"""What a rule is given, what it answers, and how it is found by the name of its function."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from vitreous.errors import ShapeError
from vitreous.trace.shapes import Shape
from vitreous.trace.sight import Sight, join

Sights = tuple[Sight, ...]
RULES: dict[str, Callable[..., Sights]] = {}


@dataclass(frozen=True, slots=True)
class Seen:
    """A tensor's shape, and how its units see each axis of the image; no axes where the image has no part in it."""

    shape: Shape
    axes: Sights = ()
    places: Sights = ()  # where the units stand along each axis; what does not step stands nowhere

    @property
    def standing(self) -> "Seen":
        """The tensor with where its units stand for what they see; a constant if they stand nowhere."""
        return Seen(self.shape, self.places if any(place.is_stepping for place in self.places) else ())


class NotFollowed(Exception):
    """A rule meets a case that it does not cover."""


# What a rule trips over when a function is called in a way that it does not foresee: by other arguments, or other kinds
# of them. It is not followed then; anything else is a mistake of the rule's and is not hidden.
UNFORESEEN = (NotFollowed, ShapeError, TypeError, ValueError, AttributeError, IndexError, RuntimeError)


def is_for_axes(*functions: str) -> Callable[[Callable[..., Sights]], Callable[..., Sights]]:
    """For functions on 1, 2 and 3 axes; "conv{}d" stands for conv1d, conv2d and conv3d."""

    def register(rule: Callable[..., Sights]) -> Callable[..., Sights]:
        for num_axes in (1, 2, 3):
            is_for(*(function.format(num_axes) for function in functions))(partial(rule, num_axes))
        return rule

    return register


def is_for(*functions: str) -> Callable[[Callable[..., Sights]], Callable[..., Sights]]:
    """The decorated rule is that of these functions, by their plain names."""

    def register(rule: Callable[..., Sights]) -> Callable[..., Sights]:
        for function in functions:
            assert function not in RULES, function
            RULES[function] = rule
        return rule

    return register


def require_constant(*tensors: Seen | None) -> None:
    """Check that none of them depends on the image.

    Raises:
        NotFollowed: a weight was made from it.
    """
    if any(tensor is not None and tensor.axes for tensor in tensors):
        raise NotFollowed


def stepped_dims(given: Seen) -> set[int | None]:
    """The dimensions along which units step over the image."""
    return {sight.dim for sight in given.axes}


def joined(out: Shape, /, given: Sequence[Seen], aligned: bool = True) -> Sights:
    """Axis by axis, what a number of the output sees through all of these; shapes are aligned at the right."""
    placed = [_broadcast(each, out) if aligned else each.axes for each in given if each.axes]
    return tuple(join(sights, out) for sights in zip(*placed, strict=True))


def _broadcast(given: Seen, out: Shape) -> Sights:
    shift = len(out) - len(given.shape)

    def through(sight: Sight) -> Sight:
        if sight.dim is None:
            return sight
        is_repeated = given.shape[sight.dim] == 1 and out[sight.dim + shift] != 1
        return sight.whole(1) if is_repeated else sight.moved(sight.dim + shift)

    return tuple(through(sight) for sight in given.axes)


def cropped(sight: Sight) -> Sight:
    """Padding that follows stands where units were cut off, so that later windows may hold less than they seem to."""
    return replace(sight, is_exact=False) if sight.is_known else sight

"""Why a forward failed, and which image would fit: said in layers and sizes, found by trying.

torch says "mat1 and mat2 shapes cannot be multiplied (1x576 and 400x120)". What one wants to know is which layer that
was, how the 576 came about, and that the network takes 32x32 pixels.
"""

import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

Shape = tuple[int, ...]
SECONDS = 3.0  # for trying
LARGEST = 1024  # pixels a side
_USUAL = frozenset((*range(8, 513, 8), 14, 20, 28, 227, 299, 331, 640, 768, 1024))
_NUMBER_OF_AXES = {f"conv{end}{n}d": n for n in (1, 2, 3) for end in ("", "_transpose")}
_WINDOWS = frozenset(
    (
        *_NUMBER_OF_AXES,
        *(f"{kind}_pool{n}d{end}" for kind in ("max", "avg") for n in (1, 2, 3) for end in ("", "_with_indices")),
        "pad",
    )
)
SHAPED = _WINDOWS | {"linear", "matmul", "cat", "add", "mul", "sub", "batch_norm", "view", "reshape", "iadd", "stack"}


@dataclass(frozen=True)
class Failure:
    """What was being called when a forward failed."""

    path: str  # of the module; "" for the network's own forward
    function: str  # "" for the module's own code
    shapes: tuple[Shape, ...]  # of the tensors that it was given
    groups: int
    is_of_image: bool  # the first of them is the image itself
    source: Shape | None  # what the first of them was, before it was flattened
    is_of_shapes: bool  # nothing but shapes can have been the reason
    said: str  # by torch, or whoever raised

    @property
    def wanted_channels(self) -> int | None:
        """Of a convolution or a normalisation that was given another number; None if that is not what failed."""
        channels = self._channels
        return None if channels is None or channels[0] == channels[1] else channels[0]

    @property
    def wanted_axes(self) -> int | None:
        """Of a convolution that was given an input with more axes or fewer."""
        axes = _NUMBER_OF_AXES.get(self.function)
        return None if axes is None or not self.shapes or len(self.shapes[0]) == axes + 2 else axes

    @property
    def features(self) -> tuple[int, int] | None:
        """Wanted and given, of a dense layer (or a product with a constant) for which they differ."""
        if self.function not in ("linear", "matmul") or len(self.shapes) < 2 or not all(self.shapes[:2]):
            return None
        if len(self.shapes[1]) != 2:  # a product of two maps
            return None
        wanted = self.shapes[1][1 if self.function == "linear" else 0]
        given = self.shapes[0][-1]
        return None if wanted == given else (wanted, given)

    @property
    def is_too_small(self) -> bool:
        """A window that is longer than what it is put on, as far as one can see: a larger image may fit."""
        return self.function in _WINDOWS and self.wanted_channels is None and self.wanted_axes is None

    @property
    def _channels(self) -> tuple[int, int] | None:
        if not self.shapes or len(self.shapes[0]) < 2:
            return None
        if self.function == "batch_norm" and len(self.shapes) > 1:
            return self.shapes[1][0], self.shapes[0][1]
        if self.function in _NUMBER_OF_AXES and len(self.shapes) > 1 and self.wanted_axes is None:
            weight = self.shapes[1]
            return (weight[0] if "transpose" in self.function else weight[1] * self.groups), self.shapes[0][1]
        return None


def described(failure: Failure, image: Shape, attempt: Callable[[Shape], Failure | None]) -> str:
    """The failure in a sentence or two, the last of them about what would fit.

    Args:
        attempt: runs the network on an image of this shape: how that fails, or None if it does not.
    """
    place = failure.path or "its own forward"
    met = f" ({failure.function} of {' and '.join(map(times, failure.shapes))})" if failure.shapes else ""
    way_out = _way_out(failure, image, attempt)
    return f"the network cannot take an image of {times(image)}: {_trouble(failure, place, image)}{met}; {way_out}."


def _trouble(failure: Failure, place: str, image: Shape) -> str:
    if failure.wanted_axes is not None:
        given = len(failure.shapes[0]) - 2
        return f"{place} is a convolution along {_axes(failure.wanted_axes)} and is given {_axes(given)}"
    if failure.wanted_channels is not None:
        given = failure.shapes[0][1]
        whose = "the image has" if failure.is_of_image else "is given"
        return f"{place} takes {_plural(failure.wanted_channels, 'channel')}, {whose} {given}"
    if failure.features is not None:
        wanted, given = failure.features
        source = failure.source or failure.shapes[0][1:]
        product = f" ({' x '.join(map(str, source))})" if len(source) > 1 and math.prod(source) == given else ""
        return f"{place} wants {_plural(wanted, 'feature')} but is given {given}{product}"
    if failure.function == "embedding":
        return f"{place} looks up whole numbers, tokens of a text say, and is given an image"
    if failure.is_too_small and re.search("too small|greater than actual|should be less than", failure.said):
        return f"{place} is given a map of {times(failure.shapes[0][2:])}, too small for its windows"
    return f"{place} failed: {failure.said}"


def _way_out(failure: Failure, image: Shape, attempt: Callable[[Shape], Failure | None]) -> str:
    if failure.function == "embedding":
        return "only a network that takes an image can be traced"
    if failure.features and failure.source is None and failure.features[0] == math.prod(failure.shapes[0][1:]):
        return "flatten what that layer is given, with nn.Flatten() before it"
    search = _Search(attempt, time.monotonic() + SECONDS)
    found = search.fitting(image, failure)
    if found == image:
        return "an image of zeros of that shape does pass; see to the numbers that it is given, and their kind"
    if found is not None:
        at_least = " at least" if failure.is_too_small and found[0] == image[0] else ""
        return f"the network takes{at_least} {times(found)}"
    if failure.is_of_image and failure.wanted_channels:
        return f"give it {times((failure.wanted_channels, *image[1:]))}"
    sides = [shape[-1] for shape in search.tried] or [image[-1]]
    reason = "its layers do not fit each other" if failure.wanted_channels or failure.features else "see to that layer"
    return f"no image tried fits, {min(sides)} to {max(sides)} pixels a side; {reason}"


class _Search:
    """Images that were tried, until the time is over."""

    def __init__(self, attempt: Callable[[Shape], Failure | None], deadline: float) -> None:
        self._attempt = attempt
        self._deadline = deadline
        self.tried: dict[Shape, Failure | None] = {}

    def fails(self, image: Shape) -> Failure | None:
        if image not in self.tried:
            if time.monotonic() > self._deadline:
                raise TimeoutError
            self.tried[image] = self._attempt(image)
        return self.tried[image]

    def fitting(self, image: Shape, failure: Failure) -> Shape | None:
        try:
            return self._fitting(image, failure)
        except TimeoutError:
            return next((image for image, failure in self.tried.items() if failure is None), None)

    def _fitting(self, image: Shape, failure: Failure) -> Shape | None:
        for start in self._starts(image, failure):
            now = self.fails(start)
            if now is None:
                return start
            sizes = self._by_features(start, now) if now.features else self._larger(start) if now.is_too_small else None
            found = next((each for each in sizes or self._near(start) if self.fails(each) is None), None)
            if found is not None:
                return found
        return None

    def _starts(self, image: Shape, failure: Failure) -> Iterator[Shape]:
        """Images with the axes and the channels that are wanted; with others than are given last of all."""
        axes = failure.wanted_axes if failure.is_of_image and failure.wanted_axes else len(image) - 1
        sides = image[1:] if axes == len(image) - 1 else (image[-1],) * axes
        start = image[0], *sides
        now = self.fails(start) if start != image else failure
        if now is not None and now.is_of_image and now.wanted_channels:
            yield now.wanted_channels, *sides
            return
        yield start
        yield from ((channels, *sides) for channels in (1, 3) if channels != image[0])

    def _by_features(self, image: Shape, failure: Failure) -> Iterator[Shape]:
        """The smallest square for which the dense layer is given as much as it wants: that grows with the side."""

        def is_enough(side: int) -> bool:
            now = self.fails(_square(image, side))
            if now is None or now.features is None or now.path != failure.path:
                return now is None or not now.is_too_small
            return now.features[1] >= now.features[0]

        yield _square(image, _first(is_enough))

    def _larger(self, image: Shape) -> Iterator[Shape]:
        """The smallest square that no window is too long for."""

        def is_enough(side: int) -> bool:
            now = self.fails(_square(image, side))
            return now is None or not now.is_too_small

        smallest = _square(image, _first(is_enough))
        now = self.fails(smallest)
        if now is not None and now.features:
            yield from self._by_features(smallest, now)
        else:
            yield smallest
            yield from self._near(smallest)

    def _near(self, image: Shape) -> Iterator[Shape]:
        """Squares of usual sides, and of those a little shorter or longer, the nearest first, even ones preferred."""
        side = image[-1]
        sides = {*_USUAL, *range(max(1, side - 4), side + 5), *(-(-side // step) * step for step in (8, 16, 32, 64))}
        for each in sorted(sides, key=lambda other: abs(math.log(other / side)) + (other % 8 > 0) / 16):
            yield _square(image, each)


def _first(holds: Callable[[int], bool]) -> int:
    """The smallest side for which something holds that holds for all larger ones."""
    low, high = 0, 1
    while high < LARGEST and not holds(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _square(image: Shape, side: int) -> Shape:
    return image[0], *(side for _ in image[1:])


def times(shape: Sequence[int]) -> str:
    """A shape as people write it: 3x32x32."""
    return "x".join(map(str, shape)) or "one number"


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _axes(number: int) -> str:
    return {0: "no axis", 1: "one axis", 2: "two axes", 3: "three axes"}.get(number, f"{number} axes")

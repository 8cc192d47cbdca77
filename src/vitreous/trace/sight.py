"""How the units of a tensor see the image along one axis, and what layers do to that.

Three ways: the units *step* over the image in equal steps along one dimension of the tensor; they lie *scattered* along
one dimension, each seeing some part of the window (a flattened map); or all see the *same* window (after global
pooling). And it may be unknown, which stays unknown.

What a unit sees is not where it stands: behind a gate, x * g(mean(x)), each unit sees the whole image and still lies in
its place. Where units stand goes through the same layers as a sight of its own, for which only what steps counts.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from vitreous.geometry import Padding, Pixels, ReceptiveField, merge, whole


@dataclass(frozen=True, slots=True)
class Sight:
    """Along one axis of the image. Of scattered units and of those that see the same, ``field`` is the whole window."""

    field: ReceptiveField | None  # None: unknown
    dim: int | None = None  # of the tensor, along which the units differ; None: they do not
    is_scattered: bool = False
    is_exact: bool = True  # False: no unit sees more than this, some may see less
    is_mixed: bool = False  # the channels see different things, and ``field`` is what they see together
    together: ReceptiveField | None = None  # of units that are not exact: what all see, if that is known exactly
    is_place: bool = False  # it tells where the units stand, if it steps: their windows, were there no gates

    @property
    def is_known(self) -> bool:
        return self.field is not None

    @property
    def is_stepping(self) -> bool:
        return self.field is not None and self.dim is not None and not self.is_scattered

    def slide(self, kernel: int, stride: int = 1, padding: Padding = 0, dilation: int = 1) -> "Sight":
        """Through windows that move along this dimension."""
        if self.field is None or self.dim is None or (kernel == stride == 1 and padding in (0, (0, 0))):
            return self
        if self.is_scattered:  # a few of the units, who knows which
            return Sight(self.field, is_exact=False)
        return replace(self, field=self.field.through(kernel, stride, padding, dilation), together=None)

    def resampled(self, ratio: Fraction, taps: Callable[[int], Sequence[int]]) -> "Sight":
        """Through windows that move by a fraction of a unit: ``taps(o)`` are the units read for the new unit o.

        After ``ratio.denominator`` new units all repeats itself. Where their windows differ, the field is the hull.
        """
        if self.field is None or self.dim is None:
            return self
        if self.is_scattered:
            return Sight(self.field, is_exact=False)
        read = [(new * ratio, taps(new)) for new in range(ratio.denominator)]
        nears = {min(units) - place for place, units in read if units}
        fars = {max(units) - place for place, units in read if units}
        if not nears:
            return UNKNOWN
        field = ReceptiveField(
            size=whole(self.field.size + (max(fars) - min(nears)) * self.field.jump),
            jump=whole(self.field.jump * ratio),
            start=whole(self.field.start + min(nears) * self.field.jump),
        )
        is_even = len(nears) == len(fars) == 1 and all(units for _, units in read)
        return replace(self, field=field, is_exact=self.is_exact and is_even, together=None)

    def whole(self, extent: int) -> "Sight":
        """Through an operation that reads all ``extent`` units along this dimension."""
        if self.field is None or self.dim is None:
            return self
        return Sight(window(self, extent), is_exact=self._is_exact_together, is_mixed=self.is_mixed)

    def scattered(self, extent: int, dim: int) -> "Sight":
        """The units in another order, or among others, along a dimension of the new tensor."""
        if self.field is None or self.dim is None:
            return self
        return replace(
            self,
            field=window(self, extent),
            dim=dim,
            is_scattered=True,
            is_exact=self._is_exact_together,
            together=None,
        )

    def some(self, extent: int) -> "Sight":
        """Units of which it is not followed what they see: not more than all together."""
        return self if self.dim is None else replace(self.whole(extent), is_exact=False)

    def parted(self) -> "Sight":
        """Some of the channels: where they see different things, which of it is not followed."""
        return replace(self, is_exact=False, is_mixed=False, together=None) if self.is_mixed else self

    def blended(self) -> "Sight":
        """Every channel of the result reads every channel."""
        return replace(self, is_mixed=False) if self.is_mixed else self

    def moved(self, dim: int) -> "Sight":
        """The same units along a dimension of another number."""
        return self if self.dim is None else replace(self, dim=dim)

    @property
    def _is_exact_together(self) -> bool:
        return self.is_exact or self.together is not None


UNKNOWN = Sight(None)


def window(sight: Sight, extent: int) -> ReceptiveField:
    """From the first pixel that any of the units sees to the last."""
    assert sight.field is not None
    if sight.together is not None:
        return sight.together
    if sight.is_stepping:
        return ReceptiveField(sight.field.through(extent).size, 1, sight.field.start)
    return sight.field


def join(sights: Sequence[Sight], extents: Sequence[int]) -> Sight:
    """Units that each depend on one unit of every branch: a sum, a product, a concatenation.

    ``extents`` is the shape of the joined tensor, of whose dimensions the sights speak. Of places only those that step
    count: what stands nowhere on the image does not move them.
    """
    places = [sight for sight in sights if sight.is_place and sight.is_stepping]
    if places:
        return replace(_joined(places, extents), is_place=True)
    if len(set(sights)) == 1:
        return sights[0]
    joined = _joined([sight.blended() for sight in sights], extents)
    mixed = [sight for sight in sights if sight.is_mixed]
    is_covered = any(not sight.is_mixed and sight.field == joined.field for sight in sights)
    return replace(joined, is_mixed=True) if mixed and joined.is_known and not is_covered else joined


def _joined(sights: Sequence[Sight], extents: Sequence[int]) -> Sight:
    if len(set(sights)) == 1:
        return sights[0]
    if not all(sight.is_known for sight in sights):
        return UNKNOWN
    is_exact = all(sight.is_exact for sight in sights)
    dims = {sight.dim for sight in sights if sight.dim is not None}
    if len(dims) > 1:
        return UNKNOWN
    dim = next(iter(dims), None)
    extent = 1 if dim is None else extents[dim]
    windows = [window(sight, extent) for sight in sights]
    union = merge(windows).field
    differing = [sight for sight in sights if sight.dim is not None]
    if any(sight.is_scattered for sight in differing):
        return Sight(union, dim, is_scattered=True, is_exact=is_exact)
    if len(differing) == len(sights) and len(_jumps(sights)) == 1:
        fields = [sight.field for sight in sights if sight.field is not None]
        return Sight(merge(fields).field, dim, is_exact=is_exact)
    if extent == 1:
        return Sight(union, is_exact=is_exact)
    if len(_jumps(differing)) > 1:
        return _diverging(sights, dim, extent)
    seen_by_all = [each for each, sight in zip(windows, sights, strict=True) if sight.dim is None]
    is_inside = union in seen_by_all  # where all see as much as that, what one unit sees besides adds nothing
    return Sight(union, is_exact=is_exact and is_inside)


def _diverging(sights: Sequence[Sight], dim: int | None, extent: int) -> Sight:
    """Branches that step over the image in unequal steps: at one end of the map their windows lie further apart.

    A window that holds them at both ends holds them in between; of the steps, the one that makes it narrowest is taken.
    """

    def ends(sight: Sight, unit: int) -> tuple[Pixels, Pixels]:
        assert sight.field is not None
        first = sight.field.start + (unit * sight.field.jump if sight.is_stepping else 0)
        return first, first + sight.field.size

    def hull(jump: Pixels) -> ReceptiveField:
        last = extent - 1
        nears = [ends(sight, unit)[0] - unit * jump for sight in sights for unit in (0, last)]
        fars = [ends(sight, unit)[1] - unit * jump for sight in sights for unit in (0, last)]
        return ReceptiveField(whole(max(fars) - min(nears)), jump, min(nears))

    jumps = _jumps(sight for sight in sights if sight.is_stepping)
    return Sight(min((hull(jump) for jump in sorted(jumps)), key=lambda field: field.size), dim, is_exact=False)


def _jumps(sights: Iterable[Sight]) -> set[Pixels]:
    return {sight.field.jump for sight in sights if sight.field is not None}

"""How the units of a tensor see the image along one axis, and what layers do to that.

Three ways: the units *step* over the image in equal steps along one dimension of the tensor; they lie *scattered* along
one dimension, each seeing some part of the window (a flattened map); or all see the *same* window (after global
pooling). And it may be unknown, which stays unknown.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from vitreous.geometry import Padding, ReceptiveField, merge


@dataclass(frozen=True, slots=True)
class Sight:
    """Along one axis of the image. Of scattered units and of those that see the same, ``field`` is the whole window."""

    field: ReceptiveField | None  # None: unknown
    dim: int | None = None  # of the tensor, along which the units differ; None: they do not
    is_scattered: bool = False
    is_exact: bool = True  # False: no unit sees more than this, some may see less
    is_mixed: bool = False  # the channels see different things, and ``field`` is what they see together

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
        return replace(self, field=self.field.through(kernel, stride, padding, dilation))

    def whole(self, extent: int) -> "Sight":
        """Through an operation that reads all ``extent`` units along this dimension."""
        if self.field is None or self.dim is None:
            return self
        return Sight(window(self, extent), is_exact=self.is_exact, is_mixed=self.is_mixed)

    def scattered(self, extent: int, dim: int) -> "Sight":
        """The units in another order, or among others, along a dimension of the new tensor."""
        if self.field is None or self.dim is None:
            return self
        return Sight(window(self, extent), dim, is_scattered=True, is_exact=self.is_exact, is_mixed=self.is_mixed)

    def some(self, extent: int) -> "Sight":
        """Units of which it is not followed what they see: not more than all together."""
        return self if self.dim is None else replace(self.whole(extent), is_exact=False)

    def parted(self) -> "Sight":
        """Some of the channels: where they see different things, which of it is not followed."""
        return replace(self, is_exact=False, is_mixed=False) if self.is_mixed else self

    def blended(self) -> "Sight":
        """Every channel of the result reads every channel."""
        return replace(self, is_mixed=False) if self.is_mixed else self

    def moved(self, dim: int) -> "Sight":
        """The same units along a dimension of another number."""
        return self if self.dim is None else replace(self, dim=dim)


UNKNOWN = Sight(None)


def window(sight: Sight, extent: int) -> ReceptiveField:
    """From the first pixel that any of the units sees to the last."""
    assert sight.field is not None
    if sight.is_stepping:
        return ReceptiveField(sight.field.through(extent).size, 1, sight.field.start)
    return sight.field


def join(sights: Sequence[Sight], extents: Sequence[int]) -> Sight:
    """Units that each depend on one unit of every branch: a sum, a product, a concatenation.

    ``extents`` is the shape of the joined tensor, of whose dimensions the sights speak.
    """
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
    if len(_jumps(differing)) > 1:  # the units of the branches do not lie on the same places
        return UNKNOWN
    seen_by_all = [each for each, sight in zip(windows, sights, strict=True) if sight.dim is None]
    is_inside = union in seen_by_all  # where all see as much as that, what one unit sees besides adds nothing
    return Sight(union, is_exact=is_exact and is_inside)


def _jumps(sights: Iterable[Sight]) -> set[int]:
    return {sight.field.jump for sight in sights if sight.field is not None}

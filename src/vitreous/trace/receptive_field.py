"""The rules carried along a recorded graph: what the units of every operation see of the image.

Per axis, from size 1, jump 1, start 0, a window of k taps, dilated by d, moved by s, over p zeros: size += d(k-1) jump,
start -= p jump, jump *= s. Branches that join have the hull of their windows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any, Literal

from vitreous.geometry import Pixels, ReceptiveField
from vitreous.trace.arguments import replaced
from vitreous.trace.recording import Recording, Ref
from vitreous.trace.rules import Seen, rule_for
from vitreous.trace.shapes import Shape
from vitreous.trace.sight import UNKNOWN, Sight

Status = Literal["exact", "bound", "unknown"]


@dataclass(frozen=True, slots=True)
class SeenField:
    """What one unit sees along one axis, in pixels: unit i those from ``start + i * jump`` on, ``size`` of them.

    The numbers are those of the formula; the border of the image is left aside, with what is mirrored there. ``jump``
    is None where there is one unit or all see the same. Status "exact": of a unit well inside, the first and the last
    pixel are right; "bound": it may see less, not more; "unknown": there are no numbers.

    Where the units stand is told apart from it: behind a gate that looks at the whole map they all see the same, or
    nobody knows what, and lie on the image as they did before.
    """

    size: Pixels | None  # fractions where a map was enlarged
    jump: Pixels | None
    start: Pixels | None
    status: Status
    place: ReceptiveField | None = None  # what they would see, were there no gates; they stand at its centres
    dim: int | None = None  # of the operation's first output, along which they stand

    @property
    def has_places(self) -> bool:
        """The units still lie on the image, one behind the other."""
        return self.place is not None

    @property
    def field(self) -> ReceptiveField | None:
        """What the units see, as geometry's field; None unless each has a window of its own, around its place."""
        if self.size is None or self.start is None or self.place is None:
            return None
        if self.jump is not None:
            return ReceptiveField(self.size, self.jump, self.start)
        return self.place if (self.place.size, self.place.start) == (self.size, self.start) else None

    def clipped(self, unit: int, image_size: int) -> range:
        """The pixels of the image that a unit may see: all of them where nothing is known."""
        if self.size is None or self.start is None:
            return range(image_size)
        if self.field is not None:
            return self.field.clipped(unit, image_size)
        return ReceptiveField(self.size, 1, self.start).clipped(0, image_size)


def receptive_fields(recording: Recording) -> tuple[tuple[SeenField, ...], ...]:
    """One field per image axis for each operation's first output; empty where the image has no part in it.

    Where a forward took numbers out of torch (``x.item()``, ``x.numpy()``), all that came after may depend on them, and
    is unknown. Where it asked for one to choose its way, the fields are those of the way that was recorded.
    """
    image = recording.operations[0].outputs[0]
    axes = tuple(Sight(ReceptiveField(), dim) for dim in range(2, len(image)))
    places = tuple(replace(sight, is_place=True) for sight in axes)
    seen: list[list[Seen]] = [[Seen(image, axes, places)]]
    end = len(recording.operations) if recording.left_torch_at is None else recording.left_torch_at
    for operation in recording.operations[1:end]:

        def look(ref: Ref) -> Seen:
            return Seen(ref.shape) if ref.operation is None else seen[ref.operation][ref.output]

        args, kwargs = replaced(Ref, look, (operation.args, dict(operation.kwargs)))
        seen.append(rule_for(operation.name)(operation.outputs, args, kwargs))
    lost = (SeenField(None, None, None, "unknown"),) * len(axes)
    after = [lost] * (len(recording.operations) - end)
    return (*(_reported(each[0]) for each in seen), *after)


def _reported(seen: Seen) -> tuple[SeenField, ...]:
    return tuple(map(_field, seen.axes, seen.standing.axes or [UNKNOWN] * len(seen.axes), repeat(seen.shape)))


def _field(sight: Sight, place: Sight, shape: Shape) -> SeenField:
    standing = (place.field, place.dim) if place.is_stepping else (None, None)
    if sight.field is None:
        return SeenField(None, None, None, "unknown", *standing)
    is_one = sight.dim is None or shape[sight.dim] == 1
    status: Status = "exact" if sight.is_exact and (is_one or not sight.is_scattered) else "bound"
    jump = sight.field.jump if sight.is_stepping and not is_one else None
    return SeenField(sight.field.size, jump, sight.field.start, status, *standing)


def receptive_field_json(fields: Sequence[SeenField]) -> dict[str, Any]:
    """The fields of all axes as one document; its status is the worst of theirs, its jump null where one axis has none.

    >>> receptive_field_json([SeenField(8, 2, 0, "exact"), SeenField(8, 2, 0, "bound")])
    {'size': [8, 8], 'jump': [2, 2], 'start': [0, 0], 'status': 'bound'}
    """
    statuses = {field.status for field in fields}
    is_known = bool(fields) and "unknown" not in statuses
    has_jump = is_known and all(field.jump is not None for field in fields)
    return {
        "size": [_number(field.size) for field in fields] if is_known else None,
        "jump": [_number(field.jump) for field in fields] if has_jump else None,
        "start": [_number(field.start) for field in fields] if is_known else None,
        "status": "unknown" if not is_known else "bound" if "bound" in statuses else "exact",
    }


def _number(pixels: Pixels | None) -> int | float | None:
    """As JSON has it: 0.5, not 1/2."""
    return pixels if pixels is None or isinstance(pixels, int) else float(pixels)

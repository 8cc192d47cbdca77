"""The rules carried along a recorded graph: what the units of every operation see of the image.

Per axis, from size 1, jump 1, start 0, a window of k taps, dilated by d, moved by s, over p zeros: size += d(k-1) jump,
start -= p jump, jump *= s. Branches that join have the hull of their windows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vitreous.geometry import Pixels, ReceptiveField
from vitreous.trace.arguments import replaced
from vitreous.trace.recording import Recording, Ref
from vitreous.trace.rules import Seen, rule_for
from vitreous.trace.shapes import Shape
from vitreous.trace.sight import Sight

Status = Literal["exact", "bound", "unknown"]


@dataclass(frozen=True, slots=True)
class SeenField:
    """What one unit sees along one axis, in pixels: unit i those from ``start + i * jump`` on, ``size`` of them.

    The numbers are those of the formula; the border of the image is left aside, with what is mirrored there. ``jump``
    is None where there is one unit or all see the same. Status "exact": of a unit well inside, the first and the last
    pixel are right; "bound": it may see less, not more; "unknown": there are no numbers.
    """

    size: Pixels | None  # fractions where a map was enlarged
    jump: Pixels | None
    start: Pixels | None
    status: Status
    has_places: bool  # the units still lie on the image, one behind the other

    @property
    def field(self) -> ReceptiveField | None:
        """The same as geometry's field, for windows and centres; None unless the units have places."""
        if not self.has_places or self.size is None or self.start is None:
            return None
        return ReceptiveField(self.size, self.jump or 1, self.start)


def receptive_fields(recording: Recording) -> tuple[tuple[SeenField, ...], ...]:
    """One field per image axis for each operation's first output; empty where the image has no part in it.

    Where a forward took numbers out of torch (``x.item()``, ``x.numpy()``), all that came after may depend on them, and
    is unknown. Where it asked for one to choose its way, the fields are those of the way that was recorded.
    """
    image = recording.operations[0].outputs[0]
    axes = tuple(Sight(ReceptiveField(), dim) for dim in range(2, len(image)))
    seen: list[list[Seen]] = [[Seen(image, axes)]]
    end = len(recording.operations) if recording.left_torch_at is None else recording.left_torch_at
    for operation in recording.operations[1:end]:

        def look(ref: Ref) -> Seen:
            return Seen(ref.shape) if ref.operation is None else seen[ref.operation][ref.output]

        args, kwargs = replaced(Ref, look, (operation.args, dict(operation.kwargs)))
        seen.append(rule_for(operation.name)(operation.outputs, args, kwargs))
    lost = (SeenField(None, None, None, "unknown", has_places=False),) * len(axes)
    after = [lost] * (len(recording.operations) - end)
    return (*(_reported(each[0].axes, each[0].shape) for each in seen), *after)


def _reported(axes: Iterable[Sight], shape: Shape) -> tuple[SeenField, ...]:
    return tuple(_field(sight, shape) for sight in axes)


def _field(sight: Sight, shape: Shape) -> SeenField:
    if sight.field is None:
        return SeenField(None, None, None, "unknown", has_places=False)
    is_one = sight.dim is None or shape[sight.dim] == 1
    status: Status = "exact" if sight.is_exact and (is_one or not sight.is_scattered) else "bound"
    jump = sight.field.jump if sight.is_stepping and not is_one else None
    return SeenField(sight.field.size, jump, sight.field.start, status, has_places=sight.is_stepping)


def receptive_field_json(fields: Sequence[SeenField]) -> dict[str, Any]:
    """The fields of all axes as one document; its status is the worst of theirs, its jump null where one axis has none.

    >>> receptive_field_json([SeenField(8, 2, 0, "exact", True), SeenField(8, 2, 0, "bound", True)])
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

"""Findings about what units see: fields larger than the image, pixels that none sees, branches that look elsewhere."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from torch import nn

from vitreous.checks.finding import Finding
from vitreous.errors import ShapeError
from vitreous.trace import SeenField, Trace, trace
from vitreous.trace.summary import Summary
from vitreous.trace.windows import windows_of

_FEW_UNITS = 3  # a last map of fewer rows than this has little left to say where something is
_EARLY = 4  # px from unit to unit before the first stage of a network for photographs
_MOST_CAUSES = 3


def outgrown(summary: Summary) -> Iterator[Finding]:
    """Layers after which every unit's field is wider than the image."""
    trace = summary.trace
    first = summary.outgrown
    if first is None:
        return
    number = trace.recording.names.index(first)
    sizes = [field.size or 0 for field in trace.fields[number]]
    later = [operation for operation in trace.operations[number:] if operation.function.startswith("conv")]
    share = sum(operation.macs for operation in later) / max(trace.macs, 1)
    sides = summary.input[1:]
    yield Finding(
        code="field-outgrows-image",
        severity="note",
        where=first,
        seen="from here on a unit's field is larger than the image: "
        f"{len(later)} convolutions with {share:.0%} of all MACs",
        arithmetic=f"field {_times(sizes)} px > image {_times(sides)} px",
        edit=f"end the network before {first}, or train on images of {max(sizes)} px and more; good networks often go "
        "further, so compare both",
    )


def unseen(network: nn.Module, summary: Summary) -> Iterator[Finding]:
    """Rows and columns of the image that no unit of the last map sees: strides that do not come out even."""
    number = summary.trace.last_map
    if number is None or any(field.status == "unknown" for field in summary.last_fields):
        return
    lost = _lost_pixels(summary.trace, summary.input)
    if not any(lost):
        return
    height, width = summary.input[1:]
    share = 1 - (height - lost[0]) * (width - lost[1]) / (height * width)
    causes = [
        f"{name}: ({window.size} - {window.span} + {sum(window.padding)})/{window.stride} leaves {window.leftover} over"
        for name, operation in zip(summary.trace.recording.names, summary.trace.operations, strict=True)
        for window in windows_of(operation)[-1:]
        if window.leftover
    ]
    sizes = _even_sizes(network, summary)
    wanted = " or ".join(f"--image-size {size}" for size in sizes) or "another image size, or padding at the far end"
    yield Finding(
        code="pixels-never-seen",
        severity="mend" if share >= 0.05 else "consider",
        where=summary.trace.recording.names[number],
        seen=f"{lost[0]} rows at the bottom and {lost[1]} columns at the right are seen by no unit: "
        f"{share:.1%} of every image",
        arithmetic="; ".join(causes[:_MOST_CAUSES]),
        edit=f"use {wanted}, where every pixel is seen",
    )


def _lost_pixels(traced: Trace, shape: Sequence[int]) -> list[int]:
    assert traced.last_map is not None
    units = traced.operations[traced.last_map].outputs[0]
    lost = []
    for field, side in zip(traced.fields[traced.last_map], shape[1:], strict=True):
        assert field.start is not None
        assert field.size is not None
        assert field.dim is not None
        last = field.start + (units[field.dim] - 1) * (field.jump or 0) + field.size
        lost.append(int(max(0, side - last)))
    return lost


def _even_sizes(network: nn.Module, summary: Summary) -> list[int]:
    """The nearest smaller and larger squares of which every pixel is seen."""
    channels, height, _ = summary.input
    jump = max((field.place.jump for field in summary.last_fields if field.place is not None), default=1)

    def sees_all(side: int) -> bool:
        try:
            traced = trace(network, (channels, side, side))
        except ShapeError:
            return False
        return traced.last_map is not None and not any(_lost_pixels(traced, (channels, side, side)))

    steps = range(1, min(int(jump), 64) + 1)
    smaller = next((height - step for step in steps if height > step and sees_all(height - step)), None)
    larger = next((height + step for step in steps if sees_all(height + step)), None)
    return [side for side in (smaller, larger) if side is not None]


def shrunk(summary: Summary) -> Iterator[Finding]:
    """Small images that strides made for photographs leave nothing of."""
    strides = _total_strides(summary.trace)
    side, most = min(summary.input[1:]), max(strides)
    if side >= _FEW_UNITS * most or side < 2 * _FEW_UNITS:
        return
    names, left = summary.trace.recording.names, f"{side / most:.2g}"
    early = next((n for n, stride in enumerate(strides) if stride >= _EARLY), 0)
    yield Finding(
        code="strides-too-great",
        severity="mend" if side < 2 * most else "consider",
        where=names[strides.index(most)],
        seen=f"the strides leave {left} x {left} units of an image: they were made for larger ones",
        arithmetic=f"{side} px / {most} px from unit to unit; {names[early]} is already at {strides[early]} px",
        edit="take the stride or the pool out of the first layers, or train at --image-size "
        f"{(_FEW_UNITS + 1) * most} and more",
    )


def _total_strides(trace: Trace) -> list[int]:
    """Of each operation, the pixels from unit to unit, were its map large enough to have two."""
    strides: list[int] = []
    for operation in trace.operations:
        before = max((strides[ref.operation] for ref in operation.inputs if ref.operation is not None), default=1)
        strides.append(before * max((window.stride for window in windows_of(operation)), default=1))
    return strides


def misaligned(summary: Summary) -> Iterator[Finding]:
    """Branches whose units are centred on different pixels where they are joined."""
    trace = summary.trace
    for number, operation in enumerate(trace.operations):
        if operation.function not in ("add", "cat", "mul", "sub", "maximum", "concat"):
            continue
        sources = [
            ref for ref in operation.inputs if ref.operation is not None and ref.shape[2:] == operation.outputs[0][2:]
        ]
        branches = {ref.operation: trace.fields[ref.operation] for ref in sources if ref.operation is not None}
        placed = {
            source: fields
            for source, fields in branches.items()
            if fields and all(field.has_places for field in fields)
        }
        apart = [_apart(fields, others) for fields, others in pairwise(placed.values())]
        if max(apart, default=0) == 0:
            continue
        centres = [f"{trace.recording.names[source]} at {_centre(fields[-1]):g}" for source, fields in placed.items()]
        yield Finding(
            code="branches-misaligned",
            severity="consider",
            where=trace.recording.names[number],
            seen=f"branches are joined whose units look at places {max(apart):g} px apart",
            arithmetic=f"centres of the first units: {', '.join(centres)} px",
            edit="pad the branches so that start + (size - 1)/2 agrees: k//2 at the near end of an odd kernel k, also "
            "before a stride",
        )


def _apart(one: Sequence[SeenField], other: Sequence[SeenField]) -> float:
    return max(abs(_centre(a) - _centre(b)) for a, b in zip(one, other, strict=True))


def _centre(field: SeenField) -> float:
    assert field.place is not None
    return float(field.place.centre(0))


def _times(shape: Sequence[object]) -> str:
    return " x ".join(map(str, shape))

"""The formulas behind one row of a summary, with the numbers in them: ``(224 - 7 + 2*3)/2 + 1 = 112``."""

import math
from collections.abc import Iterator, Sequence

from vitreous.trace import Trace
from vitreous.trace.arguments import found
from vitreous.trace.memory import FLOAT
from vitreous.trace.receptive_field import SeenField
from vitreous.trace.recording import Operation, Ref
from vitreous.trace.support import reach, support
from vitreous.trace.windows import Window, arguments_of, padding_share, windows_of

_AXES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


def reasons(trace: Trace, number: int) -> list[tuple[str, str]]:
    """Why an operation's numbers are what they are: pairs of what is told and the formula, in the order of the row."""
    operation = trace.operations[number]
    return [
        *_shape(operation),
        *_field(trace, number),
        *_pixels(trace, number),
        *_cost(operation),
        *_memory(operation),
    ]


# --- shapes -----------------------------------------------------------------------------------------------------------


def _shape(operation: Operation) -> Iterator[tuple[str, str]]:
    sources = [_times(ref.shape[1:]) for ref in operation.inputs] or ["nothing that an operation made"]
    yield "shape", f"{' and '.join(sources)} -> {_times(operation.outputs[0][1:])}"
    windows = windows_of(operation)
    yield from _per_axis(windows, [_size(window) for window in windows])
    if windows:
        channels = _channels(operation)
        if channels:
            yield "channels", channels
        share = padding_share(windows)
        if share > 0:
            yield "taps on padding", f"{_inside(windows)} = {share:.1%}"
    elif operation.function == "linear":
        weight = next(ref for ref in _constants(operation) if len(ref.shape) == 2)
        yield "features", f"{weight.shape[1]:,} read by each of {weight.shape[0]:,} units"


def _size(window: Window) -> str:
    """The output-size formula, and what its rounding leaves out.

    >>> _size(Window(224, 7, 2, (3, 3), 1, 112))
    '(224 - 7 + 2*3)/2 + 1 = 112, 111.5 rounded down to 111; the last unit of the padding is not reached'
    """
    near, far = window.padding
    span = str(window.kernel) if window.dilation == 1 else f"({window.dilation}*({window.kernel} - 1) + 1)"
    padding = "" if near == far == 0 else f" + 2*{near}" if near == far else f" + {near} + {far}"
    steps = (window.size - window.span + near + far) / window.stride
    formula = f"({window.size} - {span}{padding})/{window.stride} + 1 = {window.units}"
    if steps == int(steps):
        return formula
    if math.floor(steps) + 1 != window.units:
        return f"{formula}, {steps:g} rounded up to {window.units - 1}: the last window hangs over the end"
    unread = (window.size - window.span + near + far) % window.stride
    where = (
        f"{_last(window.leftover, 'unit')} of the input"
        if window.leftover
        else f"{_last(unread, 'unit')} of the padding"
    )
    end = "not read" if window.leftover else "not reached"
    return f"{formula}, {steps:g} rounded down to {math.floor(steps)}; {where} {'is' if unread == 1 else 'are'} {end}"


def _channels(operation: Operation) -> str | None:
    if not operation.function.startswith("conv"):
        return None
    given = arguments_of(operation)
    groups, weight = given.get("groups", 1), given["weight"].shape
    whole = f"{weight[0]} filters, each over {weight[1]} of {given['input'].shape[1]} channels"
    return whole if groups > 1 else f"{weight[0]} filters, each over all {weight[1]} channels"


def _inside(windows: Sequence[Window]) -> str:
    inside = " * ".join(str(window.num_inside) for window in windows)
    taps = " * ".join(f"({window.units}*{window.kernel})" for window in windows)
    return f"1 - ({inside})/({taps})"


# --- receptive fields -------------------------------------------------------------------------------------------------


def _field(trace: Trace, number: int) -> Iterator[tuple[str, str]]:
    operation, fields = trace.operations[number], trace.fields[number]
    if not fields:
        yield "receptive field", "none: the image has no part in this"
        return
    if any(field.size is None for field in fields):
        yield "receptive field", f"unknown: {_where_unknown(trace, number)}"
        return
    windows = windows_of(operation)
    before = [trace.fields[ref.operation] for ref in operation.inputs if ref.operation is not None]
    before = [each for each in before if each]
    if windows and len(before) == 1 and all(field.field is not None for field in (*before[0], *fields)):
        lines = [_through(*each) for each in zip(windows, before[0], fields, strict=True)]
        named = _per_axis(windows, lines)
        yield from ((f"field, {axis}" if len(named) > 1 else "receptive field", line) for axis, line in named)
    else:
        yield "receptive field", _joined(before, fields)
    status = {field.status for field in fields}
    if status != {"exact"}:
        yield "status", "bound: a unit may see less than this, and never more"


def _through(window: Window, before: SeenField, after: SeenField) -> str:
    assert before.size is not None
    assert before.start is not None
    jump = before.jump or 1
    grown = f"{window.kernel} - 1" if window.dilation == 1 else f"{window.dilation}*({window.kernel} - 1)"
    grown = f"({grown})*{jump}" if window.dilation == 1 else f"{grown}*{jump}"
    parts = [f"r = {before.size} + {grown} = {after.size}"]
    parts.append(f"jump = {jump}*{window.stride} = {jump * window.stride}")
    parts.append(f"first unit starts at {before.start} - {window.padding[0]}*{jump} = {after.start}")
    return "; ".join(parts)


def _joined(before: Sequence[Sequence[SeenField]], fields: Sequence[SeenField]) -> str:
    sizes = _times([field.size or 0 for field in fields])
    jumps = [field.jump for field in fields if field.jump is not None]
    steps = f", jump {_times(jumps)}" if len(jumps) == len(fields) else ""
    given = [_times([field.size or 0 for field in each]) for each in before]
    if len(given) > 1:
        return f"{sizes}{steps}: the hull of {' and '.join(given)}"
    if given and given[0] == sizes:
        return f"{sizes}{steps}, as before: each number comes of what one unit saw"
    return f"{sizes}{steps}: each number comes of all units of {given[0] if given else 'the input'} that are read"


def _where_unknown(trace: Trace, number: int) -> str:
    """The first operation on the way from the image of which nothing is known."""
    names = trace.recording.names
    waiting, seen = [number], set()
    first = number
    while waiting:
        at = waiting.pop()
        first = min(first, at)
        for ref in trace.operations[at].inputs:
            fields = trace.fields[ref.operation] if ref.operation is not None else ()
            if ref.operation not in seen and any(field.size is None for field in fields):
                seen.add(ref.operation)
                waiting.append(ref.operation or 0)
    operation = trace.operations[first]
    return f"how {operation.function} at {names[first]} moves the units is not known, so nothing after it is"


# --- the pixels themselves --------------------------------------------------------------------------------------------

_DRAWN = 24  # a set of pixels larger than this is only counted


def _pixels(trace: Trace, number: int) -> Iterator[tuple[str, str]]:
    """The set behind the hull, of a unit in the middle; and the units that a pixel in the middle reaches."""
    units, image = trace.operations[number].outputs[0][2:], trace.operations[0].outputs[0][2:]
    if len(image) != 2 or not trace.fields[number]:
        return
    if len(units) == 2:
        seen = support(trace.recording, number, [extent // 2 for extent in units])
        rows, columns = seen.mask.any(1).nonzero().flatten(), seen.mask.any(0).nonzero().flatten()
        if len(rows):
            hull = seen.mask[int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1]
            count = int(hull.sum())
            holes = "no holes" if count == hull.numel() else f"{hull.numel() - count:,} holes"
            limit = "" if seen.status == "exact" else "at most "
            inside = f"rows {int(rows[0])}-{int(rows[-1])}, columns {int(columns[0])}-{int(columns[-1])}"
            yield "pixels", f"the middle unit sees {limit}{count:,} of the image: {inside}, {holes}"
            if count < hull.numel() and max(hull.shape) <= _DRAWN:
                yield from (("", " ".join("#" if each else "." for each in row)) for row in hull.tolist())
    reached = reach(trace.recording, [extent // 2 for extent in image], number)
    limit = "" if reached.status == "exact" else "at most "
    total = reached.mask.numel()
    yield "reached by", f"the image's middle pixel: {limit}{int(reached.mask.sum()):,} of {total:,} numbers"


# --- costs ------------------------------------------------------------------------------------------------------------


def _cost(operation: Operation) -> Iterator[tuple[str, str]]:
    constants = _constants(operation)
    if operation.parameters:
        sums = " + ".join(_product(ref.shape) for ref in constants if math.prod(ref.shape))
        yield "parameters", f"{sums} = {operation.parameters:,}" if constants else f"{operation.parameters:,}"
    if operation.macs:
        yield "MACs", f"{_macs(operation)}{operation.macs:,}; {2 * operation.macs:,} FLOPs"
    if operation.function.startswith("conv") and operation.inputs:
        ins, outs = math.prod(operation.inputs[0].shape[1:]), math.prod(operation.outputs[0][1:])
        yield (
            "instead, dense",
            f"a dense layer to the same map would take {ins:,}*{outs:,} + {outs:,} = {ins * outs + outs:,} parameters",
        )
    if operation.macs != operation.computed_macs:
        yield (
            "computed",
            f"{operation.computed_macs:,} MACs are what torch is given; the layer's definition needs fewer",
        )


def _macs(operation: Operation) -> str:
    weight = next((ref.shape for ref in _constants(operation) if len(ref.shape) > 1), None)
    outputs = " * ".join(map(str, operation.outputs[0][1:]))
    is_plain = weight is not None and operation.function in ("conv1d", "conv2d", "conv3d", "linear")
    return f"{outputs} * ({' * '.join(map(str, weight[1:]))}) = " if is_plain and weight else ""


def _memory(operation: Operation) -> Iterator[tuple[str, str]]:
    numbers = math.prod(operation.outputs[0][1:])
    yield "map", f"{' * '.join(map(str, operation.outputs[0][1:])) or 1} * {FLOAT} bytes = {FLOAT * numbers:,}"


def _constants(operation: Operation) -> list[Ref]:

    refs = found(Ref, (operation.args, dict(operation.kwargs)))
    given = [ref for ref in refs if ref.operation is None]
    return given if operation.function != "batch_norm" else given[2:]  # its statistics are no parameters


# --- words ------------------------------------------------------------------------------------------------------------


def _per_axis(windows: Sequence[Window], lines: Sequence[str]) -> list[tuple[str, str]]:
    """One line where all axes say the same."""
    names = _AXES[len(windows)] if windows else ()
    if len(set(lines)) == 1:
        return [(" and ".join(names), lines[0])]
    return list(zip(names, lines, strict=True))


def _times(shape: Sequence[object]) -> str:
    return " x ".join(map(str, shape)) or "one number"


def _product(shape: Sequence[int]) -> str:
    return "*".join(map(str, shape))


def _last(number: int, noun: str) -> str:
    return f"the last {noun}" if number == 1 else f"the last {number} {noun}s"

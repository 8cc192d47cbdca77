"""Findings about what is computed or kept for nothing: zeros, unread parameters, widths that add nothing."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from vitreous.checks.finding import Finding
from vitreous.trace.arguments import found
from vitreous.trace.recording import Operation, Ref
from vitreous.trace.summary import Summary
from vitreous.trace.windows import Window, padding_share, windows_of

_MOSTLY = 0.5
_STAYING_LINEAR = frozenset(("batch_norm", "dropout", "dropout2d", "contiguous"))


def padding(summary: Summary) -> Iterator[Finding]:
    """Kernels that mostly see zeros: 3x3 on a map of 1x1 multiplies eight of nine taps with padding."""
    trace = summary.trace
    shares = [
        (padding_share(windows), name, operation, windows)
        for name, operation in zip(trace.recording.names, trace.operations, strict=True)
        if operation.macs and (windows := windows_of(operation))
    ]
    worst = [each for each in shares if each[0] > _MOSTLY]
    if not worst:
        return
    share, name, _, windows = max(worst, key=lambda each: each[0])
    sizes = _times([window.size for window in windows])
    wasted = sum(each[0] * each[2].macs for each in worst)
    yield Finding(
        code="mostly-padding",
        severity="mend",
        where=name if len(worst) == 1 else f"{name} and {len(worst) - 1} more",
        seen=f"{_kernel(windows)} on a map of {sizes}: {share:.1%} of its taps fall on padding, "
        f"{wasted / max(trace.macs, 1):.1%} of the network's MACs are zeros",
        arithmetic=f"1 - {' * '.join(f'{window.num_inside}/({window.units}*{window.kernel})' for window in windows)}",
        edit="stop one stage earlier, use 1x1 kernels there, or train on larger images",
    )


def unread_parameters(summary: Summary) -> Iterator[Finding]:
    """Parameters that this forward never reads."""
    trace = summary.trace
    read = sum(operation.parameters for operation in trace.operations)
    if read == trace.parameters:
        return
    unread = trace.parameters - read
    yield Finding(
        code="parameters-never-read",
        severity="mend",
        where="the network",
        seen=f"{unread:,} of {trace.parameters:,} parameters are read by nothing in a forward: they learn nothing",
        arithmetic=f"{trace.parameters:,} - {read:,} = {unread:,}",
        edit="remove the modules that the forward does not call (an auxiliary head is read in training only)",
    )


def cancelled_biases(summary: Summary) -> Iterator[Finding]:
    """Biases that a batch norm right after them takes away again."""
    operations, names = summary.trace.operations, summary.trace.recording.names
    cancelled = []
    for operation in operations:
        if operation.function != "batch_norm" or not operation.inputs:
            continue
        source = operation.inputs[0].operation or 0
        if operations[source].function.startswith("conv") or operations[source].function == "linear":
            biases = [
                ref for ref in found(Ref, operations[source].args) if ref.constant is not None and len(ref.shape) == 1
            ]
            cancelled += [(names[source], biases[0].shape[0])] if biases else []
    if cancelled:
        total = sum(size for _, size in cancelled)
        yield Finding(
            code="bias-before-batch-norm",
            severity="consider",
            where=cancelled[0][0] if len(cancelled) == 1 else f"{cancelled[0][0]} and {len(cancelled) - 1} more",
            seen=f"{total:,} biases are cancelled by the batch norm that follows",
            arithmetic="(x + b) - mean(x + b) = x - mean(x)",
            edit="build these layers with bias=False",
        )


def dense(summary: Summary) -> Iterator[Finding]:
    """A dense layer on a flattened map that holds most of the network's parameters."""
    trace = summary.trace
    for number, operation in enumerate(trace.operations):
        if operation.function != "linear" or operation.parameters <= _MOSTLY * trace.parameters:
            continue
        weight = next(ref for ref in found(Ref, operation.args) if ref.operation is None and len(ref.shape) == 2)
        units, features = weight.shape
        shape = _map_before(trace.operations, number)
        if shape is None or math.prod(shape) != features or math.prod(shape[1:]) == 1:
            continue
        bias = operation.parameters - units * features
        pooled = units * shape[0] + bias
        biases = f" + {bias:,}" if bias else ""
        yield Finding(
            code="dense-holds-most",
            severity="consider",
            where=trace.recording.names[number],
            seen=f"this dense layer holds {operation.parameters / trace.parameters:.0%} of all parameters",
            arithmetic=f"{_times(shape)} * {units:,}{biases} = {operation.parameters:,} of {trace.parameters:,}; "
            f"behind global pooling {shape[0]} * {units:,}{biases} = {pooled:,}",
            edit=f"pool globally in place of flattening (gap in a pattern): {operation.parameters - pooled:,} fewer",
        )


def _map_before(operations: Sequence[Operation], number: int) -> tuple[int, ...] | None:
    """The map that was flattened into what an operation reads."""
    while operations[number].inputs:
        ref = operations[number].inputs[0]
        if len(ref.shape) > 2:
            return ref.shape[1:]
        number = ref.operation or 0
    return None


def narrow(summary: Summary, num_classes: int) -> Iterator[Finding]:
    """Widths that cannot carry what comes after them."""
    operations, names = summary.trace.operations, summary.trace.recording.names
    last = next((n for n in range(len(operations) - 1, 0, -1) if operations[n].function == "linear"), None)
    if last is not None:
        features = operations[last].inputs[0].shape[-1] if operations[last].inputs else num_classes
        if features < num_classes - 1:
            yield Finding(
                code="too-few-features",
                severity="consider",
                where=names[last],
                seen=f"{num_classes} classes are told apart by {features} numbers: their logits depend on each other",
                arithmetic=f"rank <= {features} < {num_classes} - 1",
                edit=f"make the layer before {names[last]} at least {num_classes} wide",
            )


def dead_widths(summary: Summary) -> Iterator[Finding]:
    """Two linear layers with nothing between them that is not linear: they are one, however wide their middle is."""
    operations, names = summary.trace.operations, summary.trace.recording.names
    readers = Counter(ref.operation for operation in operations for ref in operation.inputs)
    for number, operation in enumerate(operations):
        before = _linear_before(operations, readers, number)
        if before is None:
            continue
        width = operations[before].outputs[0][1]
        ins, outs = _fan_in(operations[before]), operation.outputs[0][1] * math.prod(_weight(operation).shape[2:])
        if width <= min(ins, outs):
            continue
        yield Finding(
            code="dead-width",
            severity="mend",
            where=names[before],
            seen=f"{names[before]} and {names[number]} follow one another with no activation between them, so "
            f"{width - min(ins, outs)} of the {width} channels between add nothing",
            arithmetic=f"rank <= min({ins} in, {outs} out) = {min(ins, outs)} < {width}",
            edit=f"put an activation after {names[before]}, or give it {min(ins, outs)} channels",
        )


def _linear_before(operations: Sequence[Operation], readers: Mapping[int | None, int], number: int) -> int | None:
    """The convolution or dense layer whose result this one reads as it is, or normalised."""
    if not _is_linear(operations[number]):
        return None
    at = operations[number].inputs[0].operation
    while at and readers[at] == 1 and operations[at].function in _STAYING_LINEAR and operations[at].inputs:
        at = operations[at].inputs[0].operation
    is_alone = at is not None and readers[at] == 1 and _is_linear(operations[at])
    return at if is_alone and operations[at or 0].outputs[0][1] == _fan_in(operations[number], taps=False) else None


def _is_linear(operation: Operation) -> bool:
    """Whether it is a dense layer or a convolution over all channels."""
    if operation.function not in ("conv1d", "conv2d", "conv3d", "linear") or not operation.inputs:
        return False
    return _weight(operation).shape[1] == operation.inputs[0].shape[-1 if operation.function == "linear" else 1]


def _fan_in(operation: Operation, *, taps: bool = True) -> int:
    return math.prod(_weight(operation).shape[1:] if taps else _weight(operation).shape[1:2])


def _weight(operation: Operation) -> Ref:
    return next(ref for ref in found(Ref, (operation.args, dict(operation.kwargs))) if ref.constant is not None)


def _times(shape: Sequence[object]) -> str:
    return " x ".join(map(str, shape))


def _kernel(windows: Sequence[Window]) -> str:
    return "x".join(str(window.kernel) for window in windows)

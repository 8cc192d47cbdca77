"""A recorded network as boxes and arrows: a convolution and what follows it are one box, repeated blocks one block."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vitreous.trace.recording import ModuleCall, Operation, Recording
from vitreous.trace.summary import Layer, Summary
from vitreous.trace.windows import windows_of

_FOLLOWING = frozenset(
    (
        *("batch_norm", "layer_norm", "group_norm", "instance_norm", "relu", "relu6", "leaky_relu", "prelu", "elu"),
        *("gelu", "silu", "mish", "hardtanh", "hardswish", "hardsigmoid", "sigmoid", "tanh", "softmax", "dropout"),
        *("dropout2d", "contiguous", "flatten", "squeeze"),
    )
)
_JOINING = frozenset(("add", "mul", "cat", "sub", "stack", "matmul"))
_WORDS = {
    **{f"conv{n}d": "conv" for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": "transposed conv" for n in (1, 2, 3)},
    **{f"max_pool{n}d": "max pool" for n in (1, 2, 3)},
    **{f"avg_pool{n}d": "average pool" for n in (1, 2, 3)},
    **{f"adaptive_avg_pool{n}d": "average pool" for n in (1, 2, 3)},
    **{f"adaptive_max_pool{n}d": "max pool" for n in (1, 2, 3)},
    **{"linear": "dense", "add": "+", "mul": "times", "cat": "concatenate", "batch_norm": "batch norm"},
    **{"input": "image", "layer_norm": "layer norm", "group_norm": "group norm"},
}


@dataclass(frozen=True, slots=True)
class Box:
    """Operations that stand for one: the first does the work, the others follow it one by one."""

    operations: tuple[int, ...]
    kind: str
    title: str
    facts: str
    told: str


@dataclass(frozen=True, slots=True)
class Block:
    """A module whose boxes are framed, and how many of its kind follow one another."""

    name: str
    boxes: tuple[int, ...]
    times: int


@dataclass(frozen=True, slots=True)
class Diagram:
    """Boxes in the order in which they run; arrows from box to box, by the order of their targets."""

    boxes: tuple[Box, ...]
    arrows: tuple[tuple[int, int], ...]
    blocks: tuple[Block, ...]


def diagram_of(summary: Summary) -> Diagram:
    """Boxes, arrows and blocks of a summary's network."""
    recording = summary.trace.recording
    folds = _folds(recording)
    drawn = _drawn_for(recording, folds)
    of_the_image = {number for number, fields in enumerate(summary.trace.fields) if fields}
    chains = _chains(recording, of_the_image & set(drawn.values()))
    boxes = tuple(_box(summary, chain) for chain in chains)
    number_of = {operation: number for number, box in enumerate(boxes) for operation in box.operations}
    arrows = {
        (number_of[drawn[source]], number_of[drawn[target]])
        for target, operation in enumerate(recording.operations)
        for source in (ref.operation for ref in operation.inputs)
        if source is not None and drawn[source] in number_of and drawn[target] in number_of
    }
    forward = sorted((each for each in arrows if each[0] < each[1]), key=lambda arrow: arrow[::-1])
    return Diagram(boxes, tuple(forward), tuple(_blocks(recording, folds, number_of)))


# --- blocks -----------------------------------------------------------------------------------------------------------


def _folds(recording: Recording) -> list[list[ModuleCall]]:
    """Runs of modules that follow one another and do the same: the outermost ones, of three operations or more."""
    by_start = sorted(recording.modules, key=lambda each: (each.operations.start, -len(each.operations)))
    starting: dict[int, list[ModuleCall]] = {}
    for module in by_start:
        starting.setdefault(module.operations.start, []).append(module)
    runs: list[list[ModuleCall]] = []
    end = 0
    for module in by_start:
        if module.operations.start < end or len(module.operations) < 3 or module.path == "":
            continue
        run, likeness = [module], _likeness(recording, module)
        while following := [
            other
            for other in starting.get(run[-1].operations.stop, ())
            if _feeds(recording, run[-1], other) and _likeness(recording, other) == likeness
        ]:
            run.append(following[0])
        if len(run) > 1:
            runs.append(run)
            end = run[-1].operations.stop
    return runs


def _feeds(recording: Recording, before: ModuleCall, after: ModuleCall) -> bool:
    """Whether a module reads what another gave and nothing else: two that stand side by side do not."""
    read = {ref.operation for number in after.operations for ref in recording.operations[number].inputs}
    return read - set(after.operations) == {ref.operation for ref in before.outputs}


def _likeness(recording: Recording, module: ModuleCall) -> tuple[object, ...]:
    """What two modules must share to be drawn as one."""
    did = tuple(
        (recording.names[number].removeprefix(module.path), operation.function, operation.outputs, operation.parameters)
        for number, operation in ((number, recording.operations[number]) for number in module.operations)
    )
    return module.kind, did


def _drawn_for(recording: Recording, folds: Sequence[Sequence[ModuleCall]]) -> dict[int, int]:
    """For each operation the one that is drawn in its place: its counterpart in the first module of a run."""
    drawn = {number: number for number in range(len(recording.operations))}
    for first, *others in folds:
        for other in others:
            drawn.update(zip(other.operations, first.operations, strict=True))
    return drawn


def _blocks(recording: Recording, folds: Sequence[Sequence[ModuleCall]], number_of: dict[int, int]) -> Iterator[Block]:
    """The folded runs, and modules like them in kind."""
    kinds = {run[0].kind for run in folds}
    times = {run[0].path: len(run) for run in folds}
    ends = {run[0].path: run[-1].path for run in folds}
    inner = 0
    for module in sorted(recording.modules, key=lambda each: (each.operations.start, -len(each.operations))):
        boxes = tuple(sorted({number_of[each] for each in module.operations if each in number_of}))
        if module.path and module.kind in kinds and len(boxes) > 1 and module.operations.start >= inner:
            inner = module.operations.stop
            last = ends.get(module.path, module.path)
            name = module.path if last == module.path else f"{module.path} to {last.rpartition('.')[2]}"
            yield Block(name, boxes, times.get(module.path, 1))


# --- boxes ------------------------------------------------------------------------------------------------------------


def _chains(recording: Recording, shown: set[int]) -> list[tuple[int, ...]]:
    readers: Counter[int] = Counter()
    for operation in recording.operations:
        readers.update({ref.operation for ref in operation.inputs if ref.operation is not None})
    chains: list[list[int]] = []
    for number in sorted(shown):
        operation = recording.operations[number]
        sources = {ref.operation for ref in operation.inputs}
        last = chains[-1][-1] if chains else None
        follows = operation.function in _FOLLOWING and sources == {last} and readers[last or 0] == 1 and last != 0
        if follows:
            chains[-1].append(number)
        else:
            chains.append([number])
    return [tuple(chain) for chain in chains]


def _box(summary: Summary, chain: Sequence[int]) -> Box:
    operations = [summary.trace.operations[number] for number in chain]
    names = [summary.trace.recording.names[number] for number in chain]
    shape = operations[-1].outputs[0][1:]
    if chain[0] == 0:
        return Box(tuple(chain), "image", "image", _times(shape), f"the image, {_times(shape)}")
    layers = [summary.layers[number - 1] for number in chain]
    facts = f"{names[0]}  ·  {_times(shape)}{_seen(layers[-1])}"
    told = "\n".join(_told(layer) for layer in layers)
    return Box(tuple(chain), _kind(operations[0]), " · ".join(map(_title, operations)), facts, told)


def _kind(operation: Operation) -> str:
    if operation.function.startswith("conv"):
        return "convolution"
    if "pool" in operation.function or operation.function == "mean":
        return "pooling"
    if operation.function == "linear":
        return "dense"
    return "joint" if operation.function in _JOINING and len(operation.inputs) > 1 else "other"


def _title(operation: Operation) -> str:
    windows = windows_of(operation)
    word = _WORDS.get(operation.function, operation.function.replace("_", " "))
    if not windows:
        return f"{word} {operation.outputs[0][1]}" if operation.function == "linear" else word
    kernel = "x".join(str(window.kernel) for window in windows)
    strides = {window.stride for window in windows}
    step = "" if strides == {1} else f" /{'x'.join(map(str, sorted(strides)))}"
    dilated = "" if windows[0].dilation == 1 else f" dilated {windows[0].dilation}"
    return f"{word} {kernel}{step}{dilated}"


def _seen(layer: Layer) -> str:
    sizes = [field.size for field in layer.fields]
    if not sizes or None in sizes:
        return ""
    return f"  ·  sees {sizes[0]}" if len(set(sizes)) == 1 else f"  ·  sees {'x'.join(map(str, sizes))}"


def _told(layer: Layer) -> str:
    costs = [f"{layer.params:,} parameters"] * bool(layer.params) + [f"{layer.macs:,} MACs"] * bool(layer.macs)
    return f"{layer.path} ({layer.op}): {', '.join([_times(layer.output_shape), *costs])}"


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))

"""How much memory the maps of a network take: while it scores, and while it learns. Bytes for one image in fp32.

Scoring keeps a tensor until the last operation that reads it; learning keeps what the backward pass will ask for. Both
are counted by the storage, which views and in-place operations share. The workspaces of kernels are not in it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from vitreous.trace.arguments import found
from vitreous.trace.recording import Operation, Recording, Ref

FLOAT = 4  # bytes

_VIEWS = frozenset(
    (
        *("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as", "expand"),
        *("expand_as", "broadcast_to", "permute", "transpose", "swapaxes", "swapdims", "t", "T", "mT", "getitem"),
        *("chunk", "split", "split_with_sizes", "tensor_split", "narrow", "unbind", "select", "detach", "alias", "to"),
        *("float", "type_as", "contiguous", "unfold", "data"),
    )
)
_TURNING = frozenset(("permute", "transpose", "swapaxes", "swapdims", "t", "T", "mT", "expand", "expand_as"))
_COPYING_TURNED = frozenset(("view", "reshape", "flatten", "contiguous"))  # where the numbers lie in another order
_OUTPUT_KEPT = frozenset(("relu", "sigmoid", "tanh", "softmax", "log_softmax", "exp", "sqrt", "rsqrt", "reciprocal"))
_NOTHING_KEPT = frozenset(
    (
        *("input", "add", "sub", "radd", "rsub", "neg", "cat", "concat", "concatenate", "stack", "pad", "mean", "sum"),
        *("interpolate", "upsample", "flip", "roll", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "repeat"),
        *("zeros", "ones", "zeros_like", "ones_like", "arange", "clone"),
        *("gt", "lt", "ge", "le", "eq", "ne", "floor", "ceil", "round", "sign", "argmax", "argmin"),
    )
)
_DROPPING = frozenset(("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"))
_WINNERS_KEPT = frozenset(
    f"{kind}max_pool{n}d{end}" for kind in ("", "adaptive_") for n in (1, 2, 3) for end in ("", "_with_indices")
)
_WINNER = 8  # bytes: torch notes the winner's place as int64


@dataclass(frozen=True)
class Memory:
    """Of each operation: what its outputs add, what is alive while it runs, what it keeps for the backward pass."""

    new: tuple[int, ...]
    alive: tuple[int, ...]
    kept: tuple[int, ...]

    @property
    def peak(self) -> int:
        """The most that is alive at once in scoring, if nothing is held longer than it is needed."""
        return max(self.alive)

    @property
    def for_training(self) -> int:
        """What all operations together keep for the backward pass."""
        return sum(self.kept)


def memory_of(recording: Recording) -> Memory:
    """Count the bytes of a recorded forward, for one image in fp32."""
    owners, sizes = _storages(recording, _VIEWS | _DROPPING)  # in evaluation dropout hands on what it is given
    last_read = [number for number, _ in enumerate(sizes)]
    for number, operation in enumerate(recording.operations):
        for ref in operation.inputs:
            owner = owners[_key(ref)]
            last_read[owner] = max(last_read[owner], number)
    end = len(recording.operations) - 1
    last_read[0] = end  # whoever called the network holds the image
    for ref in recording.modules[-1].outputs if recording.modules else ():
        if ref.operation is not None:
            last_read[owners[_key(ref)]] = end
    changes = [0] * (end + 2)
    for owner, size in enumerate(sizes):
        changes[owner] += size
        changes[last_read[owner] + 1] -= size
    alive, now = [], 0
    for change in changes[:-1]:
        now += change
        alive.append(now)
    return Memory(tuple(sizes), tuple(alive), tuple(_kept(recording)))


def _key(ref: Ref) -> tuple[int, int]:
    assert ref.operation is not None
    return ref.operation, ref.output


def _storages(recording: Recording, views: frozenset[str]) -> tuple[dict[tuple[int, int], int], list[int]]:
    """The operation that made the storage behind every output, and the bytes that each operation made."""
    owners: dict[tuple[int, int], int] = {}
    sizes: list[int] = []
    turned: set[tuple[int, int]] = set()  # numbers in another order than the shape says
    for number, operation in enumerate(recording.operations):
        source = next(iter(operation.inputs), None)
        shares = source is not None and (_is_in_place(operation) or operation.function in views)
        if shares and source is not None and _key(source) in turned and operation.function in _COPYING_TURNED:
            shares = False
        for output in range(len(operation.outputs)):
            owners[number, output] = owners[_key(source)] if shares and source is not None else number
            if shares and source is not None and (operation.function in _TURNING or _key(source) in turned):
                turned.add((number, output))
        sizes.append(0 if shares else FLOAT * sum(math.prod(shape) for shape in operation.outputs))
    return owners, sizes


def _is_in_place(operation: Operation) -> bool:
    name = operation.name
    is_operator = name.startswith("__i") and operation.function != name.strip("_")
    return operation.kwargs.get("inplace") is True or is_operator or (name.endswith("_") and not name.startswith("__"))


def _kept(recording: Recording) -> Iterator[int]:
    owners, sizes = _storages(recording, _VIEWS)
    counted = _made_without_the_image(recording)  # there is one of those, however many images there are
    for number, operation in enumerate(recording.operations):
        fresh = {owners[key] for key in _saved(number, operation)} - counted
        counted |= fresh
        yield sum(sizes[owner] for owner in fresh) + _besides(operation)


def _made_without_the_image(recording: Recording) -> set[int]:
    made = set(range(1, len(recording.operations)))
    for number, operation in enumerate(recording.operations):
        if any(ref.operation not in made for ref in operation.inputs):
            made.discard(number)
    return made


def _saved(number: int, operation: Operation) -> Iterator[tuple[int, int]]:
    """The tensors that autograd holds on to. Of an operation that is not known: all that it read and made."""
    function = operation.function
    if function in _NOTHING_KEPT or function in _VIEWS or function in _DROPPING or not operation.inputs:
        return
    if function.startswith("adaptive_avg_pool") and set(operation.outputs[0][2:]) == {1}:  # torch takes a mean
        return
    if function in ("mul", "rmul", "truediv", "div") and len(list(found(Ref, operation.args))) < 2:  # by a number
        return
    if function in _OUTPUT_KEPT:
        yield number, 0
        return
    yield from map(_key, operation.inputs)
    if function not in _INPUT_KEPT:
        yield from ((number, output) for output in range(len(operation.outputs)))


def _besides(operation: Operation) -> int:
    """Winners of maxima and masks of dropout: what is kept and is no map of the network's."""
    if operation.function in _WINNERS_KEPT:
        return _WINNER * math.prod(operation.outputs[0])
    if operation.function in _DROPPING:
        return FLOAT * math.prod(operation.outputs[0])
    return 0


_INPUT_KEPT = _WINNERS_KEPT | frozenset(
    (
        *(f"conv{n}d" for n in (1, 2, 3)),
        *(f"conv_transpose{n}d" for n in (1, 2, 3)),
        *(f"{kind}avg_pool{n}d" for n in (1, 2, 3) for kind in ("", "adaptive_")),
        *("batch_norm", "linear", "matmul", "mm", "bmm", "mul", "rmul", "div", "truediv", "square", "pow", "abs"),
        *("gelu", "silu", "mish", "hardswish", "hardsigmoid", "relu6", "hardtanh", "elu", "leaky_relu", "softplus"),
    )
)

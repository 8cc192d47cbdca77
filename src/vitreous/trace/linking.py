"""Which link each torch function is: one family of functions after another. What is not here is Everything."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vitreous.trace.arguments import found, on_each_axis, replaced
from vitreous.trace.links import Along, Axes, Everything, Grouped, Link, Moved, Reads
from vitreous.trace.recording import Operation, Ref
from vitreous.trace.rules import ELEMENTWISE, FRESH, UNFORESEEN, NotFollowed, plain
from vitreous.trace.shapes import Shape
from vitreous.trace.windows import windows_of

Links = list[tuple[Ref, Link]]
_LINKS: dict[str, Callable[..., Links]] = {}


def links_of(operation: Operation, output: int = 0) -> Links:
    """For each tensor that an operation was given and other operations made: how one of its outputs depends on it."""
    build = _LINKS.get(plain(operation.name))
    if build is not None:
        try:
            links = build(operation, operation.outputs[output], output, *operation.args, **operation.kwargs)
            return [(ref, link) for ref, link in links if ref.operation is not None]
        except UNFORESEEN:
            pass
    return [(ref, Everything(ref.shape, operation.outputs[output])) for ref in operation.inputs]


def _is_for(*functions: str) -> Callable[[Callable[..., Links]], Callable[..., Links]]:
    def register(build: Callable[..., Links]) -> Callable[..., Links]:
        _LINKS.update(dict.fromkeys(functions, build))
        return build

    return register


def _for_axes(*functions: str) -> tuple[str, ...]:
    return tuple(function.format(num_axes) for function in functions for num_axes in (1, 2, 3))


def _require_constant(operation: Operation, *inputs: Ref) -> None:
    """Of an operation that has a link for one input only: the others are no work of the image's."""
    if any(ref not in inputs for ref in operation.inputs):
        raise NotFollowed


# --- windows ----------------------------------------------------------------------------------------------------------


@_is_for(*_for_axes("conv{}d", "max_pool{}d", "max_pool{}d_with_indices", "avg_pool{}d"))
def _windows(operation: Operation, out: Shape, output: int, /, input: Ref, *args: Any, **kwargs: Any) -> Links:
    _require_constant(operation, input)
    windows = windows_of(operation)
    tables = []
    for window in windows:
        units = torch.arange(window.units).unsqueeze(1) * window.stride - window.padding[0]
        tables.append(_table(units + torch.arange(window.kernel) * window.dilation, window.size))
    channels = None
    if operation.function.startswith("conv"):
        groups = kwargs.get("groups", args[5] if len(args) > 5 else 1)
        channels = Grouped(groups, input.shape[1], out[1])
    return [(input, _axes((None, channels, *tables)))]


def _axes(alongs: Sequence[Along | None]) -> Axes:
    """Every dimension stays where it is."""
    return Axes([(dim, along) for dim, along in enumerate(alongs)], len(alongs))


def _table(places: Tensor, size: int) -> Reads:
    """From the places that each unit reads; those beside the input are padding."""
    table = torch.zeros(len(places), size)
    is_there = (places >= 0) & (places < size)
    units = torch.arange(len(places)).unsqueeze(1).expand_as(places)
    table[units[is_there], places[is_there]] = 1
    return Reads(table)


@_is_for(*_for_axes("conv_transpose{}d"))
def _transposed_convolution(
    operation: Operation,
    out: Shape,
    output: int,
    /,
    input: Ref,
    weight: Ref,
    bias: Ref | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Links:
    _require_constant(operation, input)
    num_axes = len(weight.shape) - 2
    tables = []
    for axis in range(num_axes):
        step, near, gap = (on_each_axis(each, num_axes)[axis] for each in (stride, padding, dilation))
        size, units = input.shape[2 + axis], out[2 + axis]
        filled = torch.arange(size).unsqueeze(1) * step - near + torch.arange(weight.shape[2 + axis]) * gap
        tables.append(Reads(_table(filled, units).table.T))
    return [(input, _axes((None, Grouped(groups, input.shape[1], out[1]), *tables)))]


@_is_for(*_for_axes("adaptive_avg_pool{}d", "adaptive_max_pool{}d", "adaptive_max_pool{}d_with_indices"))
def _adaptive_pool(operation: Operation, out: Shape, output: int, /, input: Ref, *_: Any, **__: Any) -> Links:
    same = len(out) - next(int(letter) for letter in operation.function if letter.isdigit())
    return [(input, _axes([None] * same + [_bins(n, m) for n, m in zip(input.shape[same:], out[same:], strict=True)]))]


def _bins(size: int, units: int) -> Reads:
    """Source: torch.nn.AdaptiveAvgPool1d."""
    unit, place = torch.arange(units).unsqueeze(1), torch.arange(size)
    return Reads(((place >= unit * size // units) & (place < -(-(unit + 1) * size // units))).float())


@_is_for("interpolate", "upsample")
def _interpolate(
    operation: Operation,
    out: Shape,
    output: int,
    /,
    input: Ref,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Links:
    """What torch makes of a single one at each place tells which units read it."""
    num_axes = len(out) - 2
    tables: list[Along] = []
    for axis in range(num_axes):
        n, m = input.shape[2 + axis], out[2 + axis]
        if mode == "area":
            tables.append(_bins(n, m))
            continue
        ones = torch.eye(n, dtype=torch.float64)[:, None, :, None].repeat(1, 1, 1, 2)  # antialias fails for one column
        factor = None if scale_factor is None or recompute_scale_factor else on_each_axis(scale_factor, num_axes)[axis]
        plane = {"linear": "bilinear", "trilinear": "bilinear"}.get(mode, mode)
        spread = functional.interpolate(
            ones,
            size=None if factor is not None else (m, 2),
            scale_factor=(factor, 1.0) if factor is not None else None,
            mode=plane,
            align_corners=align_corners if plane.startswith("bi") else None,
            antialias=antialias,
        )
        tables.append(Reads((spread[:, 0, :, 0].T != 0).float()))
    return [(input, _axes((None, None, *tables)))]


# --- number by number, and along whole dimensions ---------------------------------------------------------------------


@_is_for(*ELEMENTWISE)
def _elementwise(operation: Operation, out: Shape, output: int, /, *_: Any, **__: Any) -> Links:
    return [(ref, _broadcast(ref.shape, out)) for ref in operation.inputs]


def _broadcast(shape: Shape, out: Shape) -> Link:
    shift = len(out) - len(shape)
    if shift < 0:
        raise NotFollowed
    return Axes([(d + shift, None) if out[d + shift] == extent else None for d, extent in enumerate(shape)], len(out))


def _all_along(input: Ref, out: Shape, dims: Sequence[int]) -> Link:
    read = {dim % len(input.shape) for dim in dims}
    return Axes([None if dim in read else (dim, None) for dim in range(len(input.shape))], len(out))


@_is_for(*FRESH)
def _fresh(*_: Any, **__: Any) -> Links:
    return []  # of what it was given, only the size has a part in this


@_is_for("batch_norm")
def _batch_norm(
    operation: Operation, out: Shape, output: int, /, input: Ref, mean: Any, var: Any, *a: Any, **n: Any
) -> Links:
    _require_constant(operation, input)
    is_of_the_batch = mean is None or n.get("training", a[2] if len(a) > 2 else False)
    return [(input, _all_along(input, out, [0, *range(2, len(out))] if is_of_the_batch else []))]


@_is_for("linear")
def _linear(operation: Operation, out: Shape, output: int, /, input: Ref, *_: Any, **__: Any) -> Links:
    _require_constant(operation, input)
    return [(input, _all_along(input, out, [-1]))]


@_is_for("softmax", "log_softmax", "softmin")
def _softmax(operation: Operation, out: Shape, output: int, /, input: Ref, dim: int, *_: Any, **__: Any) -> Links:
    return [(input, _all_along(input, out, [dim]))]


@_is_for("normalize")
def _normalize(
    operation: Operation, out: Shape, output: int, /, input: Ref, p: float = 2.0, dim: int = 1, *_: Any, **__: Any
) -> Links:
    return [(input, _all_along(input, out, [dim]))]


@_is_for("layer_norm", "rms_norm")
def _layer_norm(
    operation: Operation, out: Shape, output: int, /, input: Ref, normalized_shape: Sequence[int], *_: Any, **__: Any
) -> Links:
    _require_constant(operation, input)
    return [(input, _all_along(input, out, range(-len(normalized_shape), 0)))]


@_is_for("group_norm")
def _group_norm(
    operation: Operation, out: Shape, output: int, /, input: Ref, num_groups: int, *_: Any, **__: Any
) -> Links:
    _require_constant(operation, input)
    channels = (1, Grouped(num_groups, out[1], out[1]))
    return [(input, Axes([(0, None), channels, *[None] * (len(out) - 2)], len(out)))]


@_is_for("instance_norm")
def _instance_norm(operation: Operation, out: Shape, output: int, /, input: Ref, *_: Any, **__: Any) -> Links:
    _require_constant(operation, input)
    return [(input, _all_along(input, out, range(2, len(out))))]


@_is_for("mean", "sum", "amax", "amin", "std", "var", "prod", "logsumexp", "argmax", "argmin", "median")
def _reduction(
    operation: Operation, out: Shape, output: int, /, input: Ref, dim: Any = None, *_: Any, **named: Any
) -> Links:
    dim = named.get("axis", dim)
    if isinstance(dim, bool):
        raise NotFollowed
    rank = len(input.shape)
    dims = range(rank) if dim is None or dim == () else [dim] if isinstance(dim, int) else dim
    read = {each % rank for each in dims}
    is_kept = len(out) == rank
    kept = [d for d in range(rank) if d not in read]
    return [
        (input, Axes([None if d in read else (d if is_kept else kept.index(d), None) for d in range(rank)], len(out)))
    ]


@_is_for("norm")
def _norm(
    operation: Operation, out: Shape, output: int, /, input: Ref, p: Any = None, dim: Any = None, *_: Any, **named: Any
) -> Links:
    return _reduction(operation, out, output, input, dim, **named)


@_is_for("max", "min")
def _extreme(
    operation: Operation, out: Shape, output: int, /, input: Ref, dim: Any = None, *a: Any, **named: Any
) -> Links:
    if isinstance(dim, Ref):
        return _elementwise(operation, out, output)
    return _reduction(operation, out, output, input, dim, *a, **named)


# --- products ---------------------------------------------------------------------------------------------------------


@_is_for("matmul", "bmm", "mm", "rmatmul")
def _matmul(operation: Operation, out: Shape, output: int, /, input: Ref, other: Ref) -> Links:
    left, right = (other, input) if operation.function == "rmatmul" else (input, other)
    if min(len(left.shape), len(right.shape)) < 2:
        raise NotFollowed
    ends = len(out) - 2, len(out) - 1
    rows = (*_batch(left, out), (ends[0], None), None)
    columns = (*_batch(right, out), None, (ends[1], None))
    return [(left, Axes(rows, len(out))), (right, Axes(columns, len(out)))]


def _batch(ref: Ref, out: Shape) -> list[tuple[int, None] | None]:
    """The dimensions before the last two, aligned at the right."""
    shift = len(out) - len(ref.shape)
    return [(d + shift, None) if ref.shape[d] == out[d + shift] else None for d in range(len(ref.shape) - 2)]


@_is_for("scaled_dot_product_attention")
def _attention(
    operation: Operation,
    out: Shape,
    output: int,
    /,
    query: Ref,
    key: Ref,
    value: Ref,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **_: Any,
) -> Links:
    if attn_mask is not None or is_causal:
        raise NotFollowed
    ends = len(out) - 2, len(out) - 1
    return [
        (query, Axes([*_batch(query, out), (ends[0], None), None], len(out))),
        (key, Axes([*_batch(key, out), None, None], len(out))),
        (value, Axes([*_batch(value, out), None, (ends[1], None)], len(out))),
    ]


@_is_for("einsum")
def _einsum(operation: Operation, out: Shape, output: int, /, equation: str, *operands: Any) -> Links:
    left, arrow, right = equation.replace(" ", "").partition("->")
    factors, refs = left.split(","), list(found(Ref, operands))
    if "." in equation or not arrow or any(len(set(factor)) < len(factor) for factor in factors):
        raise NotFollowed
    return [
        (ref, Axes([(right.index(letter), None) if letter in right else None for letter in factor], len(right)))
        for ref, factor in zip(refs, factors, strict=True)
    ]


# --- the same numbers in other places ---------------------------------------------------------------------------------

_OF_TENSORS = (
    *("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as", "permute"),
    *("transpose", "swapaxes", "swapdims", "t", "chunk", "tensor_split", "split", "split_with_sizes"),
    *("narrow", "unbind", "select", "flip", "fliplr", "flipud", "roll", "repeat", "tile", "repeat_interleave"),
    *("movedim", "diagonal", "rot90"),
)
_OF_FUNCTIONAL = ("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle")


def _moves(
    function: Callable[..., Any], operation: Operation, out: Shape, output: int, /, *args: Any, **kwargs: Any
) -> Links:
    """Run the function on the places of the numbers, counted from 1 on; what is 0 afterwards came from nowhere."""
    starts: dict[tuple[int | None, int, int | None], tuple[int, Ref]] = {}
    end = 1

    def places(ref: Ref) -> Tensor:
        nonlocal end
        if ref.operation is None:
            return torch.zeros(ref.shape, dtype=torch.float64)
        key = ref.operation, ref.output, ref.constant
        if key not in starts:
            starts[key] = end, ref
            end += math.prod(ref.shape)
        first = starts[key][0]
        return torch.arange(first, first + math.prod(ref.shape), dtype=torch.float64).reshape(ref.shape)

    given, named = replaced(Ref, places, (args, kwargs))
    result = function(*given, **named)
    made = list(found(Tensor, result)) or [given[0]]
    numbers = made[output].long()
    assert tuple(numbers.shape) == out, "the function is not the one that was recorded"
    links: Links = []
    for first, ref in starts.values():
        is_of_it = (numbers >= first) & (numbers < first + math.prod(ref.shape))
        links.append((ref, Moved(torch.where(is_of_it, numbers - first, -1), ref.shape)))
    return links


def _indexed(operation: Operation, out: Shape, output: int, /, *args: Any, **kwargs: Any) -> Links:
    """By numbers and slices; a tensor that says which is not here to be asked."""
    if any(True for _ in found(Ref, args[1])):
        raise NotFollowed
    if plain(operation.name) == "setitem" and not isinstance(args[2], Ref):
        args = (*args[:2], 0.0)
    return _moves(getattr(Tensor, f"__{plain(operation.name)}__"), operation, out, output, *args, **kwargs)


_LINKS.update({name: partial(_moves, getattr(Tensor, name)) for name in _OF_TENSORS})
_LINKS.update(
    {name: partial(_moves, getattr(functional, name)) for name in _OF_FUNCTIONAL if hasattr(functional, name)}
)
_LINKS.update(
    {
        "getitem": _indexed,
        "setitem": _indexed,
        "T": partial(_moves, lambda x: x.mT if x.dim() == 2 else x.permute(*range(x.dim())[::-1])),
        "mT": partial(_moves, lambda x: x.mT),
        **{name: partial(_moves, torch.cat) for name in ("cat", "concat", "concatenate")},
        "stack": partial(_moves, torch.stack),
    }
)


@_is_for("pad")
def _pad(
    operation: Operation, out: Shape, output: int, /, input: Ref, pad: Any, mode: str = "constant", value: Any = None
) -> Links:
    return _moves(functional.pad, operation, out, output, input, pad, mode)


@_is_for("unfold")
def _unfold(operation: Operation, out: Shape, output: int, /, input: Ref, *args: Any, **kwargs: Any) -> Links:
    is_along_one = len(out) == len(input.shape) + 1
    return _moves(Tensor.unfold if is_along_one else functional.unfold, operation, out, output, input, *args, **kwargs)

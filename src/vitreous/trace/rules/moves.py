"""The same numbers in another shape or order, parts of them, and several tensors put together."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from vitreous.trace.arguments import found
from vitreous.trace.rules.parts import NotFollowed, Seen, Sights, cropped, is_for, joined, stepped_dims
from vitreous.trace.shapes import Shape
from vitreous.trace.sight import Sight


@is_for("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as")
def _reshape(out: Shape, /, input: Seen, *_: Any, **__: Any) -> Sights:
    groups = _corresponding(input.shape, out)

    def through(sight: Sight) -> Sight:
        if sight.dim is None:
            return sight
        extent = input.shape[sight.dim]
        if extent == 1:
            return sight.whole(1)
        ins, outs = next(group for group in groups if sight.dim in group[0])
        if len(outs) > 1:
            return sight.some(extent)
        return sight.moved(outs[0]) if len(ins) == 1 else sight.scattered(extent, outs[0])

    return tuple(through(sight) for sight in input.axes)


def _corresponding(before: Shape, after: Shape) -> list[tuple[list[int], list[int]]]:
    """Which dimensions become which: the shortest runs on both sides that hold equally many numbers, ones left out."""
    ins = [dim for dim, extent in enumerate(before) if extent != 1]
    outs = [dim for dim, extent in enumerate(after) if extent != 1]
    if math.prod(before) != math.prod(after) or math.prod(before) == 0:
        raise NotFollowed
    groups: list[tuple[list[int], list[int]]] = []
    while ins:
        group = ([ins.pop(0)], [outs.pop(0)])
        while (left := math.prod(before[d] for d in group[0])) != (right := math.prod(after[d] for d in group[1])):
            group[left > right].append((outs if left > right else ins).pop(0))
        groups.append(group)
    return groups


@is_for("permute")
def _permute(out: Shape, /, input: Seen, *dims: Any, **named: Any) -> Sights:
    order = named.get("dims", dims[0] if len(dims) == 1 and not isinstance(dims[0], int) else dims)
    places = [dim % len(input.shape) for dim in order]
    return tuple(sight if sight.dim is None else sight.moved(places.index(sight.dim)) for sight in input.axes)


@is_for("transpose", "swapaxes", "swapdims")
def _transpose(out: Shape, /, input: Seen, dim0: int, dim1: int) -> Sights:
    order = list(range(len(input.shape)))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return _permute(out, input, order)


@is_for("t", "T", "mT")
def _turn(out: Shape, /, input: Seen) -> Sights:
    if len(input.shape) < 2:
        raise NotFollowed
    return _transpose(out, input, -2, -1)


@is_for("flip")
def _flip(out: Shape, /, input: Seen, *given: Any, **named: Any) -> Sights:
    return _reordered(out, input, list(found(int, (given, named))))


@is_for("roll")
def _roll(out: Shape, /, input: Seen, shifts: Any, dims: Any = ()) -> Sights:
    return _reordered(out, input, list(found(int, dims)) or range(len(out)))


def _reordered(out: Shape, input: Seen, dims: Sequence[int]) -> Sights:
    """The units keep what they see and change places: of one place it is not said which of them it has."""
    turned = {dim % len(out) for dim in dims}
    return tuple(
        sight.scattered(out[sight.dim], sight.dim) if sight.dim in turned and sight.dim is not None else sight
        for sight in input.axes
    )


@is_for("getitem")
def _item(out: Shape, /, input: Seen, index: Any) -> Sights:
    places = _indexed(index, len(input.shape))

    def through(sight: Sight) -> Sight:
        if sight.dim is None:
            return sight
        extent, (part, dim) = input.shape[sight.dim], places[sight.dim]
        if dim is None or not isinstance(part, slice):  # one of the units
            return sight.some(extent)
        start, stop, step = part.indices(extent)
        moved = sight.moved(dim).slide(1, step, -start)
        return moved if start == 0 and stop == extent else cropped(moved)

    cuts_channels = any(
        not isinstance(part, slice) or part.indices(extent) != (0, extent, 1)
        for number, (extent, (part, _)) in enumerate(zip(input.shape, places, strict=True))
        if number > 0 and number not in stepped_dims(input)
    )
    return tuple(through(sight.parted() if cuts_channels else sight) for sight in input.axes)


def _indexed(index: Any, num_dims: int) -> list[tuple[Any, int | None]]:
    """For each dimension: what is taken of it, and where it goes; None where it goes away."""
    parts = list(index) if isinstance(index, tuple) else [index]
    if not all(
        part is None or part is ... or (isinstance(part, int | slice) and not isinstance(part, bool)) for part in parts
    ):
        raise NotFollowed  # chosen by a tensor or a list
    named = sum(part is not None and part is not ... for part in parts)
    rest: list[Any] = [slice(None)] * (num_dims - named)
    at = next((n for n, part in enumerate(parts) if part is ...), len(parts))
    places: list[tuple[Any, int | None]] = []
    dim = 0
    for part in [*parts[:at], *rest, *parts[at + 1 :]]:
        if part is not None:
            places.append((part, None if isinstance(part, int) else dim))
        dim += not isinstance(part, int)
    return places


@is_for("chunk", "tensor_split")
def _chunk(out: Shape, /, input: Seen, chunks: Any, dim: int = 0) -> Sights:
    return _split(out, input, chunks, dim)


@is_for("split", "split_with_sizes")
def _split(out: Shape, /, input: Seen, split_size: Any, dim: int = 0) -> Sights:
    cut = dim % len(input.shape)
    return tuple(sight.some(input.shape[cut]) if sight.dim == cut else sight.parted() for sight in input.axes)


@is_for("narrow")
def _narrow(out: Shape, /, input: Seen, dim: int, start: Any, length: int) -> Sights:
    return _split(out, input, length, dim)


@is_for("unbind", "select")
def _unbind(out: Shape, /, input: Seen, dim: int = 0, *_: Any) -> Sights:
    cut = dim % len(input.shape)

    def through(sight: Sight) -> Sight:
        if sight.dim is None or sight.dim == cut:
            return sight if sight.dim is None else sight.some(input.shape[cut])
        return sight.moved(sight.dim - (cut < sight.dim))

    return tuple(through(sight.parted()) for sight in input.axes)


@is_for("cat", "concat", "concatenate")
def _cat(out: Shape, /, tensors: Sequence[Seen], dim: int = 0, **others: Any) -> Sights:
    along = others.get("axis", dim) % len(out)
    scattered = [
        Seen(each.shape, tuple(s.scattered(each.shape[along], along) if s.dim == along else s for s in each.axes))
        for each in tensors
        if each.axes
    ]
    through = joined(out, scattered, aligned=False)
    differ = [len({each.axes[axis] for each in scattered}) > 1 for axis in range(len(through))]
    return tuple(
        replace(sight, is_mixed=True) if differs and sight.is_known and sight.dim != along else sight
        for sight, differs in zip(through, differ, strict=True)
    )


@is_for("stack")
def _stack(out: Shape, /, tensors: Sequence[Seen], dim: int = 0) -> Sights:
    new = dim % len(out)
    moved = [
        Seen(out, tuple(s if s.dim is None else s.moved(s.dim + (s.dim >= new)) for s in each.axes))
        for each in tensors
        if each.axes
    ]
    return joined(out, moved)

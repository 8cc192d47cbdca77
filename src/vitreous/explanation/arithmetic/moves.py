"""Operations that only move numbers: which one came here is found by moving their places in the same way."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vitreous.explanation.arithmetic.parts import Asked, NotFollowed, Parts, explains, one, part
from vitreous.trace.arguments import replaced
from vitreous.trace.recording import Ref

MOVING = (
    *("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as", "ravel", "permute"),
    *("transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "T", "mT", "getitem", "setitem", "diagonal"),
    *("chunk", "split", "split_with_sizes", "tensor_split", "narrow", "unbind", "select", "index_select", "gather"),
    *("flip", "roll", "rot90", "repeat", "tile", "repeat_interleave", "expand", "expand_as", "broadcast_to"),
    *("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle", "unfold", "tril", "triu"),
    *("cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack", "where", "masked_fill", "pad"),
    *("max_unpool1d", "max_unpool2d", "max_unpool3d"),
)
_JOINING = frozenset(("cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack"))
_STAYING = ("contiguous", "clone", "detach", "alias", "to", "float", "double", "half", "bfloat16", "type_as", "type")
_DROPPING = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")


@explains(*_STAYING, "data")
def staying(asked: Asked) -> Parts:
    """The same number, as far as its new kind can hold it."""
    source = asked.tensors()[0]
    if asked.of(source).is_floating_point() and not asked.made.is_floating_point():
        raise NotFollowed(f"what {str(asked.made.dtype).removeprefix('torch.')} leaves of a number is not taken apart.")
    return Parts([part(asked, source, one(asked.index), 1.0)], how="the same number")


@explains(*_DROPPING)
def dropping(asked: Asked) -> Parts:
    """The same number, unless the forward asks for a dropout that also draws in evaluation mode."""
    by_default = not asked.operation.function.endswith("alpha_dropout")
    draws = asked.operation.kwargs.get("train", asked.argument(2, "training", by_default))
    if draws and asked.argument(1, "p", 0.5) > 0:
        raise NotFollowed("this dropout draws in evaluation mode too (training=True), and what it drew is not known.")
    return Parts([part(asked, asked.tensors()[0], one(asked.index), 1.0)], how="the same number: nothing is dropped")


# --- moves ------------------------------------------------------------------------------------------------------------


@explains(*MOVING)
def moving(asked: Asked) -> Parts:
    """The number of the source that came to this place; or a constant that was put there, such as a padding's zero.

    All sources' places are numbered through, from 1 (doubles hold them exactly), and moved as the numbers were; what is
    0 then came from nowhere, and the constants that an argument names are numbered below 0.
    """
    if asked.operation.function == "view" and asked.made.dtype != asked.of(asked.tensors()[0]).dtype:
        raise NotFollowed("the bits of numbers are read as those of another kind.")
    sources = _sources(asked)
    starts: dict[int, int] = {}
    for ref in sources:
        starts.setdefault(id(ref), 1 + sum(math.prod(each.shape) for each in sources[: len(starts)]))

    def places_of(ref: Ref) -> Tensor:
        if id(ref) not in starts:
            return asked.of(ref).cpu()  # an index or a condition
        start = starts[id(ref)]
        return torch.arange(start, start + math.prod(ref.shape), dtype=torch.float64).view(ref.shape)

    constants: list[float] = []
    args, kwargs = replaced(Ref, places_of, _with_named_constants(asked, constants))
    moved = _moved(asked, args, kwargs)
    if tuple(moved.shape) != asked.operation.outputs[asked.output]:
        raise NotFollowed(f"{asked.operation.function} was called in a way that is not followed.")
    at = int(moved[asked.index])
    if at <= 0:
        is_padding = asked.operation.function in ("pad", "unfold")
        return Parts([], how="padding" if is_padding else "a constant", bias=constants[-1 - at] if at else 0.0)
    ref = next(ref for ref in reversed(sources) if starts[id(ref)] <= at)
    index = torch.unravel_index(torch.tensor(at - starts[id(ref)]), ref.shape)
    return Parts([part(asked, ref, one([int(each) for each in index]), 1.0)], how="the same number, moved")


def _sources(asked: Asked) -> list[Ref]:
    """The tensors whose numbers move; the others say where to."""
    refs = asked.tensors()
    match asked.operation.function:
        case joining if joining in _JOINING:
            return refs
        case "where":
            return [each for each in _choice(asked)[1:] if isinstance(each, Ref)]
        case "setitem" | "masked_fill":
            return [refs[0], *(each for each in [asked.argument(2, "value")] if isinstance(each, Ref))]
    return refs[:1]


def _choice(asked: Asked) -> tuple[Ref, Any, Any]:
    """Condition, yes and no of a ``where``; ``x.where(condition, y)`` has them in another order."""
    first, second = asked.argument(0, "condition"), asked.argument(1, "input")
    is_method = isinstance(second, Ref) and asked.of(second).dtype == torch.bool
    condition, yes = (second, first) if is_method else (first, second)
    return condition, yes, asked.argument(2, "other")


def _with_named_constants(asked: Asked, constants: list[float]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with -1, -2 ... in place of the numbers that the operation puts somewhere."""

    def named(value: Any) -> Any:
        if isinstance(value, Ref) or value is None:
            return value
        constants.append(float(value))
        return -float(len(constants))

    args, kwargs = asked.operation.args, dict(asked.operation.kwargs)
    match asked.operation.function:
        case "pad":
            given = dict(zip(("input", "pad", "mode", "value"), args, strict=False)) | kwargs
            if given.get("mode", "constant") == "constant":
                given["value"] = named(given.get("value") or 0.0)
            return (given.pop("input"), given.pop("pad")), given
        case "where":
            return tuple(map(named, _choice(asked))), {}
        case "setitem":
            return (*args[:2], named(args[2])), kwargs
        case "masked_fill":
            given = dict(zip(("input", "mask", "value"), args, strict=False)) | kwargs
            return (given["input"], given["mask"], named(given["value"])), {}
    return args, kwargs


def _moved(asked: Asked, args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor:
    """What the operation makes of places."""
    name = asked.operation.name
    if name == "__setitem__":
        args[0][args[1]] = args[2]
        written: Tensor = args[0]
        return written
    moved = _function(asked)(*args, **kwargs)
    return moved if isinstance(moved, Tensor) else moved[asked.output]


def _function(asked: Asked) -> Callable[..., Any]:
    """The torch function that a recording calls by this name."""
    name, rank = asked.operation.name, len(asked.operation.outputs[0])
    if name == "unfold" and rank != len(asked.tensors()[0].shape) + 1:  # two functions have this name
        return functional.unfold
    if name == "where":
        return torch.where
    for owner in (Tensor, functional, torch):
        found = getattr(owner, name, None)
        if callable(found):
            return found  # type: ignore[no-any-return]
        if found is not None:  # a property: x.T, x.mT
            return lambda tensor: getattr(tensor, name)
    raise NotFollowed(f"torch has no function {name} that could be asked.")

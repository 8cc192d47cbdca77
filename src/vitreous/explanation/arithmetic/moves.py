"""Operations that only move numbers: which one came here is found by moving their places in the same way."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vitreous.explanation.arithmetic.parts import Asked, NotFollowed, Parts, explains, one, part
from vitreous.trace.arguments import replaced
from vitreous.trace.recording import Ref

_MOVING = (
    *("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as", "permute"),
    *("transpose", "swapaxes", "swapdims", "t", "T", "mT", "getitem", "chunk", "split", "split_with_sizes"),
    *("tensor_split", "narrow", "unbind", "select", "flip", "roll", "repeat", "expand", "expand_as"),
    *("broadcast_to", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "cat", "concat", "concatenate"),
    *("stack", "pad", "repeat_interleave", "unfold"),
)
_STAYING = (
    *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "contiguous"),
    *("clone", "detach", "alias", "to", "float", "double", "half", "bfloat16", "type_as", "type", "data"),
)
_NOWHERE = -1.0


@explains(*_STAYING)
def staying(asked: Asked) -> Parts:
    """The same number, in evaluation mode."""
    return Parts([part(asked, asked.tensors()[0], one(asked.index), 1.0)], how="the same number")


@explains(*_MOVING)
def moving(asked: Asked) -> Parts:
    """The number of the source that came to this place; or, of a padding, its constant."""
    refs = asked.tensors()
    starts: dict[int, int] = {}
    for ref in refs:  # the places of all sources, numbered through: the doubles that stand for them are exact
        starts.setdefault(id(ref), sum(math.prod(each.shape) for each in refs[: len(starts)]))

    def places_of(ref: Ref) -> Tensor:
        numel = math.prod(ref.shape)
        return torch.arange(starts[id(ref)], starts[id(ref)] + numel, dtype=torch.float64).view(ref.shape)

    args, kwargs = replaced(Ref, places_of, (asked.operation.args, dict(asked.operation.kwargs)))
    fill = 0.0
    if asked.operation.function == "pad":
        fill = _fill(asked)
        args, kwargs = _filled_with_nowhere(args, kwargs)
    moved = _function(asked.operation.name)(*args, **kwargs)
    moved = moved if isinstance(moved, Tensor) else moved[0]
    at = float(moved[asked.index])
    if at == _NOWHERE:
        return Parts([], how="padding", bias=fill)
    ref = next(ref for ref in reversed(refs) if starts[id(ref)] <= at)
    index = torch.unravel_index(torch.tensor(int(at) - starts[id(ref)]), ref.shape)
    return Parts([part(asked, ref, one([int(each) for each in index]), 1.0)], how="the same number, moved")


def _fill(asked: Asked) -> float:
    return float(asked.argument(3, "value") or 0.0)


def _filled_with_nowhere(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    given = dict(zip(("input", "pad", "mode", "value"), args, strict=False)) | kwargs
    if given.get("mode", "constant") == "constant":
        given["value"] = _NOWHERE
    return (given.pop("input"), given.pop("pad")), given


def _function(name: str) -> Callable[..., Any]:
    """The torch function that a recording calls by this name."""
    for owner in (Tensor, functional, torch):
        found = getattr(owner, name, None)
        if callable(found):
            return found  # type: ignore[no-any-return]
        if found is not None:  # a property: x.T, x.mT
            return lambda tensor: getattr(tensor, name)
    raise NotFollowed(f"torch has no function {name} that could be asked.")

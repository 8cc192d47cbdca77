"""Tensors that share their numbers: what was written through one view shows in the others."""

import math
from functools import partial

import torch
from torch import Tensor

from vitreous.explanation.arithmetic.moves import MOVING
from vitreous.explanation.arithmetic.numbers import broadcast
from vitreous.explanation.arithmetic.parts import Asked, NotFollowed, Parts, explains, one, part
from vitreous.trace.arguments import found, replaced
from vitreous.trace.recording import WRITTEN_THROUGH_A_VIEW, Operation, Ref
from vitreous.trace.values import Values

_COPYING = frozenset(("setitem", "index_select", "gather", "flip", "roll", "repeat", "tile", "cat", "stack", "where"))
_SAME = frozenset(("contiguous", "detach", "alias", "data"))


@explains(WRITTEN_THROUGH_A_VIEW)
def written_through_a_view(asked: Asked) -> Parts:
    """The number as it was, or the one that was written where it is stored, through another view of it."""
    before, written = asked.tensors()
    owner, mine = _stored(asked.values, before)
    other, theirs = _stored(asked.values, written)
    if owner != other:
        raise NotFollowed("which number of the other view this is cannot be told.")
    hits = (theirs == mine[asked.index]).nonzero()
    if not len(hits):
        return Parts([part(asked, before, one(asked.index), 1.0)], how="the same number, not written to")
    return Parts([part(asked, written, one(hits[0].tolist()), 1.0)], how="the number written through another view")


def _stored(values: Values, ref: Ref) -> tuple[tuple[int | None, int, int | None], Tensor]:
    """The tensor that a view is one of, and the places in it of the view's numbers."""
    chain: list[tuple[Operation, int]] = []
    while ref.operation is not None:
        operation, output = values.recording.operations[ref.operation], ref.output
        is_written = operation.name == WRITTEN_THROUGH_A_VIEW or _is_in_place(operation)
        if not is_written and not _may_be_view(operation):
            break
        if not is_written:
            chain.append((operation, output))
        ref = next(found(Ref, (operation.args, dict(operation.kwargs))))
    places = torch.arange(math.prod(ref.shape)).view(ref.shape)
    for operation, output in reversed(chain):
        if operation.function not in _SAME:
            places = _viewed(values, operation, places)[output]
    return (ref.operation, ref.output, ref.constant), places


def _viewed(values: Values, operation: Operation, places: Tensor) -> list[Tensor]:
    first = next(found(Ref, (operation.args, dict(operation.kwargs))))
    args, kwargs = replaced(Ref, partial(_in_place_of, values, first, places), (operation.args, dict(operation.kwargs)))
    function = getattr(Tensor, operation.name, None)
    if function is None:
        raise NotFollowed("which number of the other view this is cannot be told.")
    made = function(*args, **kwargs) if callable(function) else getattr(places, operation.name)
    return list(found(Tensor, made))


def _in_place_of(values: Values, first: Ref, places: Tensor, ref: Ref) -> Tensor:
    return places if ref is first else values.of(ref)


def _is_in_place(operation: Operation) -> bool:
    name = operation.name
    if name.startswith("__"):
        return name == "__setitem__" or name.startswith("__i")
    return name.endswith("_") or operation.kwargs.get("inplace") is True


def _may_be_view(operation: Operation) -> bool:
    if operation.function == "getitem" and any(True for _ in found(Ref, operation.args[1])):
        return False
    return operation.function in _SAME or (operation.function in MOVING and operation.function not in _COPYING)


@explains("copy")
def copied(asked: Asked) -> Parts:
    """The number of the other tensor, which may be broadcast."""
    source = asked.argument(1, "src")
    return Parts([part(asked, source, one(broadcast(asked.index, source)), 1.0)], how="the same number, written here")


@explains("fill", "zero")
def filled(asked: Asked) -> Parts:
    """A constant that stands everywhere."""
    value = 0.0 if asked.operation.function == "zero" else asked.argument(1, "value")
    if isinstance(value, Ref):
        return Parts([part(asked, value, one(()), 1.0)], how="the same number, written everywhere")
    return Parts([], how="a constant, written over what was there", bias=float(value))

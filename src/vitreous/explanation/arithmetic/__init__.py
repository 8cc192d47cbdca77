"""The sum behind every number: bias + weights times activations, each operand with an address of its own.

    parts.py      what a rule is asked and what it answers
    windows.py    convolution, pooling, enlarging
    wholes.py     dense layers, matrix products, means, normalisation, softmax
    numbers.py    activations, sums and products of tensors
    moves.py      what only moves numbers

A number of any operation of a recorded forward is worked out anew in float64 from the operands that the network really
had, and compared with what it really computed. An operation that is not known is refused by name and never guessed.
"""

import difflib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from vitreous.errors import UserError
from vitreous.explanation.arithmetic import moves, numbers, wholes, windows
from vitreous.explanation.arithmetic.parts import RULES, Asked, Index, NotFollowed, Part, Parts
from vitreous.trace.recording import Ref
from vitreous.trace.values import Values

__all__ = ["Address", "Channel", "NotFollowed", "Sum", "Term", "address_text", "explain_number"]

_ROOMS = (moves, numbers, wholes, windows)  # imported for the rules that they bring
_ROUNDING = {torch.float64: 1e-13, torch.float32: 1e-5, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-10}


@dataclass(frozen=True, slots=True)
class Address:
    """Where one number stands: an operation by its name, which run of it, and the place in its output.

    A parameter has no run; ``layer`` is its name then.
    """

    layer: str
    call: int
    at: tuple[int, ...]
    is_parameter: bool = False

    def to_json(self) -> dict[str, Any]:
        """As in the documents of ``vitreous explain``."""
        document = {"layer": self.layer, "call": self.call, "at": list(self.at)}
        return document | ({"parameter": True} if self.is_parameter else {})

    def __str__(self) -> str:
        run = f" (run {self.call + 1})" if self.call else ""
        return f"{self.layer}{run} at {','.join(map(str, self.at))}"


@dataclass(frozen=True, slots=True)
class Term:
    """One summand. ``weight`` is None where nothing is multiplied: then ``product`` is what the number contributes."""

    source: Address
    padding: bool
    weight: float | None
    activation: float
    product: float
    weight_source: Address | None = None

    def to_json(self) -> dict[str, Any]:
        """As in the documents of ``vitreous explain``."""
        document = {
            "source": self.source.to_json(),
            "padding": self.padding,
            "weight": self.weight,
            "activation": self.activation,
            "product": self.product,
        }
        return document | ({"weight_source": self.weight_source.to_json()} if self.weight_source else {})


@dataclass(frozen=True, slots=True)
class Channel:
    """What the terms of one input channel make together."""

    channel: int
    num_terms: int
    total: float


@dataclass(frozen=True)
class Sum:
    """One number, what it was made of, and whether that agrees with what the network computed."""

    address: Address
    op: str
    how: str
    steps: tuple[str, ...]
    dtype: str
    value: float  # what the network computed
    bias: float
    total: float  # what float64 makes of the operands
    bound: float  # that the rounding of the network's own precision explains
    _parts: tuple[Part, ...]
    _values: Values

    @property
    def difference(self) -> float:
        """The network's value less the total."""
        return self.value - self.total

    @property
    def holds(self) -> bool:
        """Whether the difference is rounding."""
        return abs(self.difference) <= self.bound or not math.isfinite(self.total)

    @property
    def num_terms(self) -> int:
        """Of all kinds, those on padding too."""
        return sum(len(part.places) for part in self._parts)

    @cached_property
    def terms(self) -> tuple[Term, ...]:
        """In the order in which they stand in the operation."""
        return tuple(term for part in self._parts for term in self._terms(part, range(len(part.places))))

    def largest(self, count: int) -> list[Term]:
        """The terms with the largest products, whatever their sign."""
        sizes = [(abs(product), p, t) for p, part in enumerate(self._parts) for t, product in enumerate(part.products)]
        chosen = sorted(sizes, key=lambda each: (-each[0], each[1:]))[:count]
        return [next(self._terms(self._parts[p], [t])) for _, p, t in chosen]

    @cached_property
    def channels(self) -> tuple[Channel, ...]:
        """Subtotals by channel of the input, where the terms are of several channels of one map."""
        if len(self._parts) != 1 or len(self._parts[0].source.shape) < 3:
            return ()
        part = self._parts[0]
        groups = np.unique(part.places[:, 1])
        if len(groups) < 2:
            return ()
        return tuple(
            Channel(int(group), int(mine.sum()), float(part.products[mine].sum()))
            for group in groups
            for mine in [part.places[:, 1] == group]
        )

    def to_json(self) -> dict[str, Any]:
        """The document of ``vitreous explain --layer --at --json``."""
        return {
            "layer": self.address.layer,
            "call": self.address.call,
            "at": list(self.address.at),
            "op": self.op,
            "dtype": self.dtype,
            "value": self.value,
            "bias": self.bias,
            "terms": [term.to_json() for term in self.terms],
            "channels": [{"channel": c.channel, "terms": c.num_terms, "sum": c.total} for c in self.channels],
            "formula": self.how,
            "steps": list(self.steps),
            "sum": self.total,
            "difference": self.difference,
            "bound": self.bound,
        }

    def _terms(self, part: Part, chosen: Sequence[int]) -> Iterator[Term]:
        for number in chosen:
            weight = float(part.weights[number])
            factor = None
            if part.weight_source is not None and part.weight_places is not None:
                factor = _address(self._values, part.weight_source, part.weight_places[number].tolist())
            yield Term(
                source=_address(self._values, part.source, part.places[number].tolist()),
                padding=bool(part.is_padding[number]),
                weight=None if math.isnan(weight) else weight,
                activation=float(part.activations[number]),
                product=float(part.products[number]),
                weight_source=factor,
            )


def explain_number(values: Values, layer: str, at: Sequence[int], call: int = 0) -> Sum:
    """The sum behind one number of a recorded forward.

    Args:
        values: of ``trace.values.record_values``.
        layer: an operation's name, or a module's path: then the operation whose result it gave back.
        at: the place in its output, without the dimension of the batch: (channel, y, x) of a map.
        call: which run, where a module runs several times.

    Raises:
        UserError: there is no such layer or place; the message names the nearest or the limits.
        NotFollowed: nothing is known of the operation; the message says what can be asked instead.
    """
    number = _operation(values, layer, call)
    operation = values.recording.operations[number]
    index = _index(operation.outputs[0], at, layer)
    if number == 0:
        return _pixel(values, index)
    asked = Asked(values, operation, index)
    made = _parts(values, asked, number)
    output = values.outputs[number][0]
    products = np.concatenate([part.products for part in made.parts] or [np.zeros(0)])
    total = made.bias + float(products.sum()) if made.value is None else made.value
    scale = abs(made.bias) + float(np.abs(products).sum())
    rounding = max(_ROUNDING.get(each.dtype, 0.0) for each in (output, *(asked.of(part.source) for part in made.parts)))
    return Sum(
        address=Address(values.recording.names[number], operation.call, _outward(operation.outputs[0], index)),
        op=operation.function,
        how=made.how,
        steps=tuple(made.steps),
        dtype=str(output.dtype).removeprefix("torch."),
        value=float(output[index]),
        bias=made.bias,
        total=total,
        bound=rounding * max(scale, abs(total)),
        _parts=tuple(made.parts),
        _values=values,
    )


def _parts(values: Values, asked: Asked, number: int) -> Parts:
    name, function = values.recording.names[number], asked.operation.function
    rule = RULES.get(function)
    if _is_constant(values, number):
        value = float(values.outputs[number][0][asked.index])
        return Parts([], how="made of parameters alone: the image has no part in it", bias=value)
    try:
        if rule is None:
            raise NotFollowed(f"how {function} makes its numbers is not known here.")
        return rule(asked)
    except (TypeError, ValueError, IndexError) as error:
        raise NotFollowed(f"{name} calls {function} in a way that is not followed: {error}") from error
    except NotFollowed as error:
        sources = [values.recording.names[ref.operation] for ref in asked.tensors() if ref.operation is not None]
        go_on = f" Go on at what it read: {', '.join(dict.fromkeys(sources))}." if sources else ""
        raise NotFollowed(f"{name}: {error}{go_on}") from None


def _is_constant(values: Values, number: int) -> bool:
    """Whether no way leads from an operation to the image."""
    waiting, seen = [number], {number}
    while waiting:
        for ref in values.recording.operations[waiting.pop()].inputs:
            if ref.operation is not None and ref.operation not in seen:
                seen.add(ref.operation)
                waiting.append(ref.operation)
    return 0 not in seen


def _pixel(values: Values, index: Index) -> Sum:
    image = values.outputs[0][0]
    value = float(image[index])
    return Sum(
        address=Address("input", 0, _outward(tuple(image.shape), index)),
        op="input",
        how="the network's input, where every explanation ends",
        steps=(),
        dtype=str(image.dtype).removeprefix("torch."),
        value=value,
        bias=value,
        total=value,
        bound=0.0,
        _parts=(),
        _values=values,
    )


# --- addresses --------------------------------------------------------------------------------------------------------


def _operation(values: Values, layer: str, call: int) -> int:
    recording = values.recording
    number = recording.find(layer, call)
    if number is not None:
        return number
    known = [*dict.fromkeys((*recording.names, *(module.path for module in recording.modules if module.path)))]
    if layer in known:
        calls = {
            operation.call
            for operation, name in zip(recording.operations, recording.names, strict=True)
            if name == layer
        } or {module.call for module in recording.modules if module.path == layer}
        times = "once" if len(calls) == 1 else f"{len(calls)} times"
        raise UserError(f"{layer} ran {times} in this forward, so --call is 0 to {max(calls)}, not {call}.")
    near = difflib.get_close_matches(layer, known, n=3, cutoff=0.5) or known[1:4]
    raise UserError(f"the network has no layer {layer!r}; there is {', '.join(near)}.")


def _index(shape: Sequence[int], at: Sequence[int], layer: str) -> Index:
    limits = shape[1:] if shape[0] == 1 and len(shape) > 1 else shape
    wanted = " x ".join(map(str, limits)) or "one number"
    if len(at) != len(limits):
        example = ",".join(str(extent // 2) for extent in limits)
        raise UserError(f"{layer} gives {wanted}, so a place has {len(limits)} coordinates: --at {example}")
    for coordinate, limit in zip(at, limits, strict=True):
        if not 0 <= coordinate < limit:
            raise UserError(f"{layer} gives {wanted}, counted from 0; {','.join(map(str, at))} is outside.")
    return (0, *at) if len(limits) < len(shape) else tuple(at)


def _outward(shape: Sequence[int], index: Sequence[int]) -> tuple[int, ...]:
    return tuple(index[1:] if shape[0] == 1 and len(shape) > 1 else index)


def _address(values: Values, ref: Ref, index: Sequence[int]) -> Address:
    if ref.operation is None:
        assert ref.constant is not None
        return Address(values.recording.constants[ref.constant] or "a constant", 0, tuple(index), is_parameter=True)
    operation = values.recording.operations[ref.operation]
    return Address(values.recording.names[ref.operation], operation.call, _outward(ref.shape, index))


def address_text(address: Address) -> str:
    """As it is typed to ask on: ``--layer conv1 --at 3,5,7``."""
    call = f" --call {address.call}" if address.call else ""
    return f"--layer {address.layer} --at {','.join(map(str, address.at))}{call}"

"""The sum behind every number: bias + weights times activations, each operand with an address of its own.

    parts.py      what a rule is asked and what it answers
    windows.py    convolution, pooling, enlarging
    wholes.py     dense layers, matrix products, means, normalisation, softmax
    numbers.py    activations, sums and products of tensors
    moves.py      what only moves numbers
    views.py      numbers written through another view

A number of any operation of a recorded forward is worked out anew in float64 from the operands that the network really
had, and compared with what it really computed. An operation that is not known is refused by name and never guessed.
"""

import difflib
import math
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from vitreous.errors import UserError
from vitreous.explanation.arithmetic import moves, numbers, views, wholes, windows
from vitreous.explanation.arithmetic.moves import MOVING
from vitreous.explanation.arithmetic.parts import RULES, Asked, Index, NotFollowed, Part, Parts
from vitreous.trace.recording import Ref
from vitreous.trace.rules import FRESH
from vitreous.trace.values import Values

__all__ = [
    "Address",
    "Channel",
    "NotFollowed",
    "Sum",
    "Term",
    "address_of",
    "address_text",
    "explain_number",
    "find_output",
    "json_number",
]

_ROOMS = (moves, numbers, views, wholes, windows)  # imported for the rules that they bring
_KEEPING_ORDER = frozenset(("flatten", "view", "reshape", "dropout"))
_ROUNDING = {torch.float64: 1e-13, torch.float32: 1e-5, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-10}


@dataclass(frozen=True, slots=True)
class Address:
    """Where one number stands: an operation by its name, which run of it, and the place in its output.

    A parameter has no run; ``layer`` is its name then. Of an operation that gives several tensors, such as a chunk,
    ``chunk[1]`` is the second.
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
        return f"{self.layer}{run}" + (f" at {','.join(map(str, self.at))}" if self.at else "")


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
            "weight": None if self.weight is None else json_number(self.weight),
            "activation": json_number(self.activation),
            "product": json_number(self.product),
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
        """The network's value less the total; 0 where both are the same infinity."""
        return 0.0 if self.value == self.total else self.value - self.total

    @property
    def holds(self) -> bool:
        """Whether the difference is rounding; where operands are infinite or no numbers, anything may come out."""
        return abs(self.difference) <= self.bound or not math.isfinite(self.bound)

    @property
    def num_terms(self) -> int:
        """Of all kinds, those on padding too."""
        return sum(len(part.places) for part in self._parts)

    @property
    def num_padding(self) -> int:
        """Of the terms, those that stand beside the input and are zeros."""
        return sum(int(part.is_padding.sum()) for part in self._parts)

    @property
    def sum_of_products(self) -> float:
        """Of all terms."""
        return float(sum(part.products.sum() for part in self._parts))

    @cached_property
    def terms(self) -> tuple[Term, ...]:
        """In the order in which they stand in the operation."""
        return tuple(term for part in self._parts for term in self._terms(part, range(len(part.places))))

    def largest(self, count: int) -> list[Term]:
        """The terms with the largest products, whatever their sign."""
        return [next(self._terms(self._parts[p], [t])) for p, t in self._ordered[:count]]

    @cached_property
    def way_on(self) -> Term | None:
        """The largest term that another operation made: where to ask next. None at the image and at constants."""
        for p, t in self._ordered:
            if self._parts[p].source.operation is not None and not self._parts[p].is_padding[t]:
                return next(self._terms(self._parts[p], [t]))
        return None

    @cached_property
    def _ordered(self) -> list[tuple[int, int]]:
        """Every term by the numbers of its part and its place there, the largest product first."""
        owners = [(p, t) for p, part in enumerate(self._parts) for t in range(len(part.places))]
        sizes = np.abs(np.concatenate([part.products for part in self._parts] or [np.zeros(0)]))
        return [owners[each] for each in np.argsort(-sizes, kind="stable")]

    @cached_property
    def channels(self) -> tuple[Channel, ...]:
        """Subtotals by channel of the input, where the terms are of several channels of one map, flattened or not."""
        if len(self._parts) != 1:
            return ()
        part = self._parts[0]
        width = _numbers_in_a_channel(self._values, part.source)
        if width is None:
            return ()
        channels, owners = np.unique(part.places[:, 1] // width, return_inverse=True)
        if len(channels) < 2:
            return ()
        counts, totals = np.bincount(owners), np.bincount(owners, weights=part.products)
        return tuple(Channel(int(c), int(n), float(t)) for c, n, t in zip(channels, counts, totals, strict=True))

    def to_json(self) -> dict[str, Any]:
        """The document of ``vitreous explain --layer --at --json``.

        JSON has no word for what is no finite number: that is one of the texts "NaN", "Infinity", "-Infinity".
        """
        return {
            "layer": self.address.layer,
            "call": self.address.call,
            "at": list(self.address.at),
            "op": self.op,
            "dtype": self.dtype,
            "value": json_number(self.value),
            "bias": json_number(self.bias),
            "terms": [term.to_json() for term in self.terms],
            "channels": [
                {"channel": c.channel, "terms": c.num_terms, "sum": json_number(c.total)} for c in self.channels
            ],
            "formula": self.how,
            "steps": list(self.steps),
            "sum": json_number(self.total),
            "difference": json_number(self.difference),
            "bound": json_number(self.bound),
        }

    def _terms(self, part: Part, chosen: Sequence[int]) -> Iterator[Term]:
        for number in chosen:
            weight = float(part.weights[number])
            factor = None
            if part.weight_source is not None and part.weight_places is not None:
                factor = address_of(self._values, part.weight_source, part.weight_places[number].tolist())
            yield Term(
                source=address_of(self._values, part.source, part.places[number].tolist()),
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
        layer: an operation's name (``chunk[1]``: the second tensor of a chunk) or a module's path: what that gave back.
        at: the place in its output, without the dimension of the batch: (channel, y, x) of a map.
        call: which run, where a module runs several times.

    Raises:
        UserError: there is no such layer or place; the message names the nearest or the limits.
        NotFollowed: nothing is known of the operation; the message says what can be asked instead.
    """
    ref = find_output(values, layer, call)
    assert ref.operation is not None
    index = _index(ref.shape, at, layer)
    if ref.operation == 0:
        return _pixel(values, index)
    asked = Asked(values, ref.operation, index, ref.output)
    with np.errstate(all="ignore"):  # a network may divide by zero
        made = _parts(asked)
        products = np.concatenate([part.products for part in made.parts] or [np.zeros(0)])
        total = made.bias + float(products.sum()) if made.value is None else made.value
        scale = max(abs(made.bias) + float(np.abs(products).sum()), abs(total), made.scale)
    dtypes = [asked.made.dtype, *(asked.of(part.source).dtype for part in made.parts)]
    rounding = max(_ROUNDING.get(dtype, 0.0) for dtype in dtypes)
    overflows = any(dtype in _ROUNDING and scale > torch.finfo(dtype).max for dtype in dtypes)
    return Sum(
        address=address_of(values, ref, index),
        op=asked.operation.function,
        how=made.how,
        steps=tuple(made.steps),
        dtype=str(asked.made.dtype).removeprefix("torch."),
        value=float(asked.made[index]),
        bias=made.bias,
        total=total,
        bound=math.inf if overflows else rounding * scale,
        _parts=tuple(made.parts),
        _values=values,
    )


def _parts(asked: Asked) -> Parts:
    name, function = _name(asked.values, asked.number, asked.output), asked.operation.function
    if any(each.is_complex() for each in (asked.made, *map(asked.of, asked.tensors()))):
        raise _refused(asked, f"{name}: complex numbers are not taken apart.")
    if function in FRESH or _is_constant(asked.values, asked.number):
        how = "a constant" if function in FRESH else "made of parameters alone"
        return Parts([], how=f"{how}: the image has no part in it", bias=float(asked.made[asked.index]))
    rule = RULES.get(function)
    if rule is None:
        raise _refused(asked, f"{name}: how {function} makes its numbers is not known here.")
    if asked.output and function not in MOVING:
        raise _refused(asked, f"{name}: what {function} gives beside its first tensor is not taken apart.")
    try:
        return rule(asked)
    except NotFollowed as error:
        raise _refused(asked, f"{name}: {error}") from None
    except (ArithmeticError, LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        said = str(error).partition("\n")[0].rstrip(".")
        raise _refused(asked, f"{name} calls {function} in a way that is not followed: {said}.") from error


def _refused(asked: Asked, why: str) -> NotFollowed:
    """What is not known, and the addresses of what was read: one can go on there."""
    read = []
    for ref in asked.tensors():
        if ref.operation is not None:
            call = asked.values.recording.operations[ref.operation].call
            run = f"run {call + 1}, " if call else ""
            size = " x ".join(map(str, _limits(ref.shape))) or "one number"
            read.append(f"{_name(asked.values, ref.operation, ref.output)} ({run}{size})")
    return NotFollowed(why + (f" Go on at what it read: {', '.join(dict.fromkeys(read))}." if read else ""))


def _is_constant(values: Values, number: int) -> bool:
    """Whether no way leads from an operation to the image."""
    waiting, seen = [number], {number}
    while waiting and 0 not in seen:
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


def find_output(values: Values, layer: str, call: int = 0) -> Ref:
    """The tensor that an operation of this name made, or the module of this path gave back; ``chunk[1]``: the second.

    Raises:
        UserError: there is none; the message names the nearest, or the runs that there were.
    """
    recording = values.recording
    plain, output = _split(layer)
    for name, which in ((layer, 0), (plain, output)):
        for number, operation in enumerate(recording.operations):
            if (recording.names[number], operation.call) == (name, call) and which < len(operation.outputs):
                return Ref(operation.outputs[which], number, which)
    given = [each.outputs for each in recording.modules if (each.path, each.call) == (plain, call)]
    for ref in (ref for outputs in given for ref in outputs[output:]):
        if ref.operation is not None:
            return ref
    raise UserError(_not_found(values, layer, plain, call))


def _split(layer: str) -> tuple[str, int]:
    """A name and which of its tensors.

    >>> _split("layer1:chunk[1]"), _split("layer1:chunk")
    (('layer1:chunk', 1), ('layer1:chunk', 0))
    """
    found = re.fullmatch(r"(.+)\[(\d+)\]", layer)
    return (found[1], int(found[2])) if found else (layer, 0)


def _not_found(values: Values, layer: str, plain: str, call: int) -> str:
    recording = values.recording
    several = [
        _name(values, number, output)
        for number, operation in enumerate(recording.operations)
        for output in range(len(operation.outputs))
        if operation.function in MOVING or output == 0
    ]
    known = list(dict.fromkeys((*several, *(module.path for module in recording.modules if module.path))))
    calls = {
        operation.call for operation, name in zip(recording.operations, recording.names, strict=True) if name == plain
    } or {module.call for module in recording.modules if module.path == plain}
    if calls and call not in calls:
        times, last = (
            ("once", "--call is 0") if len(calls) == 1 else (f"{len(calls)} times", f"--call is 0 to {max(calls)}")
        )
        return f"{plain} ran {times} in this forward, so {last}, not {call}."
    if layer in known:
        return f"{layer} gave back no tensor that an operation made, so there is no number of it to explain."
    near = difflib.get_close_matches(layer, known, n=3, cutoff=0.5) or known[1:4]
    return f"the network has no layer {layer!r}; there is {', '.join(near)}."


def _name(values: Values, number: int, output: int) -> str:
    return values.recording.names[number] + (f"[{output}]" if output else "")


def _limits(shape: Sequence[int]) -> Sequence[int]:
    """Without the dimension of the batch, where that holds one image."""
    return shape[1:] if len(shape) > 1 and shape[0] == 1 else shape


def _index(shape: Sequence[int], at: Sequence[int], layer: str) -> Index:
    limits = _limits(shape)
    wanted = " x ".join(map(str, limits)) or "one number"
    if len(at) != len(limits):
        example = ",".join(str(extent // 2) for extent in limits) or "''"
        few = "one coordinate" if len(limits) == 1 else f"{len(limits)} coordinates"
        raise UserError(f"{layer} gives {wanted}, so a place has {few}: --at {example}")
    for coordinate, limit in zip(at, limits, strict=True):
        if not 0 <= coordinate < limit:
            ranges = ", ".join(f"0 to {extent - 1}" for extent in limits)
            raise UserError(f"{layer} gives {wanted}, counted from 0 ({ranges}); {','.join(map(str, at))} is outside.")
    return (0, *at) if len(limits) < len(shape) else tuple(at)


def _outward(shape: Sequence[int], index: Sequence[int]) -> tuple[int, ...]:
    return tuple(index[len(shape) - len(_limits(shape)) :])


def address_of(values: Values, ref: Ref, index: Sequence[int]) -> Address:
    """The address of a place in a tensor, whose index has the dimension of the batch."""
    if ref.operation is None:
        assert ref.constant is not None
        return Address(values.recording.constants[ref.constant] or "a constant", 0, tuple(index), is_parameter=True)
    call = values.recording.operations[ref.operation].call
    return Address(_name(values, ref.operation, ref.output), call, _outward(ref.shape, index))


def _numbers_in_a_channel(values: Values, ref: Ref) -> int | None:
    """Along the dimension after the batch's: 1 in a map, height times width in a map that was flattened; None else."""
    if len(ref.shape) > 2:
        return 1
    if ref.operation is None or len(ref.shape) != 2:
        return None
    maker = values.recording.operations[ref.operation]
    while maker.function in _KEEPING_ORDER and maker.inputs and maker.inputs[0].operation is not None:
        before = maker.inputs[0].shape
        if len(before) > 2 and before[0] == ref.shape[0] and math.prod(before[1:]) == ref.shape[1]:
            return math.prod(before[2:])
        maker = values.recording.operations[maker.inputs[0].operation]
    return None


def address_text(address: Address) -> str:
    """As it is typed to ask on: ``--layer conv1 --at 3,5,7``."""
    place = shlex.quote(",".join(map(str, address.at)))
    call = f" --call {address.call}" if address.call else ""
    return f"--layer {shlex.quote(address.layer)} --at {place}{call}"


def json_number(number: float) -> float | str:
    """A number as JSON can hold it.

    >>> json_number(0.5), json_number(-math.inf), json_number(math.nan)
    (0.5, '-Infinity', 'NaN')
    """
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else f"{'-' * (number < 0)}Infinity"

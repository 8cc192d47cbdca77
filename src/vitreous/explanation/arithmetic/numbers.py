"""Number by number: activations, and sums and products of tensors."""

import math
import operator
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vitreous.explanation.arithmetic.parts import (
    Asked,
    Index,
    NotFollowed,
    Part,
    Parts,
    Places,
    chosen,
    explains,
    one,
    part,
)
from vitreous.trace.arguments import replaced
from vitreous.trace.recording import Ref

# --- activations ------------------------------------------------------------------------------------------------------

_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    **{
        name: getattr(functional, name)
        for name in (
            *("relu6", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "mish", "hardtanh", "hardswish"),
            *("hardsigmoid", "hardshrink", "softshrink", "softplus", "softsign", "threshold", "tanhshrink"),
        )
    },
    "log_sigmoid": functional.logsigmoid,
    **{
        name: getattr(torch, name)
        for name in (
            *("sigmoid", "tanh", "exp", "log", "sqrt", "rsqrt", "square", "reciprocal", "abs", "neg", "sin", "cos"),
            *("clamp", "clip", "clamp_min", "clamp_max", "erf", "floor", "ceil", "round", "sign", "log1p", "expm1"),
        )
    },
}

_CANCELLING = frozenset(("gelu", "tanhshrink"))  # torch takes one number from another of about x's or 1's size


@explains("relu")
def relu(asked: Asked) -> Parts:
    """max(0, x): a number passes or it does not."""
    source = asked.tensors()[0]
    number = float(asked.numbers(source, one(asked.index))[0])
    passes = number > 0 or math.isnan(number)
    product = np.array([number if passes else 0.0])  # of minus infinity too
    return Parts([part(asked, source, one(asked.index), float(passes), products=product)], how="max(0, x)")


@explains("prelu")
def prelu(asked: Asked) -> Parts:
    """max(0, x) + weight * min(0, x)."""
    source, weight = asked.argument(0, "input"), asked.argument(1, "weight")
    slopes = asked.of(weight).flatten()
    slope = float(slopes[asked.index[1] if len(slopes) > 1 else 0])
    number = float(asked.numbers(source, one(asked.index))[0])
    return Parts(
        [part(asked, source, one(asked.index), 1.0 if number > 0 else slope)], how=f"x, or {slope:.6g}*x below 0"
    )


@explains(*_FUNCTIONS)
def function(asked: Asked) -> Parts:
    """f(x) of one number, worked out anew in float64 by the same function."""
    refs = asked.tensors()
    if len(refs) != 1:
        raise NotFollowed(f"{asked.operation.function} of several tensors is not taken apart.")
    places = one(asked.index)
    number = torch.from_numpy(asked.numbers(refs[0], places))
    args, kwargs = replaced(Ref, lambda ref: number, (asked.operation.args, dict(asked.operation.kwargs)))
    kwargs.pop("inplace", None)
    value = float(_FUNCTIONS[asked.operation.function](*args, **kwargs))
    made = part(asked, refs[0], places, np.nan, products=np.array([value]))
    return Parts(
        [made],
        how=f"{asked.operation.function}({float(number):.6g})",
        value=value,
        scale=abs(float(number)) if asked.operation.function in _CANCELLING else 0.0,
    )


@explains("pow")
def power(asked: Asked) -> Parts:
    """A power, x ** 2 or 2 ** x: one of the two is a number."""
    base, exponent = _operands(asked, "exponent")
    if isinstance(base, Ref) == isinstance(exponent, Ref):
        raise NotFollowed("a tensor to the power of another is not taken apart.")
    (ref,) = asked.tensors()
    number = float(asked.numbers(ref, one(asked.index))[0])
    low, high = (number if isinstance(each, Ref) else float(each) for each in (base, exponent))
    value = float(np.float64(low) ** np.float64(high))
    made = part(asked, ref, one(asked.index), np.nan, products=np.array([value]))
    return Parts([made], how=f"({low:.6g})^({high:.6g})", value=value)


# --- sums and products ------------------------------------------------------------------------------------------------


@explains("add", "sub", "rsub")
def addition(asked: Asked) -> Parts:
    """Of two tensors, or of a tensor and a number."""
    first, second = _operands(asked)
    alpha = float(asked.operation.kwargs.get("alpha", 1))
    sign = 1.0 if asked.operation.function == "add" else -1.0
    parts, bias = [], 0.0
    for operand, weight in ((first, 1.0), (second, sign * alpha)):
        if isinstance(operand, Ref):
            parts.append(part(asked, operand, one(broadcast(asked.index, operand)), weight))
        else:
            bias += weight * float(operand)
    return Parts(parts, how="sum" if sign > 0 else "difference", bias=bias)


@explains("mul", "multiply", "div", "divide", "truediv", "true_divide", "rdiv")
def multiplication(asked: Asked) -> Parts:
    """Of two tensors, or of a tensor and a number; both of the tensors may be made of the image."""
    if asked.operation.kwargs.get("rounding_mode") is not None:
        raise NotFollowed("a division that rounds is not taken apart.")
    first, second = _operands(asked)
    divides = asked.operation.function not in ("mul", "multiply")
    if not isinstance(first, Ref) and not divides:
        first, second = second, first
    if not isinstance(first, Ref):
        return _over(asked, float(first), second)
    places = one(broadcast(asked.index, first))
    activations = asked.numbers(first, places)
    if not isinstance(second, Ref):
        factor = np.float64(second)
        products = activations / factor if divides else activations * factor
        made = part(asked, first, places, 1 / factor if divides else factor, products=products)
        return Parts([made], how=f"x {'/' if divides else '*'} {factor:.6g}")
    others = one(broadcast(asked.index, second))
    factors = asked.numbers(second, others)
    products = activations / factors if divides else activations * factors
    made = part(asked, first, places, 1 / factors if divides else factors, products=products)
    return Parts(
        [Part(first, places, made.activations, made.weights, made.is_padding, made.products, second, others)],
        how=f"x / {float(factors[0]):.6g}" if divides else "product of two numbers",
    )


def _over(asked: Asked, number: float, ref: Ref | float) -> Parts:
    assert isinstance(ref, Ref), "an operation reads a tensor"
    value = number / asked.numbers(ref, one(asked.index))
    made = part(asked, ref, one(asked.index), np.nan, products=value)
    return Parts([made], how=f"{number:.6g} / x", value=float(value[0]))


@explains("addcmul")
def addition_of_a_product(asked: Asked) -> Parts:
    """Of three tensors, x + value * y * z."""
    refs = [asked.argument(place, name) for place, name in enumerate(("input", "tensor1", "tensor2"))]
    value = float(asked.operation.kwargs.get("value", 1))
    first, second, third = (one(broadcast(asked.index, ref)) for ref in refs)
    factors = value * asked.numbers(refs[2], third)
    added = part(asked, refs[0], first, 1.0)
    made = part(asked, refs[1], second, factors, weight_source=refs[2], weight_places=third)
    return Parts([added, made], how="x + y * z" if value == 1 else f"x + {value:.6g} * y * z")


@explains("lerp")
def blend(asked: Asked) -> Parts:
    """Start + weight * (end - start)."""
    start, end, weight = asked.argument(0, "input"), asked.argument(1, "end"), asked.argument(2, "weight")
    if isinstance(weight, Ref):
        weight = float(asked.numbers(weight, one(broadcast(asked.index, weight)))[0])
    sources = ((start, 1 - weight), (end, weight))
    return Parts(
        [part(asked, ref, one(broadcast(asked.index, ref)), factor) for ref, factor in sources],
        how=f"{1 - weight:.6g} of the first and {weight:.6g} of the second",
    )


@explains("glu")
def gated(asked: Asked) -> Parts:
    """A number of the first half along a dimension, times the sigmoid of the same one of the second half."""
    source = asked.argument(0, "input")
    dim = asked.argument(1, "dim", -1) % len(source.shape)
    gate = list(asked.index)
    gate[dim] += source.shape[dim] // 2
    opened = float(asked.numbers(source, one(gate))[0])
    factor = 1 / (1 + math.exp(-opened))
    return Parts(
        [part(asked, source, one(asked.index), factor)],
        how=f"x * sigmoid({opened:.6g}) = x * {factor:.6g}",
        steps=[f"the gate stands {source.shape[dim] // 2} further along dimension {dim}"],
    )


@explains("maximum", "minimum")
def larger(asked: Asked) -> Parts:
    """The larger (or smaller) of two numbers; the first if they are equal."""
    refs = [asked.argument(0, "input"), asked.argument(1, "other")]
    places = [one(broadcast(asked.index, ref)) for ref in refs]
    first, second = (float(asked.numbers(ref, place)[0]) for ref, place in zip(refs, places, strict=True))
    is_least = asked.operation.function in ("minimum", "min")
    wins = math.isnan(first) or (first <= second if is_least else first >= second)
    made = [
        chosen(asked, ref, place, 0) if number == (0 if wins else 1) else _unchosen(asked, ref, place)
        for number, (ref, place) in enumerate(zip(refs, places, strict=True))
    ]
    return Parts(made, how=f"the {'smaller' if is_least else 'larger'} of two numbers")


_COMPARISONS: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "gt": (">", operator.gt),
    "ge": (">=", operator.ge),
    "lt": ("<", operator.lt),
    "le": ("<=", operator.le),
    "eq": ("=", operator.eq),
    "ne": ("!=", operator.ne),
}


@explains(*_COMPARISONS)
def comparison(asked: Asked) -> Parts:
    """1 where it is so and 0 where it is not: nothing is added up."""
    sign, compare = _COMPARISONS[asked.operation.function]
    parts, numbers = [], []
    for operand in _operands(asked):
        if isinstance(operand, Ref):
            places = one(broadcast(asked.index, operand))
            parts.append(part(asked, operand, places, np.nan, products=np.zeros(1)))
            numbers.append(float(parts[-1].activations[0]))
        else:
            numbers.append(float(operand))
    return Parts(parts, how=f"{numbers[0]:.6g} {sign} {numbers[1]:.6g}", value=float(compare(*numbers)))


@explains("int", "long", "bool")
def whole_number(asked: Asked) -> Parts:
    """Without its fraction; or whether it is not 0."""
    source, place = asked.tensors()[0], one(asked.index)
    number = float(asked.numbers(source, place)[0])
    value = float(number != 0) if asked.operation.function == "bool" else float(math.trunc(number))
    made = part(asked, source, place, np.nan, products=np.array([value]))
    return Parts([made], how=f"{number:.6g} as {asked.operation.function}", value=value)


def _unchosen(asked: Asked, ref: Ref, places: Places) -> Part:
    return part(asked, ref, places, 0.0, products=np.zeros(1))


def _operands(asked: Asked, named: str = "other") -> tuple[Ref | float, Ref | float]:
    """In the order in which they stand in the sum: of ``2 - x`` torch is given x first."""
    first, second = asked.argument(0, "input"), asked.argument(1, named)
    is_turned = asked.operation.name in ("__rsub__", "rsub", "__rtruediv__", "__rdiv__", "__rpow__")
    return (second, first) if is_turned else (first, second)


def broadcast(index: Index, ref: Ref) -> Index:
    """The place in an operand whose shape may be shorter, or one along some dimensions."""
    own = index[len(index) - len(ref.shape) :]
    return tuple(0 if extent == 1 else at for at, extent in zip(own, ref.shape, strict=True))

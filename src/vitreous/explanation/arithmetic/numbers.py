"""Number by number: activations, and sums and products of tensors."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vitreous.explanation.arithmetic.parts import Asked, Index, NotFollowed, Part, Parts, explains, one, part
from vitreous.trace.arguments import replaced
from vitreous.trace.recording import Ref

# --- activations ------------------------------------------------------------------------------------------------------

_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    **{
        name: getattr(functional, name)
        for name in (
            *("relu6", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "mish", "hardtanh", "hardswish"),
            *("hardsigmoid", "hardshrink", "softshrink", "softplus", "softsign", "logsigmoid", "threshold"),
        )
    },
    **{
        name: getattr(torch, name)
        for name in (
            *("sigmoid", "tanh", "exp", "log", "sqrt", "rsqrt", "square", "reciprocal", "abs", "neg", "sin", "cos"),
            *("clamp", "clamp_min", "clamp_max", "erf", "floor", "ceil", "round", "sign", "log1p", "pow"),
        )
    },
}


@explains("relu")
def relu(asked: Asked) -> Parts:
    """max(0, x): a number passes or it does not."""
    source = asked.tensors()[0]
    number = float(asked.numbers(source, one(asked.index))[0])
    return Parts([part(asked, source, one(asked.index), float(number > 0))], how="max(0, x)")


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
    return Parts([made], how=f"{asked.operation.function}({float(number):.6g})", value=value)


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
            parts.append(part(asked, operand, one(_broadcast(asked.index, operand)), weight))
        else:
            bias += weight * float(operand)
    return Parts(parts, how="sum" if sign > 0 else "difference", bias=bias)


@explains("mul", "multiply", "div", "divide", "truediv", "true_divide")
def multiplication(asked: Asked) -> Parts:
    """Of two tensors, or of a tensor and a number; both of the tensors may be made of the image."""
    first, second = _operands(asked)
    divides = asked.operation.function not in ("mul", "multiply")
    if not isinstance(first, Ref) and not divides:
        first, second = second, first
    if not isinstance(first, Ref):
        raise NotFollowed("a number over a tensor is not taken apart.")
    places = one(_broadcast(asked.index, first))
    if not isinstance(second, Ref):
        factor = 1 / float(second) if divides else float(second)
        return Parts([part(asked, first, places, factor)], how=f"x {'/' if divides else '*'} {float(second):.6g}")
    others = one(_broadcast(asked.index, second))
    factors = asked.numbers(second, others)
    made = part(asked, first, places, 1 / factors if divides else factors)
    return Parts(
        [Part(first, places, made.activations, made.weights, made.is_padding, made.products, second, others)],
        how=f"x / {float(factors[0]):.6g}" if divides else "product of two numbers",
    )


def _operands(asked: Asked) -> tuple[Ref | float, Ref | float]:
    """In the order in which they stand in the sum: of ``2 - x`` torch is given x first."""
    first, second = asked.argument(0, "input"), asked.argument(1, "other")
    is_turned = asked.operation.name in ("__rsub__", "__rtruediv__", "rsub")
    return (second, first) if is_turned else (first, second)


def _broadcast(index: Index, ref: Ref) -> Index:
    """The place in an operand whose shape may be shorter, or one along some dimensions."""
    own = index[len(index) - len(ref.shape) :]
    return tuple(0 if extent == 1 else at for at, extent in zip(own, ref.shape, strict=True))

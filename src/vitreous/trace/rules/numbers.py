"""Number by number: activations, sums and products of tensors."""

from typing import Any

from vitreous.trace.arguments import found
from vitreous.trace.rules.parts import NotFollowed, Seen, Sights, is_for, joined
from vitreous.trace.shapes import Shape

_OPERATORS = ("add", "sub", "mul", "div", "truediv", "floordiv", "mod", "pow")
_FUNCTIONS = (
    *("relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "celu", "selu", "gelu", "silu", "mish", "hardtanh"),
    *("hardswish", "hardsigmoid", "hardshrink", "softshrink", "tanhshrink", "softplus", "softsign", "threshold"),
    *("sigmoid", "logsigmoid", "tanh", "sin", "cos", "exp", "log", "log1p", "sqrt", "rsqrt", "square", "reciprocal"),
    *("abs", "neg", "sign", "floor", "ceil", "round", "clamp", "clamp_min", "clamp_max", "clip", "erf", "multiply"),
    *("divide", "subtract", "addcmul", "addcdiv", "maximum", "minimum", "lerp", "where", "rsub", "true_divide"),
    *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"),
    *("clone", "contiguous", "detach", "alias", "to", "float", "double", "half", "bfloat16", "type_as", "type", "data"),
    *("expand", "expand_as", "broadcast_to", "gt", "lt", "ge", "le", "eq", "ne"),
)


ELEMENTWISE = (
    *_OPERATORS,
    *(f"r{name}" for name in _OPERATORS if name != "sub"),
    *(f"i{name}" for name in _OPERATORS),
    *_FUNCTIONS,
)


@is_for(*ELEMENTWISE)
def elementwise(out: Shape, /, *args: Any, **kwargs: Any) -> Sights:
    """Each number of the output sees what the numbers in its place see."""
    given = [each for each in found(Seen, (args, kwargs)) if each.axes]
    if any(len(each.shape) > len(out) for each in given):  # where(condition) gives places
        raise NotFollowed
    return joined(out, given)


@is_for("channel_shuffle", "native_channel_shuffle")
def _channel_shuffle(out: Shape, /, input: Seen, groups: int) -> Sights:
    return tuple(sight.scattered(out[1], 1) if sight.dim == 1 else sight for sight in input.axes)


FRESH = (
    *("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like"),
    *("new_zeros", "new_ones", "new_full", "new_empty", "new_tensor"),
)


@is_for(*FRESH)
def _fresh(out: Shape, /, *_: Any, **__: Any) -> Sights:
    return ()  # of the image only its size has a part in this

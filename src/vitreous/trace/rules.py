"""What each torch function does to the sight of units: one family of functions after another.

A rule is called as the function was, with a Seen in place of each tensor, and gives the sights of its output. Functions
of which nothing is written here are unknown, and so is what follows from them: never guessed, never left out. A new
function joins its family's decorator, or gets a rule of its own.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Any

from vitreous.errors import ShapeError
from vitreous.geometry import conv_output_size
from vitreous.trace.arguments import found, on_each_axis, replaced
from vitreous.trace.shapes import Shape
from vitreous.trace.sight import UNKNOWN, Sight, join, window

Sights = tuple[Sight, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """A tensor's shape, and how its units see each axis of the image; no axes where the image has no part in it."""

    shape: Shape
    axes: Sights = ()
    places: Sights = ()  # where the units stand along each axis; what does not step stands nowhere

    @property
    def standing(self) -> "Seen":
        """The tensor with where its units stand for what they see; a constant if they stand nowhere."""
        return Seen(self.shape, self.places if any(place.is_stepping for place in self.places) else ())


Rule = Callable[[Sequence[Shape], tuple[Any, ...], dict[str, Any]], list[Seen]]
RULES: dict[str, Callable[..., Sights]] = {}


def rule_for(function: str) -> Rule:
    """The rule for a torch function: (shapes of the outputs, args, kwargs) -> the outputs, seen.

    The same rule tells what units see and where they stand. For places, what stands nowhere is as good as a constant.
    """
    rule = RULES.get(plain(function), _not_followed)

    def apply(outputs: Sequence[Shape], args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Seen]:
        num_axes = max((len(each.axes) for each in found(Seen, (args, kwargs))), default=0)
        if num_axes == 0:
            return [Seen(shape) for shape in outputs]
        unknown = (UNKNOWN,) * num_axes
        axes = _followed(rule, outputs, (args, kwargs), unknown)
        places = _followed(rule, outputs, replaced(Seen, lambda each: each.standing, (args, kwargs)), unknown)
        return [Seen(*each) for each in zip(outputs, axes, places, strict=True)]

    return apply


def _followed(rule: Callable[..., Sights], outputs: Sequence[Shape], given: Any, unknown: Sights) -> list[Sights]:
    args, kwargs = given
    try:
        return [_checked(rule(shape, *args, **kwargs), shape, unknown) for shape in outputs]
    except UNFORESEEN:
        return [unknown for _ in outputs]


def _not_followed(out: Shape, /, *_: Any, **__: Any) -> Sights:
    raise NotFollowed


def _checked(sights: Sights, shape: Shape, unknown: Sights) -> Sights:
    """A rule that did not foresee its arguments may give what is no sight of this tensor."""
    fits = len(sights) in (0, len(unknown)) and all(each.dim is None or 0 <= each.dim < len(shape) for each in sights)
    return sights if fits else unknown


class NotFollowed(Exception):
    """A rule meets a case that it does not cover."""


# What a rule trips over when a function is called in a way that it does not foresee: by other arguments, or other kinds
# of them. It is not followed then; anything else is a mistake of the rule's and is not hidden.
UNFORESEEN = (NotFollowed, ShapeError, TypeError, ValueError, AttributeError, IndexError, RuntimeError)


def plain(function: str) -> str:
    """The name without what marks it as in place or as an operator: relu_ -> relu, __iadd__ -> iadd."""
    return function.strip("_")


def _is_for_axes(*functions: str) -> Callable[[Callable[..., Sights]], Callable[..., Sights]]:
    """For functions on 1, 2 and 3 axes; "conv{}d" stands for conv1d, conv2d and conv3d."""

    def register(rule: Callable[..., Sights]) -> Callable[..., Sights]:
        for num_axes in (1, 2, 3):
            _is_for(*(function.format(num_axes) for function in functions))(partial(rule, num_axes))
        return rule

    return register


def _is_for(*functions: str) -> Callable[[Callable[..., Sights]], Callable[..., Sights]]:
    def register(rule: Callable[..., Sights]) -> Callable[..., Sights]:
        for function in functions:
            assert function not in RULES, function
            RULES[function] = rule
        return rule

    return register


# --- windows: convolution and pooling ---------------------------------------------------------------------------------


@_is_for_axes("conv{}d")
def _convolution(
    num_axes: int,
    out: Shape,
    /,
    input: Seen,
    weight: Seen,
    bias: Seen | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Sights:
    _require_constant(weight, bias)
    kernel, stride, dilation = weight.shape[2:], on_each_axis(stride, num_axes), on_each_axis(dilation, num_axes)
    if padding == "same":
        totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        near = tuple(total // 2 for total in totals)
    else:
        near = on_each_axis(0 if padding == "valid" else padding, num_axes)
    first = len(input.shape) - num_axes

    def through(sight: Sight) -> Sight:
        if sight.dim == first - 1:  # the image's axis became the channels
            return sight.whole(input.shape[first - 1]) if groups == 1 else sight.some(input.shape[first - 1])
        if sight.dim is None or sight.dim < first:
            return sight
        axis = sight.dim - first
        return sight.slide(kernel[axis], stride[axis], near[axis], dilation[axis])

    given = tuple(sight.blended() if groups == 1 else sight.parted() for sight in input.axes)
    return tuple(through(sight) for sight in given)


@_is_for_axes("conv_transpose{}d")
def _transposed_convolution(
    num_axes: int,
    out: Shape,
    /,
    input: Seen,
    weight: Seen,
    bias: Seen | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Sights:
    """Unit i of the input goes to the units i s - p + d t of the output, for all taps t."""
    _require_constant(weight, bias)
    settings = weight.shape[2:], *(on_each_axis(each, num_axes) for each in (stride, padding, dilation))
    first = len(input.shape) - num_axes

    def through(sight: Sight) -> Sight:
        if sight.dim is None or sight.dim < first:
            return sight.some(input.shape[sight.dim]) if sight.dim == first - 1 else sight
        kernel, step, near, gap = (each[sight.dim - first] for each in settings)

        def taps(unit: int) -> list[int]:
            places = [unit + near - gap * tap for tap in range(kernel)]
            return [place // step for place in places if place % step == 0]

        return sight.resampled(Fraction(1, step), taps)

    return tuple(through(sight.blended() if groups == 1 else sight.parted()) for sight in input.axes)


@_is_for_axes("max_pool{}d", "max_pool{}d_with_indices")
def _max_pool(
    num_axes: int,
    out: Shape,
    /,
    input: Seen,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Sights:
    return _pool(num_axes, input, kernel_size, stride, padding, dilation)


@_is_for_axes("avg_pool{}d")
def _average_pool(
    num_axes: int,
    out: Shape,
    /,
    input: Seen,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Sights:
    return _pool(num_axes, input, kernel_size, stride, padding, 1)


def _pool(num_axes: int, input: Seen, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Sights:
    kernel, padding, dilation = (on_each_axis(each, num_axes) for each in (kernel, padding, dilation))
    stride = kernel if stride is None or stride == [] else on_each_axis(stride, num_axes)
    first = len(input.shape) - num_axes

    def through(sight: Sight) -> Sight:
        if sight.dim is None or sight.dim < first:
            return sight
        axis = sight.dim - first
        return sight.slide(kernel[axis], stride[axis], padding[axis], dilation[axis])

    return tuple(through(sight) for sight in input.axes)


@_is_for_axes("adaptive_avg_pool{}d", "adaptive_max_pool{}d", "adaptive_max_pool{}d_with_indices")
def _adaptive_pool(num_axes: int, out: Shape, /, input: Seen, output_size: Any, return_indices: bool = False) -> Sights:
    return tuple(_binned(sight, input.shape, out) for sight in input.axes)


def _binned(sight: Sight, before: Shape, after: Shape) -> Sight:
    """Bin o of m reads the units from floor(o n / m) to ceil((o + 1) n / m): all of them, whatever n and m are."""
    if sight.dim is None:
        return sight
    n, m = before[sight.dim], after[sight.dim]
    if n == m:
        return sight
    if n == 1 or m == 1:
        return sight.whole(n)
    binned = sight.resampled(Fraction(n, m), lambda bin: range(bin * n // m, -(-(bin + 1) * n // m)))
    return binned if binned.is_exact or not sight.is_exact else replace(binned, together=window(sight, n))


@_is_for("pad")
def _pad(out: Shape, /, input: Seen, pad: Sequence[int], mode: str = "constant", value: Any = None) -> Sights:
    """What is mirrored, repeated or wrapped around stands at the border, which is left aside: as if it were zeros."""
    nears = {len(input.shape) - 1 - n // 2: pad[n] for n in range(0, len(pad), 2)}
    fars = {len(input.shape) - 1 - n // 2: pad[n] for n in range(1, len(pad), 2)}

    def through(sight: Sight) -> Sight:
        if sight.dim is None or sight.dim not in nears:
            return sight
        padded = sight.slide(1, 1, (nears[sight.dim], fars[sight.dim]))
        return padded if min(nears[sight.dim], fars[sight.dim]) >= 0 else _cropped(padded)

    adds_channels = any((nears[dim], fars[dim]) != (0, 0) for dim in nears.keys() - _places(input))
    return tuple(replace(through(sight), is_mixed=sight.is_mixed or adds_channels) for sight in input.axes)


def _cropped(sight: Sight) -> Sight:
    """Padding that follows stands where units were cut off, so that later windows may hold less than they seem to."""
    return replace(sight, is_exact=False) if sight.is_known else sight


# --- larger maps ------------------------------------------------------------------------------------------------------


@_is_for("interpolate", "upsample", "upsample_nearest", "upsample_bilinear")
def _interpolate(
    out: Shape,
    /,
    input: Seen,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Sights:
    if antialias:
        raise NotFollowed
    if mode == "area":
        return tuple(_binned(sight, input.shape, out) for sight in input.axes)
    is_by_factor = scale_factor is not None and not recompute_scale_factor
    factors = on_each_axis(scale_factor, len(input.shape) - 2) if is_by_factor else None

    def through(sight: Sight) -> Sight:
        if sight.dim is None or sight.dim < 2:
            return sight
        n, m = input.shape[sight.dim], out[sight.dim]
        if n == 1:
            return sight.whole(1)
        ratio = Fraction(n, m) if factors is None else 1 / Fraction(factors[sight.dim - 2]).limit_denominator(1024)
        if align_corners:
            ratio = Fraction(n - 1, max(m - 1, 1))
        return sight if ratio == 1 else sight.resampled(ratio, _READ[mode](ratio, bool(align_corners)))

    return tuple(through(sight) for sight in input.axes)


def _nearest(ratio: Fraction, align_corners: bool) -> Callable[[int], list[int]]:
    return lambda unit: [math.floor(unit * ratio)]


def _nearest_exact(ratio: Fraction, align_corners: bool) -> Callable[[int], list[int]]:
    return lambda unit: [math.floor((unit + _HALF) * ratio)]


def _linear_between(ratio: Fraction, align_corners: bool) -> Callable[[int], list[int]]:
    def taps(unit: int) -> list[int]:
        place = unit * ratio if align_corners else (unit + _HALF) * ratio - _HALF
        return [math.floor(place), math.ceil(place)]

    return taps


def _cubic_between(ratio: Fraction, align_corners: bool) -> Callable[[int], list[int]]:
    def taps(unit: int) -> list[int]:
        first, last = _linear_between(ratio, align_corners)(unit)
        return [first] if first == last else [first - 1, last + 1]

    return taps


_HALF = Fraction(1, 2)
_READ = {
    "nearest": _nearest,
    "nearest-exact": _nearest_exact,
    **dict.fromkeys(("linear", "bilinear", "trilinear"), _linear_between),
    "bicubic": _cubic_between,
}


@_is_for("pixel_shuffle")
def _pixel_shuffle(out: Shape, /, input: Seen, upscale_factor: int) -> Sights:
    """R x r channels be r x r units, which look where the channels looked."""
    return tuple(_spread(sight, len(out) - 2, upscale_factor) for sight in input.axes)


def _spread(sight: Sight, first: int, times: int) -> Sight:
    if sight.dim is None or sight.dim < first:
        return sight.some(1) if sight.dim is not None else sight.parted()
    return sight.parted().resampled(Fraction(1, times), lambda unit: [unit // times])


@_is_for("pixel_unshuffle")
def _pixel_unshuffle(out: Shape, /, input: Seen, downscale_factor: int) -> Sights:
    """Each channel of the result sees one unit of the window that they see together."""

    def through(sight: Sight) -> Sight:
        if sight.dim is None:
            return sight
        if sight.dim < len(out) - 2:
            raise NotFollowed
        return replace(sight.slide(downscale_factor, downscale_factor), is_mixed=downscale_factor > 1)

    return tuple(through(sight) for sight in input.axes)


@_is_for("repeat_interleave")
def _repeat_interleave(out: Shape, /, input: Seen, repeats: Any, dim: int | None = None, **_: Any) -> Sights:
    if dim is None or not isinstance(repeats, int):
        raise NotFollowed
    repeated = dim % len(input.shape)
    return tuple(
        sight
        if sight.dim != repeated
        else sight.whole(1)
        if input.shape[repeated] == 1
        else sight.resampled(Fraction(1, repeats), lambda unit: [unit // repeats])
        for sight in input.axes
    )


@_is_for("repeat", "tile")
def _repeat(out: Shape, /, input: Seen, *_: Any, **__: Any) -> Sights:
    shift = len(out) - len(input.shape)

    def through(sight: Sight) -> Sight:
        if sight.dim is None:
            return sight
        before, after = input.shape[sight.dim], out[sight.dim + shift]
        if before == after or before == 1:
            return sight.moved(sight.dim + shift) if before == after else sight.whole(1)
        return sight.scattered(before, sight.dim + shift)

    return tuple(through(sight) for sight in input.axes)


# --- everything at once: dense layers, means, normalisation -----------------------------------------------------------


@_is_for("linear")
def _linear(out: Shape, /, input: Seen, weight: Seen, bias: Seen | None = None) -> Sights:
    _require_constant(weight, bias)
    return _whole_along(input, [-1])


@_is_for("matmul", "bmm", "mm", "rmatmul")
def _matmul(out: Shape, /, input: Seen, other: Seen) -> Sights:
    if min(len(input.shape), len(other.shape)) < 2:
        raise NotFollowed
    return _joined(
        out, [Seen(_aligned(each, out), _whole_along(each, [dim])) for each, dim in ((input, -1), (other, -2))]
    )


@_is_for("einsum")
def _einsum(out: Shape, /, equation: Any, *operands: Any) -> Sights:
    """Units along a letter of the result keep their places; a letter that is summed over is read whole."""
    given = list(found(Seen, operands))
    if not isinstance(equation, str) or "." in equation:
        raise NotFollowed
    left, _, right = equation.replace(" ", "").partition("->")
    factors = left.split(",")
    right = right or "".join(sorted(letter for letter in set(left) if letter != "," and left.count(letter) == 1))
    if len(factors) != len(given) or any(len(set(factor)) != len(factor) for factor in factors):
        raise NotFollowed

    def through(sight: Sight, factor: str, shape: Shape) -> Sight:
        if sight.dim is None:
            return sight
        letter = factor[sight.dim]
        return sight.moved(right.index(letter)) if letter in right else sight.whole(shape[sight.dim])

    return _joined(
        out,
        [
            Seen(out, tuple(through(sight, factor, each.shape) for sight in each.axes))
            for each, factor in zip(given, factors, strict=True)
        ],
    )


@_is_for("scaled_dot_product_attention")
def _attention(out: Shape, /, query: Seen, key: Seen, value: Seen, attn_mask: Any = None, *_: Any, **__: Any) -> Sights:
    if isinstance(attn_mask, Seen) and attn_mask.axes:
        raise NotFollowed
    given = [(query, [-1]), (key, [-1, -2]), (value, [-2])]  # N,heads,L,E and N,heads,S,E and N,heads,S,V
    return _joined(out, [Seen(_aligned(each, out), _whole_along(each, dims)) for each, dims in given])


@_is_for("mean", "sum", "amax", "amin", "std", "var", "prod", "logsumexp", "argmax", "argmin", "median")
def _reduction(out: Shape, /, input: Seen, dim: Any = None, *_: Any, **named: Any) -> Sights:
    dim = named.get("axis", dim)
    if isinstance(dim, bool):  # std(unbiased)
        raise NotFollowed
    keepdim = len(out) == len(input.shape)
    dims = range(len(input.shape)) if dim is None or dim == () else [dim] if isinstance(dim, int) else dim
    read = {d % len(input.shape) for d in dims}

    def through(sight: Sight) -> Sight:
        if sight.dim is None or sight.dim in read:
            return sight if sight.dim is None else sight.whole(input.shape[sight.dim])
        return sight if keepdim else sight.moved(sight.dim - sum(d < sight.dim for d in read))

    return tuple(through(sight) for sight in input.axes)


@_is_for("norm")
def _norm(out: Shape, /, input: Seen, p: Any = None, dim: Any = None, *_: Any, **named: Any) -> Sights:
    return _reduction(out, input, dim, **named)


@_is_for("max", "min")
def _extreme(out: Shape, /, input: Seen, dim: Any = None, *_: Any, **named: Any) -> Sights:
    return _elementwise(out, input, dim) if isinstance(dim, Seen) else _reduction(out, input, dim, **named)


@_is_for("softmax", "log_softmax", "softmin")
def _softmax(out: Shape, /, input: Seen, dim: int | None = None, *_: Any, **__: Any) -> Sights:
    if dim is None:
        raise NotFollowed
    return _beside_all_along(input, [dim])


@_is_for("normalize")
def _normalize(out: Shape, /, input: Seen, p: float = 2.0, dim: int = 1, *_: Any, **__: Any) -> Sights:
    return _beside_all_along(input, [dim])


@_is_for("layer_norm", "rms_norm")
def _layer_norm(out: Shape, /, input: Seen, normalized_shape: Sequence[int], *_: Any, **__: Any) -> Sights:
    return _beside_all_along(input, range(-len(normalized_shape), 0))


@_is_for("group_norm")
def _group_norm(out: Shape, /, input: Seen, num_groups: int, *_: Any, **__: Any) -> Sights:
    return _beside_all_along(input, range(1, len(input.shape)))


@_is_for("instance_norm")
def _instance_norm(out: Shape, /, input: Seen, *_: Any, **__: Any) -> Sights:
    return _beside_all_along(input, range(2, len(input.shape)))


@_is_for("batch_norm")
def _batch_norm(
    out: Shape,
    /,
    input: Seen,
    running_mean: Seen | None,
    running_var: Seen | None,
    weight: Seen | None = None,
    bias: Seen | None = None,
    training: bool = False,
    *_: Any,
    **__: Any,
) -> Sights:
    _require_constant(running_mean, running_var, weight, bias)
    is_of_the_batch = training or running_mean is None
    return _beside_all_along(input, [0, *range(2, len(input.shape))]) if is_of_the_batch else input.axes


def _whole_along(input: Seen, dims: Sequence[int]) -> Sights:
    read = {dim % len(input.shape) for dim in dims}

    def through(sight: Sight) -> Sight:
        return sight if sight.dim is None or sight.dim not in read else sight.whole(input.shape[sight.dim])

    return tuple(through(sight) for sight in input.axes)


def _beside_all_along(input: Seen, dims: Sequence[int]) -> Sights:
    """Each unit reads itself and all the others, and stays in its place."""
    read = _whole_along(input, dims)
    return tuple(given if given.is_place else sight for given, sight in zip(input.axes, read, strict=True))


# --- number by number -------------------------------------------------------------------------------------------------

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


@_is_for(*ELEMENTWISE)
def _elementwise(out: Shape, /, *args: Any, **kwargs: Any) -> Sights:
    given = [each for each in found(Seen, (args, kwargs)) if each.axes]
    if any(len(each.shape) > len(out) for each in given):  # where(condition) gives places
        raise NotFollowed
    return _joined(out, given)


@_is_for("channel_shuffle", "native_channel_shuffle")
def _channel_shuffle(out: Shape, /, input: Seen, groups: int) -> Sights:
    return tuple(sight.scattered(out[1], 1) if sight.dim == 1 else sight for sight in input.axes)


FRESH = (
    *("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like"),
    *("new_zeros", "new_ones", "new_full", "new_empty", "new_tensor"),
)


@_is_for(*FRESH)
def _fresh(out: Shape, /, *_: Any, **__: Any) -> Sights:
    return ()  # of the image only its size has a part in this


# --- another shape for the same numbers -------------------------------------------------------------------------------


@_is_for("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as")
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


@_is_for("permute")
def _permute(out: Shape, /, input: Seen, *dims: Any, **named: Any) -> Sights:
    order = named.get("dims", dims[0] if len(dims) == 1 and not isinstance(dims[0], int) else dims)
    places = [dim % len(input.shape) for dim in order]
    return tuple(sight if sight.dim is None else sight.moved(places.index(sight.dim)) for sight in input.axes)


@_is_for("transpose", "swapaxes", "swapdims")
def _transpose(out: Shape, /, input: Seen, dim0: int, dim1: int) -> Sights:
    order = list(range(len(input.shape)))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return _permute(out, input, order)


@_is_for("t", "T", "mT")
def _turn(out: Shape, /, input: Seen) -> Sights:
    if len(input.shape) < 2:
        raise NotFollowed
    return _transpose(out, input, -2, -1)


@_is_for("flip")
def _flip(out: Shape, /, input: Seen, *given: Any, **named: Any) -> Sights:
    return _reordered(out, input, list(found(int, (given, named))))


@_is_for("roll")
def _roll(out: Shape, /, input: Seen, shifts: Any, dims: Any = ()) -> Sights:
    return _reordered(out, input, list(found(int, dims)) or range(len(out)))


def _reordered(out: Shape, input: Seen, dims: Sequence[int]) -> Sights:
    """The units keep what they see and change places: of one place it is not said which of them it has."""
    turned = {dim % len(out) for dim in dims}
    return tuple(
        sight.scattered(out[sight.dim], sight.dim) if sight.dim in turned and sight.dim is not None else sight
        for sight in input.axes
    )


# --- parts ------------------------------------------------------------------------------------------------------------


@_is_for("getitem")
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
        return moved if start == 0 and stop == extent else _cropped(moved)

    cuts_channels = any(
        not isinstance(part, slice) or part.indices(extent) != (0, extent, 1)
        for number, (extent, (part, _)) in enumerate(zip(input.shape, places, strict=True))
        if number > 0 and number not in _places(input)
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


@_is_for("chunk", "tensor_split")
def _chunk(out: Shape, /, input: Seen, chunks: Any, dim: int = 0) -> Sights:
    return _split(out, input, chunks, dim)


@_is_for("split", "split_with_sizes")
def _split(out: Shape, /, input: Seen, split_size: Any, dim: int = 0) -> Sights:
    cut = dim % len(input.shape)
    return tuple(sight.some(input.shape[cut]) if sight.dim == cut else sight.parted() for sight in input.axes)


@_is_for("narrow")
def _narrow(out: Shape, /, input: Seen, dim: int, start: Any, length: int) -> Sights:
    return _split(out, input, length, dim)


@_is_for("unbind", "select")
def _unbind(out: Shape, /, input: Seen, dim: int = 0, *_: Any) -> Sights:
    cut = dim % len(input.shape)

    def through(sight: Sight) -> Sight:
        if sight.dim is None or sight.dim == cut:
            return sight if sight.dim is None else sight.some(input.shape[cut])
        return sight.moved(sight.dim - (cut < sight.dim))

    return tuple(through(sight.parted()) for sight in input.axes)


@_is_for("unfold")
def _unfold(out: Shape, /, input: Seen, *given: Any, **named: Any) -> Sights:
    """Two functions have this name: windows of images as columns, N,C,H,W -> N,C k k,L; windows along one dimension."""
    if len(out) == len(input.shape) + 1:
        return _windows_along(input, *given, **named)
    return _columns(out, input, *given, **named)


def _windows_along(input: Seen, dimension: int, size: int, step: int) -> Sights:
    cut = dimension % len(input.shape)
    return tuple(
        replace(sight.slide(size, step), is_exact=size == 1 and sight.is_exact) if sight.dim == cut else sight
        for sight in input.axes
    )


def _columns(out: Shape, input: Seen, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Sights:
    kernel, gap, near, step = (on_each_axis(each, 2) for each in (kernel_size, dilation, padding, stride))

    def through(sight: Sight) -> Sight:
        if sight.dim is None:
            return sight
        axis = sight.dim - 2
        if axis < 0:
            raise NotFollowed
        units = conv_output_size(input.shape[sight.dim], kernel[axis], step[axis], near[axis], gap[axis])
        slid = sight.slide(kernel[axis], step[axis], near[axis], gap[axis])
        return replace(slid.scattered(units, 2), is_mixed=True)

    return tuple(through(sight) for sight in input.axes)


# --- several tensors --------------------------------------------------------------------------------------------------


@_is_for("cat", "concat", "concatenate")
def _cat(out: Shape, /, tensors: Sequence[Seen], dim: int = 0, **others: Any) -> Sights:
    along = others.get("axis", dim) % len(out)
    scattered = [
        Seen(each.shape, tuple(s.scattered(each.shape[along], along) if s.dim == along else s for s in each.axes))
        for each in tensors
        if each.axes
    ]
    joined = _joined(out, scattered, aligned=False)
    differ = [len({each.axes[axis] for each in scattered}) > 1 for axis in range(len(joined))]
    return tuple(
        replace(sight, is_mixed=True) if differs and sight.is_known and sight.dim != along else sight
        for sight, differs in zip(joined, differ, strict=True)
    )


@_is_for("stack")
def _stack(out: Shape, /, tensors: Sequence[Seen], dim: int = 0) -> Sights:
    new = dim % len(out)
    moved = [
        Seen(out, tuple(s if s.dim is None else s.moved(s.dim + (s.dim >= new)) for s in each.axes))
        for each in tensors
        if each.axes
    ]
    return _joined(out, moved)


def _joined(out: Shape, /, given: Sequence[Seen], aligned: bool = True) -> Sights:
    """Axis by axis, what a number of the output sees through all of these; shapes are aligned at the right."""
    placed = [_broadcast(each, out) if aligned else each.axes for each in given if each.axes]
    return tuple(join(sights, out) for sights in zip(*placed, strict=True))


def _broadcast(given: Seen, out: Shape) -> Sights:
    shift = len(out) - len(given.shape)

    def through(sight: Sight) -> Sight:
        if sight.dim is None:
            return sight
        is_repeated = given.shape[sight.dim] == 1 and out[sight.dim + shift] != 1
        return sight.whole(1) if is_repeated else sight.moved(sight.dim + shift)

    return tuple(through(sight) for sight in given.axes)


def _aligned(given: Seen, out: Shape) -> Shape:
    """The shape of what a matrix product makes of one of its factors: that of the product, as far as it has it."""
    return (*given.shape[:-2], *out[-2:])


# --- arguments --------------------------------------------------------------------------------------------------------


def _require_constant(*tensors: Seen | None) -> None:
    if any(tensor is not None and tensor.axes for tensor in tensors):  # a weight made from the image
        raise NotFollowed


def _places(given: Seen) -> set[int | None]:
    """The dimensions along which units step over the image."""
    return {sight.dim for sight in given.axes}

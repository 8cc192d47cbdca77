"""Everything at once: dense layers, products of matrices, means, normalisation."""

from collections.abc import Sequence
from typing import Any

from vitreous.trace.arguments import found
from vitreous.trace.rules.numbers import elementwise
from vitreous.trace.rules.parts import NotFollowed, Seen, Sights, is_for, joined, require_constant
from vitreous.trace.shapes import Shape
from vitreous.trace.sight import Sight


@is_for("linear")
def _linear(out: Shape, /, input: Seen, weight: Seen, bias: Seen | None = None) -> Sights:
    require_constant(weight, bias)
    return _whole_along(input, [-1])


@is_for("matmul", "bmm", "mm", "rmatmul")
def _matmul(out: Shape, /, input: Seen, other: Seen) -> Sights:
    if min(len(input.shape), len(other.shape)) < 2:
        raise NotFollowed
    return joined(
        out, [Seen(_aligned(each, out), _whole_along(each, [dim])) for each, dim in ((input, -1), (other, -2))]
    )


@is_for("einsum")
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

    return joined(
        out,
        [
            Seen(out, tuple(through(sight, factor, each.shape) for sight in each.axes))
            for each, factor in zip(given, factors, strict=True)
        ],
    )


@is_for("scaled_dot_product_attention")
def _attention(out: Shape, /, query: Seen, key: Seen, value: Seen, attn_mask: Any = None, *_: Any, **__: Any) -> Sights:
    if isinstance(attn_mask, Seen) and attn_mask.axes:
        raise NotFollowed
    given = [(query, [-1]), (key, [-1, -2]), (value, [-2])]  # N,heads,L,E and N,heads,S,E and N,heads,S,V
    return joined(out, [Seen(_aligned(each, out), _whole_along(each, dims)) for each, dims in given])


@is_for("mean", "sum", "amax", "amin", "std", "var", "prod", "logsumexp", "argmax", "argmin", "median")
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


@is_for("norm")
def _norm(out: Shape, /, input: Seen, p: Any = None, dim: Any = None, *_: Any, **named: Any) -> Sights:
    return _reduction(out, input, dim, **named)


@is_for("max", "min")
def _extreme(out: Shape, /, input: Seen, dim: Any = None, *_: Any, **named: Any) -> Sights:
    return elementwise(out, input, dim) if isinstance(dim, Seen) else _reduction(out, input, dim, **named)


@is_for("softmax", "log_softmax", "softmin")
def _softmax(out: Shape, /, input: Seen, dim: int | None = None, *_: Any, **__: Any) -> Sights:
    if dim is None:
        raise NotFollowed
    return _beside_all_along(input, [dim])


@is_for("normalize")
def _normalize(out: Shape, /, input: Seen, p: float = 2.0, dim: int = 1, *_: Any, **__: Any) -> Sights:
    return _beside_all_along(input, [dim])


@is_for("layer_norm", "rms_norm")
def _layer_norm(out: Shape, /, input: Seen, normalized_shape: Sequence[int], *_: Any, **__: Any) -> Sights:
    return _beside_all_along(input, range(-len(normalized_shape), 0))


@is_for("group_norm")
def _group_norm(out: Shape, /, input: Seen, num_groups: int, *_: Any, **__: Any) -> Sights:
    return _beside_all_along(input, range(1, len(input.shape)))


@is_for("instance_norm")
def _instance_norm(out: Shape, /, input: Seen, *_: Any, **__: Any) -> Sights:
    return _beside_all_along(input, range(2, len(input.shape)))


@is_for("batch_norm")
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
    require_constant(running_mean, running_var, weight, bias)
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


def _aligned(given: Seen, out: Shape) -> Shape:
    """The shape of what a matrix product makes of one of its factors: that of the product, as far as it has it."""
    return (*given.shape[:-2], *out[-2:])

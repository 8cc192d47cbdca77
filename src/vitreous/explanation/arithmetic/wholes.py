"""Sums over whole dimensions: dense layers, matrix products, means, normalisation, softmax."""

import math
from collections.abc import Sequence

import numpy as np

from vitreous.explanation.arithmetic.parts import (
    Asked,
    NotFollowed,
    Part,
    Parts,
    Places,
    explains,
    grid,
    one,
    part,
)
from vitreous.explanation.arithmetic.windows import winner
from vitreous.trace.recording import Ref

# --- products ---------------------------------------------------------------------------------------------------------


@explains("linear")
def dense(asked: Asked) -> Parts:
    """Bias + the sum of all features, each by its weight."""
    source, weight, bias = asked.argument(0, "input"), asked.argument(1, "weight"), asked.argument(2, "bias")
    *front, unit = asked.index
    features = range(weight.shape[1])
    weights = asked.numbers(weight, grid([unit], features))
    places = grid(*([each] for each in front), features)
    return Parts(
        [part(asked, source, places, weights)],
        how=f"bias + sum of weight * activation over {weight.shape[1]:,} features",
        bias=0.0 if bias is None else float(asked.of(bias)[unit]),
    )


@explains("matmul", "mm", "bmm")
def product(asked: Asked) -> Parts:
    """A row of the first matrix times a column of the second; both may be made of the image."""
    left, right = asked.tensors()
    if asked.operation.name == "__rmatmul__":
        left, right = right, left
    if min(len(left.shape), len(right.shape)) < 2:
        raise NotFollowed("a product of a matrix and a vector is not taken apart; that of two matrices is.")
    *front, row, column = asked.index
    inner = range(left.shape[-1])
    lefts = grid(*([each] for each in _fitted(front, left.shape[:-2])), [row], inner)
    rights = grid(*([each] for each in _fitted(front, right.shape[:-2])), inner, [column])
    weights = asked.numbers(right, rights)
    made = part(asked, left, lefts, weights)
    return Parts(
        [Part(left, lefts, made.activations, weights, made.is_padding, made.products, right, rights)],
        how=f"sum of {len(inner):,} products, row {row} of the first by column {column} of the second",
    )


def _fitted(front: Sequence[int], shape: Sequence[int]) -> list[int]:
    """The place in a tensor that was broadcast to more dimensions, or along those that hold one."""
    own = front[len(front) - len(shape) :] if shape else []
    return [0 if extent == 1 else at for at, extent in zip(own, shape, strict=True)]


# --- means and extremes -----------------------------------------------------------------------------------------------


@explains("mean", "sum")
def total(asked: Asked) -> Parts:
    """Over some dimensions, or over all."""
    source = asked.argument(0, "input")
    places = _reduced(asked, source)
    is_mean = asked.operation.function == "mean"
    return Parts(
        [part(asked, source, places, 1 / len(places) if is_mean else 1.0)],
        how=f"{asked.operation.function} of {len(places):,} numbers",
    )


@explains("amax", "max")
def largest(asked: Asked) -> Parts:
    """Along some dimensions."""
    if len(asked.tensors()) > 1:
        raise NotFollowed("the larger of two tensors is not taken apart.")
    source = asked.argument(0, "input")
    return winner(asked, source, _reduced(asked, source))


def _reduced(asked: Asked, source: Ref) -> Places:
    """The places that a reduction read for this number."""
    rank, out = len(source.shape), asked.operation.outputs[0]
    dims = asked.operation.kwargs.get("axis", asked.argument(1, "dim"))
    if isinstance(dims, bool):
        raise NotFollowed(f"{asked.operation.function} was called in a way that is not followed.")
    read = set(range(rank)) if dims in (None, ()) else {d % rank for d in ([dims] if isinstance(dims, int) else dims)}
    kept = iter(asked.index)
    axes: list[Sequence[int]] = []
    for dim, extent in enumerate(source.shape):
        if dim in read:
            axes.append(range(extent))
            if len(out) == rank:
                next(kept)
        else:
            axes.append([next(kept)])
    return grid(*axes)


# --- normalisation ----------------------------------------------------------------------------------------------------


@explains("batch_norm")
def batch_norm(asked: Asked) -> Parts:
    """(x - mean) / sqrt(variance + eps) * weight + bias with the stored statistics: one factor and one summand."""
    names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    given = {name: asked.argument(place, name) for place, name in enumerate(names)}
    if given["training"] or given["running_mean"] is None:
        raise NotFollowed("this batch norm takes the statistics of its batch, so a number depends on all the others.")
    channel = asked.index[1]
    mean, variance = (float(asked.of(given[name])[channel]) for name in ("running_mean", "running_var"))
    scale = _parameter(asked, given["weight"], channel, 1.0)
    shift = _parameter(asked, given["bias"], channel, 0.0)
    return _normalised(
        asked, given["input"], mean, variance, scale, shift, 1e-5 if given["eps"] is None else given["eps"]
    )


@explains("layer_norm")
def layer_norm(asked: Asked) -> Parts:
    """As a batch norm, with mean and variance of this image's own numbers along the last dimensions."""
    source, ends = asked.argument(0, "input"), tuple(asked.argument(1, "normalized_shape"))
    front, own = asked.index[: -len(ends)], asked.index[-len(ends) :]
    numbers = asked.of(source)[front].double()
    weight, bias = asked.argument(2, "weight"), asked.argument(3, "bias")
    scale = 1.0 if weight is None else float(asked.of(weight)[own])
    shift = 0.0 if bias is None else float(asked.of(bias)[own])
    mean, variance = float(numbers.mean()), float(numbers.var(unbiased=False))
    return _normalised(asked, source, mean, variance, scale, shift, asked.argument(4, "eps", 1e-5))


@explains("group_norm")
def group_norm(asked: Asked) -> Parts:
    """As a batch norm, with mean and variance of this image's own numbers in the channel's group."""
    source, groups = asked.argument(0, "input"), asked.argument(1, "num_groups")
    batch, channel = asked.index[:2]
    width = source.shape[1] // groups
    group = channel // width
    numbers = asked.of(source)[batch, group * width : (group + 1) * width].double()
    scale = _parameter(asked, asked.argument(2, "weight"), channel, 1.0)
    shift = _parameter(asked, asked.argument(3, "bias"), channel, 0.0)
    mean, variance = float(numbers.mean()), float(numbers.var(unbiased=False))
    return _normalised(asked, source, mean, variance, scale, shift, asked.argument(4, "eps", 1e-5))


def _parameter(asked: Asked, ref: Ref | None, channel: int, default: float) -> float:
    return default if ref is None else float(asked.of(ref)[channel])


def _normalised(
    asked: Asked, source: Ref, mean: float, variance: float, scale: float, shift: float, eps: float
) -> Parts:
    factor = scale / math.sqrt(variance + eps)
    return Parts(
        [part(asked, source, one(asked.index), factor)],
        how="(x - mean)/sqrt(variance + eps)*weight + bias",
        bias=shift - mean * factor,
        steps=[
            f"mean {mean:.6g}, variance {variance:.6g}, eps {eps:g}, weight {scale:.6g}, bias {shift:.6g}",
            f"factor = {scale:.6g}/sqrt({variance:.6g} + {eps:g}) = {factor:.6g}",
            f"summand = {shift:.6g} - {mean:.6g}*{factor:.6g} = {shift - mean * factor:.6g}",
        ],
    )


# --- softmax ----------------------------------------------------------------------------------------------------------


@explains("softmax", "log_softmax")
def softmax(asked: Asked) -> Parts:
    """exp(x) over the sum of all along a dimension; the largest x is taken off first, which changes nothing."""
    source, dim = asked.argument(0, "input"), asked.argument(1, "dim")
    if dim is None:
        raise NotFollowed("this softmax does not say along which dimension.")
    dim %= len(source.shape)
    places = grid(*(range(n) if d == dim else [asked.index[d]] for d, n in enumerate(source.shape)))
    activations = asked.numbers(source, places)
    highest = float(activations.max())
    exponentials = np.exp(activations - highest)
    share = float(exponentials[asked.index[dim]] / exponentials.sum())
    is_log = asked.operation.function == "log_softmax"
    made = part(asked, source, places, np.nan, products=exponentials)
    return Parts(
        [made],
        how=f"exp(x - {highest:.6g}) / sum of {len(places)} such" + (", and its logarithm" if is_log else ""),
        value=math.log(share) if is_log else share,
        steps=[f"{float(exponentials[asked.index[dim]]):.6g} / {float(exponentials.sum()):.6g} = {share:.6g}"],
    )

"""Sums over whole dimensions: dense layers, matrix products, means, normalisation, softmax."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vitreous.explanation.arithmetic.numbers import larger
from vitreous.explanation.arithmetic.parts import (
    Asked,
    Index,
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
    own = grid([unit], features)
    places = grid(*([each] for each in front), features)
    return Parts(
        [part(asked, source, places, asked.numbers(weight, own), weight_source=weight, weight_places=own)],
        how=f"bias + sum of weight * activation over {weight.shape[1]:,} features",
        bias=0.0 if bias is None else float(asked.of(bias)[unit]),
    )


@explains("matmul", "mm", "bmm", "mv", "dot")
def product(asked: Asked) -> Parts:
    """A row of the first matrix times a column of the second; both may be made of the image."""
    left, right = asked.tensors()
    if asked.operation.name == "__rmatmul__":
        left, right = right, left
    return _product(asked, left, right)


@explains("addmm", "baddbmm", "addmv")
def product_and_more(asked: Asked) -> Parts:
    """A number and a product: beta * x + alpha * (a row times a column)."""
    added, left, right = asked.tensors()
    alpha, beta = (float(asked.operation.kwargs.get(name, 1)) for name in ("alpha", "beta"))
    made = _product(asked, left, right, alpha)
    first = part(asked, added, one(_fitted(asked.index, added.shape)), beta)
    return Parts([first, *made.parts], how=f"a number and the {made.how}")


def _product(asked: Asked, left: Ref, right: Ref, alpha: float = 1.0) -> Parts:
    """Of matrices, or of vectors, which have no row or no column to choose."""
    *front, row, column = (*asked.index, *(0 for ref in (left, right) if len(ref.shape) == 1))
    if len(left.shape) == 1 and len(right.shape) > 1:
        *front, column, row = [*front, row, column]
    inner = range(left.shape[-1])
    lefts = grid(*([each] for each in _fitted(front, left.shape[:-2])), *[[row]] * (len(left.shape) > 1), inner)
    rights = grid(*([each] for each in _fitted(front, right.shape[:-2])), inner, *[[column]] * (len(right.shape) > 1))
    weights = alpha * asked.numbers(right, rights)
    return Parts(
        [part(asked, left, lefts, weights, weight_source=right, weight_places=rights)],
        how=f"sum of {len(inner):,} products, row {row} of the first by column {column} of the second",
    )


@explains("scaled_dot_product_attention")
def attention(asked: Asked) -> Parts:
    """The values of all places, each by its share: the softmax of how the query meets their keys."""
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
    given = {name: asked.argument(place, name) for place, name in enumerate(names)}
    query, key, value, mask = (given[name] for name in names[:4])
    if given["dropout_p"] or given["enable_gqa"]:
        raise NotFollowed("an attention with dropout, or with queries in groups, is not taken apart.")
    *front, row, column = asked.index
    keys, features = range(key.shape[-2]), range(query.shape[-1])
    queries = asked.numbers(query, grid(*([each] for each in _fitted(front, query.shape[:-2])), [row], features))
    met = asked.numbers(key, grid(*([each] for each in _fitted(front, key.shape[:-2])), keys, features))
    scale = given["scale"] or 1 / math.sqrt(len(features))
    scores = met.reshape(len(keys), -1) @ queries * scale
    if mask is not None:
        axes = [[0] if n == 1 else at for n, at in zip(mask.shape, _last(front, row, keys, mask), strict=True)]
        masked = asked.numbers(mask, grid(*axes))
        scores = np.where(masked > 0, scores, -np.inf) if asked.of(mask).dtype == torch.bool else scores + masked
    if given["is_causal"]:
        scores = np.where(np.arange(len(keys)) <= row, scores, -np.inf)
    exponentials = np.exp(scores - scores.max())
    places = grid(*([each] for each in _fitted(front, value.shape[:-2])), keys, [column])
    return Parts(
        [part(asked, value, places, exponentials / exponentials.sum())],
        how=f"sum of {len(keys):,} values, each by its share: softmax of query {row} times key, times {scale:.6g}",
    )


def _last(front: Sequence[int], row: int, keys: range, mask: Ref) -> list[Sequence[int]]:
    """The places in a mask, which may have fewer dimensions than the queries."""
    axes: list[Sequence[int]] = [*([each] for each in front), [row], keys]
    return axes[len(axes) - len(mask.shape) :]


def _fitted(front: Sequence[int], shape: Sequence[int]) -> list[int]:
    """The place in a tensor that was broadcast to more dimensions, or along those that hold one."""
    own = front[len(front) - len(shape) :]
    return [0 if extent == 1 else at for at, extent in zip(own, shape, strict=True)]


@explains("einsum")
def sum_of_products(asked: Asked) -> Parts:
    """Of two tensors by their letters: the sum over those that the result does not have."""
    equation, (left, right) = asked.operation.args[0].replace(" ", ""), asked.tensors()
    before, arrow, result = equation.partition("->")
    letters = before.split(",")
    if not arrow or "." in equation or any(len(set(each)) < len(each) for each in letters):
        raise NotFollowed(f"an einsum of {equation} is not taken apart.")
    extents = dict(zip("".join(letters), (*left.shape, *right.shape), strict=True))
    chosen = dict(zip(result, asked.index, strict=True))
    summed = [letter for letter in extents if letter not in chosen]
    combined = grid([0], *(range(extents[letter]) for letter in summed))
    column = {letter: combined[:, place] for place, letter in enumerate(summed, start=1)}
    column |= {letter: np.full(len(combined), at) for letter, at in chosen.items()}
    lefts, rights = (np.stack([column[letter] for letter in each], axis=1) for each in letters)
    made = part(asked, left, lefts, asked.numbers(right, rights), weight_source=right, weight_places=rights)
    return Parts(
        [made],
        how=f"sum of {len(combined):,} products of two numbers, {equation}",
    )


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


@explains("cumsum")
def running_total(asked: Asked) -> Parts:
    """The sum of all numbers up to this place."""
    source = asked.argument(0, "input")
    dim = asked.argument(1, "dim") % len(source.shape)
    places = grid(*(range(at + 1) if axis == dim else [at] for axis, at in enumerate(asked.index)))
    return Parts([part(asked, source, places, 1.0)], how=f"sum of {len(places):,} numbers")


@explains("var", "std", "var_mean", "std_mean")
def spread(asked: Asked) -> Parts:
    """The mean square of the distances from the mean, or its root."""
    source = asked.argument(0, "input")
    places = _reduced(asked, source)
    numbers = asked.numbers(source, places)
    given = asked.operation.kwargs
    correction = given.get("correction", float(asked.argument(2, "unbiased", True)))
    mean = float(numbers.mean())
    squares = (numbers - mean) ** 2 / (len(places) - (1 if correction is None else float(correction)))
    variance = float(squares.sum())
    is_root = asked.operation.function.startswith("std")
    value = math.sqrt(variance) if is_root else variance
    return Parts(
        [part(asked, source, places, np.nan, products=squares)],
        how=f"{'root of the ' if is_root else ''}sum of (x - {mean:.6g})^2 / n over {len(places):,} numbers",
        value=value,
        scale=value + abs(mean) * (1 if is_root else math.sqrt(variance)),
    )


@explains("logsumexp")
def logarithm_of_exponentials(asked: Asked) -> Parts:
    """log(sum of exp(x))."""
    source = asked.argument(0, "input")
    places = _reduced(asked, source)
    numbers = asked.numbers(source, places)
    highest = float(numbers.max())
    exponentials = np.exp(numbers - highest)
    return Parts(
        [part(asked, source, places, np.nan, products=exponentials)],
        how=f"{highest:.6g} + log(sum of exp(x - {highest:.6g}) over {len(places):,} numbers)",
        value=highest + math.log(float(exponentials.sum())),
        scale=abs(highest) + abs(math.log(float(exponentials.sum()))),
    )


@explains("amax", "max", "amin", "min")
def largest(asked: Asked) -> Parts:
    """Along some dimensions."""
    function = asked.operation.function
    if len(asked.tensors()) > 1:
        return larger(asked)
    source = asked.argument(0, "input")
    return winner(asked, source, _reduced(asked, source), is_least=function in ("amin", "min"))


@explains("norm", "linalg_vector_norm")
def length(asked: Asked) -> Parts:
    """The root of the sum of squares along some dimensions."""
    source = asked.argument(0, "input")
    name, order = ("p", "fro") if asked.operation.function == "norm" else ("ord", 2)
    if asked.argument(1, name, order) not in (None, 2, "fro"):
        raise NotFollowed("of the norms the Euclidean one is taken apart.")
    places = _reduced(asked, source, place=2)
    squares = asked.numbers(source, places) ** 2
    return Parts(
        [part(asked, source, places, np.nan, products=squares)],
        how=f"root of the sum of {len(places):,} squares",
        value=math.sqrt(squares.sum()),
    )


@explains("normalize")
def normalized(asked: Asked) -> Parts:
    """A number over the length of its vector."""
    source, dim = asked.argument(0, "input"), asked.argument(2, "dim", 1)
    if asked.argument(1, "p", 2.0) != 2 or not isinstance(dim, int):
        raise NotFollowed("only division by the Euclidean length along one dimension is taken apart.")
    dim %= len(source.shape)
    places = grid(
        *(range(n) if d == dim else [at] for d, (n, at) in enumerate(zip(source.shape, asked.index, strict=True)))
    )
    divisor = max(math.sqrt((asked.numbers(source, places) ** 2).sum()), asked.argument(3, "eps", 1e-12))
    return Parts(
        [part(asked, source, one(asked.index), 1 / divisor)],
        how=f"x / {divisor:.6g}, the length of a vector of {len(places):,} numbers",
    )


def _reduced(asked: Asked, source: Ref, place: int = 1) -> Places:
    """The places that a reduction read for this number."""
    rank, out = len(source.shape), asked.operation.outputs[0]
    dims = asked.operation.kwargs.get("axis", asked.argument(place, "dim"))
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
    """(x - mean) / sqrt(variance + eps) * weight + bias with the stored statistics; the mean is a term like x."""
    names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    given = {name: asked.argument(place, name) for place, name in enumerate(names)}
    if given["training"] or given["running_mean"] is None:
        raise NotFollowed("this batch norm takes the statistics of its batch, so a number depends on all the others.")
    channel = asked.index[1]
    mean, variance = (float(asked.of(given[name])[channel]) for name in ("running_mean", "running_var"))
    eps = 1e-5 if given["eps"] is None else given["eps"]
    norm = _Norm(mean, variance, eps, *_affine(asked, given["weight"], given["bias"], (channel,)))
    own = part(asked, given["input"], one(asked.index), norm.factor)
    return norm.explained([own, part(asked, given["running_mean"], one([channel]), -norm.factor)], own.activations[0])


@explains("layer_norm")
def layer_norm(asked: Asked) -> Parts:
    """As a batch norm, with mean and variance of this image's own numbers along the last dimensions."""
    source, ends = asked.argument(0, "input"), tuple(asked.argument(1, "normalized_shape"))
    front, own = asked.index[: -len(ends)], asked.index[-len(ends) :]
    places = grid(*([each] for each in front), *map(range, ends))
    affine = _affine(asked, asked.argument(2, "weight"), asked.argument(3, "bias"), own)
    return _by_own_statistics(asked, source, places, asked.argument(4, "eps", 1e-5), *affine)


@explains("group_norm")
def group_norm(asked: Asked) -> Parts:
    """As a batch norm, with mean and variance of this image's own numbers in the channel's group."""
    source, groups = asked.argument(0, "input"), asked.argument(1, "num_groups")
    batch, channel = asked.index[:2]
    width = source.shape[1] // groups
    first = channel // width * width
    places = grid([batch], range(first, first + width), *map(range, source.shape[2:]))
    affine = _affine(asked, asked.argument(2, "weight"), asked.argument(3, "bias"), (channel,))
    return _by_own_statistics(asked, source, places, asked.argument(4, "eps", 1e-5), *affine)


@explains("instance_norm")
def instance_norm(asked: Asked) -> Parts:
    """As a batch norm, with mean and variance of this image's own numbers in the channel."""
    source, (batch, channel) = asked.argument(0, "input"), asked.index[:2]
    if not asked.argument(5, "use_input_stats", True):
        raise NotFollowed("an instance norm with stored statistics is not taken apart.")
    places = grid([batch], [channel], *map(range, source.shape[2:]))
    affine = _affine(asked, asked.argument(3, "weight"), asked.argument(4, "bias"), (channel,))
    return _by_own_statistics(asked, source, places, asked.argument(7, "eps", 1e-5), *affine)


@explains("local_response_norm")
def local_response_norm(asked: Asked) -> Parts:
    """A number / (k + alpha * mean of x^2)^beta over neighbouring channels, zeros beside the first and the last."""
    source, size = asked.argument(0, "input"), asked.argument(1, "size")
    alpha, beta, k = (
        asked.argument(place, name, default)
        for place, (name, default) in enumerate((("alpha", 1e-4), ("beta", 0.75), ("k", 1.0)), start=2)
    )
    batch, channel, *at = asked.index
    first, end = max(0, channel - size // 2), min(source.shape[1], channel + (size - 1) // 2 + 1)
    neighbours = asked.numbers(source, grid([batch], range(first, end), *([each] for each in at)))
    divisor = (k + alpha * float((neighbours**2).sum()) / size) ** beta
    return Parts(
        [part(asked, source, one(asked.index), 1 / divisor)],
        how=f"x / {divisor:.6g}, by the squares of channels {first} to {end - 1}",
    )


@explains("rms_norm")
def rms_norm(asked: Asked) -> Parts:
    """A number over the root of the mean square along the last dimensions, times weight."""
    source, ends = asked.argument(0, "input"), tuple(asked.argument(1, "normalized_shape"))
    front, own = asked.index[: -len(ends)], asked.index[-len(ends) :]
    scale, _ = _affine(asked, asked.argument(2, "weight"), None, own)
    numbers = asked.numbers(source, grid(*([each] for each in front), *map(range, ends)))
    eps = asked.argument(3, "eps")
    eps = torch.finfo(asked.of(source).dtype).eps if eps is None else eps
    square = float((numbers**2).mean())
    factor = scale / math.sqrt(square + eps)
    return Parts(
        [part(asked, source, one(asked.index), factor)],
        how="x/sqrt(mean square + eps)*weight",
        steps=[f"factor = {scale:.6g}/sqrt({square:.6g} + {eps:.3g}) = {factor:.6g}"],
    )


@dataclass(frozen=True, slots=True)
class _Norm:
    mean: float
    variance: float
    eps: float
    scale: float
    shift: float

    @property
    def factor(self) -> float:
        """What (x - mean) is multiplied by."""
        return self.scale / math.sqrt(self.variance + self.eps)

    def explained(self, parts: Sequence[Part], number: float) -> Parts:
        """The parts, which hold x and the mean, and the formula with its numbers."""
        result = (number - self.mean) * self.factor + self.shift
        return Parts(
            parts,
            how="(x - mean)/sqrt(variance + eps)*weight + bias",
            bias=self.shift,
            steps=[
                f"factor = {self.scale:.6g}/sqrt({self.variance:.6g} + {self.eps:g}) = {self.factor:.6g}",
                f"({number:.6g} - {self.mean:.6g})*{self.factor:.6g} + {self.shift:.6g} = {result:.6g}",
            ],
        )


def _by_own_statistics(asked: Asked, source: Ref, places: Places, eps: float, scale: float, shift: float) -> Parts:
    """Every number has a part in the mean: x by the factor, less a share of the factor by each of the numbers."""
    numbers = asked.numbers(source, places)
    norm = _Norm(float(numbers.mean()), float(numbers.var()), eps, scale, shift)
    is_own = (places == np.array(asked.index)).all(axis=1)
    weights = norm.factor * (is_own - 1 / len(places))
    return norm.explained([part(asked, source, places, weights)], float(numbers[is_own][0]))


def _affine(asked: Asked, weight: Ref | None, bias: Ref | None, place: Index) -> tuple[float, float]:
    """Factor and summand of a norm; 1 and 0 where it has none."""
    scale = 1.0 if weight is None else float(asked.of(weight)[place])
    return scale, 0.0 if bias is None else float(asked.of(bias)[place])


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
    own, divisor = asked.index[dim], float(exponentials.sum())
    share = float(exponentials[own] / divisor)
    is_log = asked.operation.function == "log_softmax"
    made = part(asked, source, places, np.nan, products=exponentials)
    return Parts(
        [made],
        how=f"exp(x - {highest:.6g}) / sum of {len(places)} such" + (", and its logarithm" if is_log else ""),
        value=float(activations[own] - highest - math.log(divisor)) if is_log else share,
        steps=[f"{float(exponentials[own]):.6g} / {divisor:.6g} = {share:.6g}"],
        scale=float(abs(activations[own]) + abs(highest)) if is_log else 0.0,
    )

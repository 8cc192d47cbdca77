"""Larger maps: resampling, shuffling, repeating."""

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

from vitreous.trace.arguments import on_each_axis
from vitreous.trace.rules.parts import NotFollowed, Seen, Sights, is_for
from vitreous.trace.rules.windows import binned
from vitreous.trace.shapes import Shape
from vitreous.trace.sight import Sight


@is_for("interpolate", "upsample", "upsample_nearest", "upsample_bilinear")
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
        return tuple(binned(sight, input.shape, out) for sight in input.axes)
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


@is_for("pixel_shuffle")
def _pixel_shuffle(out: Shape, /, input: Seen, upscale_factor: int) -> Sights:
    """R x r channels be r x r units, which look where the channels looked."""
    return tuple(_spread(sight, len(out) - 2, upscale_factor) for sight in input.axes)


def _spread(sight: Sight, first: int, times: int) -> Sight:
    if sight.dim is None or sight.dim < first:
        return sight.some(1) if sight.dim is not None else sight.parted()
    return sight.parted().resampled(Fraction(1, times), lambda unit: [unit // times])


@is_for("pixel_unshuffle")
def _pixel_unshuffle(out: Shape, /, input: Seen, downscale_factor: int) -> Sights:
    """Each channel of the result sees one unit of the window that they see together."""

    def through(sight: Sight) -> Sight:
        if sight.dim is None:
            return sight
        if sight.dim < len(out) - 2:
            raise NotFollowed
        return replace(sight.slide(downscale_factor, downscale_factor), is_mixed=downscale_factor > 1)

    return tuple(through(sight) for sight in input.axes)


@is_for("repeat_interleave")
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


@is_for("repeat", "tile")
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

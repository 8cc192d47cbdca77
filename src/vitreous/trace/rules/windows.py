"""Convolution, pooling, padding, and windows laid side by side."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from vitreous.geometry import conv_output_size
from vitreous.trace.arguments import on_each_axis
from vitreous.trace.rules.parts import (
    NotFollowed,
    Seen,
    Sights,
    cropped,
    is_for,
    is_for_axes,
    require_constant,
    stepped_dims,
)
from vitreous.trace.shapes import Shape
from vitreous.trace.sight import Sight, window


@is_for_axes("conv{}d")
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
    require_constant(weight, bias)
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


@is_for_axes("conv_transpose{}d")
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
    require_constant(weight, bias)
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


@is_for_axes("max_pool{}d", "max_pool{}d_with_indices")
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


@is_for_axes("avg_pool{}d")
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


@is_for_axes("adaptive_avg_pool{}d", "adaptive_max_pool{}d", "adaptive_max_pool{}d_with_indices")
def _adaptive_pool(num_axes: int, out: Shape, /, input: Seen, output_size: Any, return_indices: bool = False) -> Sights:
    return tuple(binned(sight, input.shape, out) for sight in input.axes)


def binned(sight: Sight, before: Shape, after: Shape) -> Sight:
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


@is_for("pad")
def _pad(out: Shape, /, input: Seen, pad: Sequence[int], mode: str = "constant", value: Any = None) -> Sights:
    """What is mirrored, repeated or wrapped around stands at the border, which is left aside: as if it were zeros."""
    nears = {len(input.shape) - 1 - n // 2: pad[n] for n in range(0, len(pad), 2)}
    fars = {len(input.shape) - 1 - n // 2: pad[n] for n in range(1, len(pad), 2)}

    def through(sight: Sight) -> Sight:
        if sight.dim is None or sight.dim not in nears:
            return sight
        padded = sight.slide(1, 1, (nears[sight.dim], fars[sight.dim]))
        return padded if min(nears[sight.dim], fars[sight.dim]) >= 0 else cropped(padded)

    adds_channels = any((nears[dim], fars[dim]) != (0, 0) for dim in nears.keys() - stepped_dims(input))
    return tuple(replace(through(sight), is_mixed=sight.is_mixed or adds_channels) for sight in input.axes)


@is_for("unfold")
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

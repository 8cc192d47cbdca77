"""Sums over windows: convolution, transposed convolution, pooling."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from vitreous.explanation.arithmetic.parts import (
    Asked,
    NotFollowed,
    Parts,
    Places,
    chosen,
    explains,
    for_axes,
    grid,
    part,
)
from vitreous.trace.arguments import on_each_axis, replaced
from vitreous.trace.recording import Ref
from vitreous.trace.windows import Window, arguments_of, windows_of
from vitreous.wording import counted

# --- convolution ------------------------------------------------------------------------------------------------------


@explains(*for_axes("conv{}d"))
def convolution(asked: Asked) -> Parts:
    """Bias + the sum over the channels of the filter's group and its taps; taps beside the input meet zeros."""
    given, windows = arguments_of(asked.operation), _windows(asked)
    source, weight, bias = given["input"], given["weight"], given.get("bias")
    _, filter_number, *units = asked.index
    channels_in_group = weight.shape[1]
    group = filter_number // (weight.shape[0] // given.get("groups", 1))
    taps = grid(range(channels_in_group), *(range(window.kernel) for window in windows))
    places = taps.copy()
    places[:, 0] += group * channels_in_group
    for axis, (window, unit) in enumerate(zip(windows, units, strict=True), start=1):
        places[:, axis] = unit * window.stride - window.padding[0] + taps[:, axis] * window.dilation
    is_padding = _outside(places[:, 1:], [window.size for window in windows])
    places = np.insert(places, 0, asked.index[0], axis=1)
    own = np.insert(taps, 0, filter_number, axis=1)
    filters = asked.numbers(weight, own)
    kernel = " x ".join(str(window.kernel) for window in windows)
    return Parts(
        [part(asked, source, places, filters, is_padding, weight_source=weight, weight_places=own)],
        how=f"bias + sum of weight * activation over {counted(channels_in_group, 'channel')} and {kernel} taps",
        bias=_bias(asked, bias, filter_number),
    )


@explains(*for_axes("conv_transpose{}d"))
def transposed_convolution(asked: Asked) -> Parts:
    """Every number of the input is spread over a window; here are those whose windows hold this unit."""
    source, weight, bias = asked.argument(0, "input"), asked.argument(1, "weight"), asked.argument(2, "bias")
    num_axes = len(weight.shape) - 2
    if len(source.shape) != len(weight.shape):
        raise NotFollowed("a map without the dimension of the batch is not taken apart.")
    settings = [
        on_each_axis(asked.argument(place, name, default), num_axes)
        for place, name, default in ((3, "stride", 1), (4, "padding", 0), (7, "dilation", 1))
    ]
    groups = asked.argument(6, "groups", 1)
    batch, filter_number, *units = asked.index
    group, number_in_group = divmod(filter_number, weight.shape[1])
    channels = range(group * source.shape[1] // groups, (group + 1) * source.shape[1] // groups)
    pairs = [
        _spreading(unit, size, kernel, *setting)
        for unit, size, kernel, setting in zip(
            units, source.shape[2:], weight.shape[2:], zip(*settings, strict=True), strict=True
        )
    ]
    combined = grid(channels, *(range(len(each)) for each in pairs))  # channel, and which pair along each axis
    at = [np.array(each, np.int64).reshape(-1, 2)[combined[:, axis]] for axis, each in enumerate(pairs, start=1)]
    zero = np.full(len(combined), batch)
    places = np.stack([zero, combined[:, 0], *(each[:, 0] for each in at)], axis=1)
    taps = np.stack([combined[:, 0], np.full(len(combined), number_in_group), *(each[:, 1] for each in at)], axis=1)
    return Parts(
        [part(asked, source, places, asked.numbers(weight, taps), weight_source=weight, weight_places=taps)],
        how="bias + sum of weight * activation over the units whose windows reach this one",
        bias=_bias(asked, bias, filter_number),
    )


def _spreading(unit: int, size: int, kernel: int, stride: int, padding: int, dilation: int) -> list[tuple[int, int]]:
    """The input units, with the tap by which each reaches an output unit."""
    reached = [(unit + padding - tap * dilation, tap) for tap in range(kernel)]
    return [(at // stride, tap) for at, tap in reached if at % stride == 0 and 0 <= at // stride < size]


def _windows(asked: Asked) -> tuple[Window, ...]:
    """Of one image in a batch; a map that lost this dimension is not looked at."""
    windows = windows_of(asked.operation)
    if f"{len(windows)}d" not in asked.operation.function:
        raise NotFollowed("a map without the dimension of the batch is not taken apart.")
    return windows


def _bias(asked: Asked, bias: Ref | None, number: int) -> float:
    return 0.0 if bias is None else float(asked.of(bias)[number])


def _outside(places: Places, sizes: Sequence[int]) -> NDArray[np.bool_]:
    return np.asarray(((places < 0) | (places >= np.array(sizes))).any(axis=1))


# --- pooling ----------------------------------------------------------------------------------------------------------


@explains(*for_axes("max_pool{}d", "max_pool{}d_with_indices"))
def max_pooling(asked: Asked) -> Parts:
    """The largest of a window, the first of several that are equal; padding can never win."""
    windows = _windows(asked)
    axes = [
        [at for tap in range(w.kernel) if 0 <= (at := unit * w.stride - w.padding[0] + tap * w.dilation) < w.size]
        for w, unit in zip(windows, _units(asked, len(windows)), strict=True)
    ]
    return _winner(asked, arguments_of(asked.operation)["input"], axes)


@explains(*for_axes("adaptive_max_pool{}d", "adaptive_max_pool{}d_with_indices"))
def adaptive_max_pooling(asked: Asked) -> Parts:
    """The largest of a bin that depends on the sizes of both maps."""
    source = asked.argument(0, "input")
    return _winner(asked, source, _bins(asked, source))


@explains(*for_axes("avg_pool{}d"))
def average_pooling(asked: Asked) -> Parts:
    """The sum of a window over its divisor: the taps that count, which padding may or may not."""
    given, windows = arguments_of(asked.operation), _windows(asked)
    counts_padding = given.get("count_include_pad", True)
    axes, num_counted, inside = [], 1, 1
    for window, unit in zip(windows, _units(asked, len(windows)), strict=True):
        first = unit * window.stride - window.padding[0]
        end = min(first + window.kernel, window.size + window.padding[0])  # what hangs over that does not count
        axes.append([at for at in range(first, end) if counts_padding or 0 <= at < window.size])
        num_counted *= end - first
        inside *= min(end, window.size) - max(first, 0)
    divisor = given.get("divisor_override") or (num_counted if counts_padding else inside)
    places = _placed(asked, axes)
    is_padding = _outside(places[:, -len(windows) :], [window.size for window in windows])
    return Parts(
        [part(asked, given["input"], places, 1 / divisor, is_padding)],
        how=f"sum of {counted(len(places), 'number')} / {divisor}",
    )


@explains(*for_axes("adaptive_avg_pool{}d"))
def adaptive_average_pooling(asked: Asked) -> Parts:
    """The mean of a bin that depends on the sizes of both maps."""
    source = asked.argument(0, "input")
    places = _placed(asked, _bins(asked, source))
    return Parts([part(asked, source, places, 1 / len(places))], how=f"mean of {counted(len(places), 'number')}")


def _bins(asked: Asked, source: Ref) -> list[range]:
    """Bin i of m over n numbers is [floor(i n / m), ceil((i + 1) n / m))."""
    num_axes = int(asked.operation.function.partition("pool")[2][0])
    outs = asked.operation.outputs[0][-num_axes:]
    units = _units(asked, num_axes)
    return [
        range(i * n // m, -(-(i + 1) * n // m)) for i, n, m in zip(units, source.shape[-num_axes:], outs, strict=True)
    ]


def _units(asked: Asked, num_axes: int) -> Sequence[int]:
    return asked.index[len(asked.index) - num_axes :]


def _placed(asked: Asked, axes: Sequence[Sequence[int]]) -> Places:
    """Places in the same image and channel."""
    return grid(*([each] for each in asked.index[: len(asked.index) - len(axes)]), *axes)


def _winner(asked: Asked, source: Ref, axes: Sequence[Sequence[int]]) -> Parts:
    places = _placed(asked, axes)
    if not len(places):
        raise NotFollowed(f"{asked.operation.function} found nothing in this unit's window but padding.")
    return winner(asked, source, places)


def winner(asked: Asked, source: Ref, places: Places, is_least: bool = False) -> Parts:
    """The largest (or least) of some numbers: it counts once and the others not at all."""
    activations = asked.numbers(source, places)
    best = int(activations.argmin() if is_least else activations.argmax())  # the first of several, as torch chooses
    ties = int((activations == activations[best]).sum())
    first = f"; the first of {ties} that are equal" if ties > 1 else ""
    return Parts(
        [chosen(asked, source, places, best)],
        how=f"{'least' if is_least else 'largest'} of {counted(len(places), 'number')}{first}",
    )


# --- enlarging --------------------------------------------------------------------------------------------------------


@explains("interpolate", "upsample", "upsample_nearest", "upsample_bilinear", "grid_sample", "fold")
def weighted_sum(asked: Asked) -> Parts:
    """Of the nearest numbers, or of overlapping patches; the weights are torch's own, read from its gradient."""
    source = asked.tensors()[0]
    leaf = torch.zeros(source.shape, dtype=torch.float64, requires_grad=True)

    def given(ref: Ref) -> Tensor:
        return leaf if ref is source else asked.of(ref).double()

    args, kwargs = replaced(Ref, given, (asked.operation.args, dict(asked.operation.kwargs)))
    function = asked.operation.function
    name = function if function in ("grid_sample", "fold") else "interpolate"
    made = getattr(functional, name)(*args, **kwargs)
    (weights,) = torch.autograd.grad(made[asked.index], leaf)
    places = np.asarray(weights.nonzero().numpy())
    mode = f", {asked.operation.kwargs.get('mode', 'nearest')}" if name == "interpolate" else ""
    return Parts(
        [part(asked, source, places, np.asarray(weights[tuple(places.T)].numpy()))],
        how=f"weighted sum of {counted(len(places), 'number')}{mode}",
    )

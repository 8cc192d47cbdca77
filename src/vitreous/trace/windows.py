"""The windows of an operation: kernel, stride, padding and dilation along each axis, read from its arguments."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vitreous.geometry import conv_output_size, kernel_span, leftover_pixels
from vitreous.trace.arguments import on_each_axis
from vitreous.trace.recording import Operation, Ref

_CONVOLUTION = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_MAX_POOL = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_AVERAGE_POOL = (*("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),)
_NAMES = {
    **{f"conv{n}d": _CONVOLUTION for n in (1, 2, 3)},
    **{f"max_pool{n}d": _MAX_POOL for n in (1, 2, 3)},
    **{f"max_pool{n}d_with_indices": _MAX_POOL for n in (1, 2, 3)},
    **{f"avg_pool{n}d": _AVERAGE_POOL for n in (1, 2, 3)},
}


@dataclass(frozen=True, slots=True)
class Window:
    """Along one axis: ``size`` input units, of which each output unit reads ``kernel``, ``dilation`` apart."""

    size: int
    kernel: int
    stride: int
    padding: tuple[int, int]  # near and far end
    dilation: int
    units: int  # of the output

    @property
    def span(self) -> int:
        """From the first tap to the last."""
        return kernel_span(self.kernel, self.dilation)

    @property
    def num_inside(self) -> int:
        """Taps of all units together that fall on the input and not beside it."""
        firsts = (unit * self.stride - self.padding[0] for unit in range(self.units))
        return sum(0 <= first + tap * self.dilation < self.size for first in firsts for tap in range(self.kernel))

    @property
    def leftover(self) -> int:
        """The input's last units that no window reaches."""
        fits = conv_output_size(self.size, self.kernel, self.stride, self.padding, self.dilation)
        return leftover_pixels(self.size, self.kernel, self.stride, self.padding, self.dilation) * (fits == self.units)

    @property
    def num_skipped(self) -> int:
        """Input units between two windows that neither reads: a stride longer than the kernel."""
        read = {
            unit * self.stride - self.padding[0] + tap * self.dilation
            for unit in range(self.units)
            for tap in range(self.kernel)
        }
        return self.size - self.leftover - len(read & set(range(self.size - self.leftover)))


def windows_of(operation: Operation) -> tuple[Window, ...]:
    """One window per axis of the image's; empty where the operation has none."""
    return tuple(_windows(operation))


def arguments_of(operation: Operation) -> dict[str, Any]:
    """The arguments of a convolution or pooling by name, as far as they were given."""
    return {**dict(zip(_NAMES[operation.function], operation.args, strict=False)), **operation.kwargs}


def padding_share(windows: tuple[Window, ...]) -> float:
    """How many of the taps fall on padding: of a 3x3 on 7x7 with a padding of 1, 1 - (19/21)^2.

    >>> round(padding_share((Window(7, 3, 1, (1, 1), 1, 7),) * 2), 3)
    0.181
    """
    inside = math.prod(window.num_inside for window in windows)
    return 1 - inside / math.prod(window.units * window.kernel for window in windows)


def _windows(operation: Operation) -> Iterator[Window]:
    if operation.function not in _NAMES:
        return
    given = arguments_of(operation)
    source, weight = given["input"], given.get("weight")
    kernel = weight.shape[2:] if isinstance(weight, Ref) else given["kernel_size"]
    num_axes = len(source.shape) - 2
    kernels = on_each_axis(kernel, num_axes)
    strides = on_each_axis(given.get("stride") or (1 if weight else kernel), num_axes)
    dilations = on_each_axis(given.get("dilation", 1), num_axes)
    units = operation.outputs[0][2:]
    for axis in range(num_axes):
        padding = _ends(given.get("padding", 0), axis, num_axes, kernels[axis], dilations[axis])
        yield Window(source.shape[2 + axis], kernels[axis], strides[axis], padding, dilations[axis], units[axis])


def _ends(padding: Any, axis: int, num_axes: int, kernel: int, dilation: int) -> tuple[int, int]:
    if padding == "valid":
        return 0, 0
    if padding == "same":  # what does not come out even goes to the far end
        total = kernel_span(kernel, dilation) - 1
        return total // 2, total - total // 2
    side = on_each_axis(padding, num_axes)[axis]
    return side, side

"""Sizes, paddings, receptive fields and costs of layers: exact whole numbers, one axis at a time, no torch.

Terms: a *unit* is one position of a feature map; its *window* is the stretch of pixels that a layer reads for it;
a kernel with dilation d *spans* d(k-1) + 1 pixels. A padding is one number for both ends, or (near end, far end).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from vitreous.errors import ShapeError

Padding = int | tuple[int, int]
Pixels = int | Fraction  # parts of a pixel where a map was enlarged


# --- sizes ------------------------------------------------------------------------------------------------------------


def kernel_span(kernel: int, dilation: int = 1) -> int:
    """Pixels from a kernel's first tap to its last, both included.

    >>> kernel_span(3, dilation=2)
    5
    """
    return dilation * (kernel - 1) + 1


def same_padding(kernel: int, dilation: int = 1) -> tuple[int, int]:
    """Zeros to add at the near and the far end so that stride 1 keeps the size and stride s gives ceil(size / s).

    An even kernel needs an odd number of them; the extra one goes to the far end.

    >>> same_padding(3), same_padding(4)
    ((1, 1), (1, 2))
    """
    total = kernel_span(kernel, dilation) - 1
    return total // 2, total - total // 2


def conv_output_size(size: int, kernel: int, stride: int = 1, padding: Padding = 0, dilation: int = 1) -> int:
    """Length of a convolution's output along one axis, in pixels; "valid" is padding 0.

    Source: torch.nn.Conv2d, "Shape".

    Raises:
        ShapeError: the dilated kernel is longer than the padded input.

    >>> conv_output_size(224, kernel=7, stride=2, padding=3)
    112
    """
    span = kernel_span(kernel, dilation)
    padded = size + sum(_ends(padding))
    if span > padded:
        raise ShapeError(f"the kernel spans {span} px but the padded input has only {padded} px; use a larger input")
    return (padded - span) // stride + 1


def leftover_pixels(size: int, kernel: int, stride: int = 1, padding: Padding = 0, dilation: int = 1) -> int:
    """How many of the input's last pixels lie behind the last window, because the stride does not come out even.

    >>> leftover_pixels(6, kernel=3, stride=2)
    1
    """
    num_units = conv_output_size(size, kernel, stride, padding, dilation)
    near, _ = _ends(padding)
    end_of_last_window = (num_units - 1) * stride + kernel_span(kernel, dilation) - near
    return max(0, size - end_of_last_window)


def smallest_input_size(output: int, kernel: int, stride: int = 1, padding: Padding = 0, dilation: int = 1) -> int:
    """The shortest input whose convolution has at least ``output`` units: the way back through conv_output_size.

    >>> smallest_input_size(5, kernel=2, stride=2)
    10
    """
    return max(1, (output - 1) * stride + kernel_span(kernel, dilation) - sum(_ends(padding)))


def pool_output_size(
    size: int, kernel: int, stride: int | None = None, padding: int = 0, dilation: int = 1, *, ceil_mode: bool = False
) -> int:
    """Length of a pooling layer's output along one axis, in pixels; the stride is the kernel unless given.

    With ``ceil_mode`` the last window may hang over the far end, if it starts inside the input or the near padding.

    Source: torch.nn.MaxPool2d, "Shape".

    Raises:
        ShapeError: no window fits, or the padding is more than half the kernel.

    >>> pool_output_size(13, kernel=2), pool_output_size(13, kernel=2, ceil_mode=True)
    (6, 7)
    """
    stride = kernel if stride is None else stride
    if 2 * padding > kernel:
        raise ShapeError(f"padding {padding} is more than half of the kernel {kernel}; use at most {kernel // 2}")
    if not ceil_mode:
        return conv_output_size(size, kernel, stride, padding, dilation)
    span = kernel_span(kernel, dilation)
    num_units = -((span - size - 2 * padding) // stride) + 1
    if (num_units - 1) * stride >= size + padding:
        num_units -= 1
    if num_units < 1:
        raise ShapeError(f"the window spans {span} px but the input has only {size} px; use a larger input")
    return num_units


def _ends(padding: Padding) -> tuple[int, int]:
    return (padding, padding) if isinstance(padding, int) else padding


# --- receptive fields -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """Which input pixels a layer's units depend on, along one axis; the default is the input itself.

    Unit i sees the ``size`` pixels from ``start + i * jump`` on. The window is a hull: dilation leaves holes in it.

    Source: Araujo, Norris, Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019.

    >>> after_three_convolutions = ReceptiveField().through(3).through(3).through(3)
    >>> after_three_convolutions.through(2, stride=2)  # 8, not 14: what a pool doubles is the jump
    ReceptiveField(size=8, jump=2, start=0)
    """

    size: Pixels = 1
    jump: Pixels = 1
    start: Pixels = 0

    def through(self, kernel: int, stride: int = 1, padding: Padding = 0, dilation: int = 1) -> "ReceptiveField":
        """The field after one more convolution or pooling; a global operation over n units is ``through(n)``."""
        near, _ = _ends(padding)
        return ReceptiveField(
            size=whole(self.size + dilation * (kernel - 1) * self.jump),
            jump=whole(self.jump * stride),
            start=whole(self.start - near * self.jump),
        )

    def window(self, unit: int) -> range:
        """The pixels in sight of a unit, those in the padding (below 0 or behind the image) included."""
        first = self.start + unit * self.jump
        return range(math.ceil(first), math.floor(first + self.size - 1) + 1)

    def clipped(self, unit: int, image_size: int) -> range:
        """The pixels of the image in sight of a unit; empty if it sees nothing but padding."""
        window = self.window(unit)
        return range(max(window.start, 0), min(window.stop, image_size))

    def centre(self, unit: int) -> Fraction:
        """The middle of a unit's window; it falls between two pixels if the size is even."""
        return Fraction(2 * (self.start + unit * self.jump) + self.size - 1) / 2


def whole(number: Pixels) -> Pixels:
    """An int where a fraction has come out even.

    >>> whole(Fraction(4, 2)), whole(Fraction(1, 2))
    (2, Fraction(1, 2))
    """
    return int(number) if number == int(number) else number


class Merged(NamedTuple):
    """Branches joined: the hull of their receptive fields, and whether their centres agree."""

    field: ReceptiveField
    is_aligned: bool


def merge(branches: Sequence[ReceptiveField]) -> Merged:
    """The receptive field of a sum or a concatenation of branches.

    Raises:
        ShapeError: the branches move over the image in different steps, so their units do not correspond.

    >>> merge([ReceptiveField(), ReceptiveField().through(3, padding=1)])
    Merged(field=ReceptiveField(size=3, jump=1, start=-1), is_aligned=True)
    """
    jumps = sorted({branch.jump for branch in branches})
    if len(jumps) > 1:
        raise ShapeError(f"branches with jumps of {jumps} px cannot be joined; give them the same total stride")
    start = min(branch.start for branch in branches)
    end = max(branch.start + branch.size for branch in branches)
    is_aligned = len({branch.centre(0) for branch in branches}) == 1
    return Merged(ReceptiveField(whole(end - start), jumps[0], start), is_aligned)


# --- costs ------------------------------------------------------------------------------------------------------------


class Cost(NamedTuple):
    """Trainable parameters, and multiply-accumulate operations per image (a bias is an addition, not a MAC)."""

    params: int
    macs: int


POOLING_COST = Cost(0, 0)  # comparisons and averages are not counted as MACs


def conv_cost(
    in_channels: int,
    out_channels: int,
    kernel: Sequence[int],
    output_size: Sequence[int],
    *,
    groups: int = 1,
    bias: bool = True,
) -> Cost:
    """What a convolution costs: every output value is a sum over the kernel and the channels of its group.

    Raises:
        ShapeError: the groups do not divide the channels.

    >>> conv_cost(3, 64, kernel=(3, 3), output_size=(224, 224))
    Cost(params=1792, macs=86704128)
    """
    if in_channels % groups or out_channels % groups:
        raise ShapeError(f"{groups} groups do not divide {in_channels} input and {out_channels} output channels")
    num_weights = out_channels * (in_channels // groups) * math.prod(kernel)
    return Cost(num_weights + bias * out_channels, num_weights * math.prod(output_size))


def linear_cost(in_features: int, out_features: int, *, bias: bool = True) -> Cost:
    """What a fully connected layer costs.

    >>> linear_cost(224 * 224 * 3, 1000)  # the article's argument for convolutions
    Cost(params=150529000, macs=150528000)
    """
    num_weights = in_features * out_features
    return Cost(num_weights + bias * out_features, num_weights)


def batch_norm_cost(channels: int) -> Cost:
    """A scale and a shift per channel; both fold into the layer before, so no MACs are counted."""
    return Cost(2 * channels, 0)

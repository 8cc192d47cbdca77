"""A blur before every second number is left out, so that what is left changes less when the image is shifted.

What steps over a map in strides goes one by one instead, and a fixed blur takes the stride: a max pool becomes a max
pool of stride 1 and a blur, a convolution with its activation one of stride 1, the activation, and a blur. The sizes of
all maps stay what they were, and so do the parameters: the filter is not trained and not among the saved weights.

Source: Zhang 2019, "Making Convolutional Networks Shift-Invariant Again", section 3.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

TAPS = (0.25, 0.5, 0.25)  # "Tri-3" in the paper


class BlurPool(nn.Module):
    """Each channel blurred by [1, 2, 1] / 4 down and across, then every s-th unit. N,C,H,W -> N,C,ceil(H/s),ceil(W/s).

    At the border the map is mirrored, which keeps an even map even; a map must have two rows and two columns for that.

    >>> BlurPool(1, stride=2)(torch.full((1, 1, 4, 4), 3.0)).squeeze().tolist()
    [[3.0, 3.0], [3.0, 3.0]]
    """

    filter: Tensor

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.channels = channels
        self.stride = stride
        line = torch.tensor(TAPS)
        self.register_buffer("filter", torch.outer(line, line).repeat(channels, 1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(pad(x, (1, 1, 1, 1), mode="reflect"), self.filter, stride=self.stride, groups=self.channels)

    def extra_repr(self) -> str:
        return f"{self.channels}, stride={self.stride}"

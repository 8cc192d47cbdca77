"""MobileNetV2: cheap depthwise convolutions between 1x1 ones. N,C,H,W -> logits N,K, images of any size.

The keys of the weights are torchvision's.

Source: Sandler, Howard, Zhu, Zhmoginov, Chen 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", table 2.
"""

from collections import OrderedDict
from collections.abc import Iterator

from torch import Tensor, nn

from vitreous.models.initialisation import initialise_he

# Table 2: how many times a block widens its input, its output channels, how many blocks, the stride of the first.
STAGES = (
    (1, 16, 1, 1),  # N,16,112,112 from 224 px
    (6, 24, 2, 2),  # N,24,56,56
    (6, 32, 3, 2),  # N,32,28,28
    (6, 64, 4, 2),  # N,64,14,14
    (6, 96, 3, 1),  # N,96,14,14
    (6, 160, 3, 2),  # N,160,7,7
    (6, 320, 1, 1),  # N,320,7,7
)


def mobilenet_v2(*, num_classes: int, in_channels: int) -> nn.Sequential:
    """MobileNetV2 of width 1; 3,504,872 parameters for 1000 classes of colour images.

    The paper names no first weights; these are torchvision's.
    """
    network = nn.Sequential(
        OrderedDict(
            features=nn.Sequential(*_features(in_channels)),  # N,1280,7,7 from 224 px
            avgpool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            classifier=nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, num_classes)),
        )
    )
    initialise_he(network, linear_std=0.01)
    return network


def _features(in_channels: int) -> Iterator[nn.Module]:
    yield conv_norm_relu(in_channels, 32, kernel=3, stride=2)  # N,32,112,112 from 224 px
    in_channels = 32
    for expansion, out_channels, num_blocks, stride in STAGES:
        for number in range(num_blocks):
            yield InvertedResidual(in_channels, out_channels, stride if number == 0 else 1, expansion)
            in_channels = out_channels
    yield conv_norm_relu(in_channels, 1280, kernel=1)


class InvertedResidual(nn.Module):
    """Widen by 1x1, filter each channel by 3x3, narrow by 1x1; added to the input where the shapes agree (fig. 4d).

    N,C,H,W -> N,K,ceil(H/s),ceil(W/s). The narrow end is linear: a ReLU there would lose what few channels hold.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = expansion * in_channels
        self.conv = nn.Sequential(
            *([] if expansion == 1 else [conv_norm_relu(in_channels, width, kernel=1)]),
            conv_norm_relu(width, width, kernel=3, stride=stride, groups=width),
            nn.Conv2d(width, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self.has_shortcut else y


def conv_norm_relu(
    in_channels: int, out_channels: int, *, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """A convolution of odd kernel that pads to keep the size, batch norm, and a ReLU that is cut at 6."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU6(),
    )

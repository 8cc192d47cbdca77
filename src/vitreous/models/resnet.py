"""Residual networks for photographs and for CIFAR, and the plain networks they were compared with.

All take images of any size, N,C,H,W -> logits N,K. The keys of the weights are torchvision's. A block's ``downsample``
is its shortcut: the identity, which has no weights, wherever input and output have the same shape.

Source: He, Zhang, Ren, Sun 2015, "Deep Residual Learning for Image Recognition", table 1 and section 4.2; with a blur:
Zhang 2019, "Making Convolutional Networks Shift-Invariant Again", section 3.
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import pad

from vitreous.models.blur import BlurPool
from vitreous.models.initialisation import initialise_he

Block = Callable[[int, int, int], nn.Module]  # channels in, channels out, stride

# --- for photographs --------------------------------------------------------------------------------------------------

NUM_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def resnet(
    depth: int,
    *,
    num_classes: int,
    in_channels: int,
    stride_on: Literal["1x1", "3x3"] = "3x3",
    is_blurred: bool = False,
) -> nn.Sequential:
    """ResNet with 18, 34, 50, 101 or 152 layers; ResNet-50 has 25,557,032 parameters for 1000 classes in colour.

    From 50 layers on, a block halves the map in its 3x3 convolution, as today, or in the 1x1 before it, as published.
    Where it is blurred, a blur halves the map behind them, in the shortcuts and behind the max pool; the first
    convolution keeps its stride, as in Zhang's networks: at stride 1 it alone would cost a quarter of ResNet-18.
    """
    block: Block
    if depth < 50:
        block = partial(BasicBlock, is_blurred=is_blurred)
    else:
        block = partial(Bottleneck, stride_on=stride_on, is_blurred=is_blurred)
    channels = (64, 128, 256, 512) if depth < 50 else (256, 512, 1024, 2048)
    num_blocks = NUM_BLOCKS[depth]
    network = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False),  # N,64,112,112 from 224 px
            bn1=nn.BatchNorm2d(64),
            relu=nn.ReLU(),
            maxpool=blurred_pool() if is_blurred else nn.MaxPool2d(3, stride=2, padding=1),  # N,64,56,56
            layer1=stage(block, num_blocks[0], 64, channels[0]),  # N,C,56,56
            layer2=stage(block, num_blocks[1], channels[0], channels[1], stride=2),  # N,C,28,28
            layer3=stage(block, num_blocks[2], channels[1], channels[2], stride=2),  # N,C,14,14
            layer4=stage(block, num_blocks[3], channels[2], channels[3], stride=2),  # N,C,7,7
            avgpool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(channels[3], num_classes),
        )
    )
    initialise_he(network)  # the paper's section 3.4, its reference 13
    return network


# --- for CIFAR --------------------------------------------------------------------------------------------------------


def cifar_resnet(depth: int, *, num_classes: int, in_channels: int, has_shortcuts: bool = True) -> nn.Sequential:
    """ResNet with 6n + 2 layers, n blocks to a stage; ResNet-20 has 269,722 parameters for ten classes in colour.

    No shortcut has weights (the paper's option A), so the plain network of the same depth has exactly as many.
    """
    num_blocks, rest = divmod(depth - 2, 6)
    assert rest == 0  # the table has no other depth
    block: Block = partial(BasicBlock, reshape=PaddedShortcut) if has_shortcuts else plain_block
    network = nn.Sequential(
        OrderedDict(
            conv1=conv3x3(in_channels, 16),  # N,16,32,32 from 32 px
            bn1=nn.BatchNorm2d(16),
            relu=nn.ReLU(),
            layer1=stage(block, num_blocks, 16, 16),  # N,16,32,32
            layer2=stage(block, num_blocks, 16, 32, stride=2),  # N,32,16,16
            layer3=stage(block, num_blocks, 32, 64, stride=2),  # N,64,8,8
            avgpool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(64, num_classes),
        )
    )
    initialise_he(network)  # the paper's section 4.2, its reference 13
    return network


# --- blocks -----------------------------------------------------------------------------------------------------------


def stage(block: Block, num_blocks: int, in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """Blocks one behind the other; the first one changes the channels and, by its stride, the size of the map."""
    first = block(in_channels, out_channels, stride)
    return nn.Sequential(first, *(block(out_channels, out_channels, 1) for _ in range(1, num_blocks)))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (fig. 5, left). N,C,H,W -> N,K,ceil(H/s),ceil(W/s).

    Where it is blurred, a blur behind the first ReLU takes the stride, and one in front of the shortcut's convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        reshape: Block | None = None,
        *,
        is_blurred: bool = False,
    ) -> None:
        super().__init__()
        is_blurred = is_blurred and stride > 1
        self.conv1 = conv3x3(in_channels, out_channels, 1 if is_blurred else stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu1 = blurred_relu(out_channels, stride) if is_blurred else nn.ReLU()
        self.conv2 = conv3x3(out_channels, out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = shortcut(
            in_channels, out_channels, stride, reshape or (blurred_projection if is_blurred else projection)
        )
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        total: Tensor = self.relu2(y + self.downsample(x))
        return total


class Bottleneck(nn.Module):
    """A 3x3 convolution between two of 1x1, on a quarter of the channels, beside a shortcut (fig. 5, right).

    N,C,H,W -> N,K,ceil(H/s),ceil(W/s). In the networks that the authors published the stride is on the first 1x1,
    which then reads one position in four; today it is on the 3x3 (Gross, Wilber 2016, "Training and investigating
    Residual Nets"). Where it is blurred, a blur behind the 3x3's ReLU takes the stride, and one in front of the
    shortcut's convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        *,
        stride_on: Literal["1x1", "3x3"] = "3x3",
        is_blurred: bool = False,
    ) -> None:
        super().__init__()
        width = out_channels // 4
        is_blurred = is_blurred and stride > 1
        self.conv1 = conv1x1(in_channels, width, stride if stride_on == "1x1" and not is_blurred else 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = conv3x3(width, width, stride if stride_on == "3x3" and not is_blurred else 1)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = blurred_relu(width, stride) if is_blurred else nn.ReLU()
        self.conv3 = conv1x1(width, out_channels)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = shortcut(in_channels, out_channels, stride, blurred_projection if is_blurred else projection)
        self.relu3 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.relu2(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        total: Tensor = self.relu3(y + self.downsample(x))
        return total


def plain_block(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """The two convolutions of a BasicBlock, under the same names, and no shortcut."""
    return nn.Sequential(
        OrderedDict(
            conv1=conv3x3(in_channels, out_channels, stride),
            bn1=nn.BatchNorm2d(out_channels),
            relu1=nn.ReLU(),
            conv2=conv3x3(out_channels, out_channels),
            bn2=nn.BatchNorm2d(out_channels),
            relu2=nn.ReLU(),
        )
    )


# --- blurs ------------------------------------------------------------------------------------------------------------


def blurred_pool() -> nn.Sequential:
    """The first max pool, one step at a time, and the blur that halves the map instead (Zhang 2019, section 3)."""
    return nn.Sequential(OrderedDict(pool=nn.MaxPool2d(3, stride=1, padding=1), blur=BlurPool(64, stride=2)))


def blurred_relu(channels: int, stride: int) -> nn.Sequential:
    """The activation behind a convolution that has lost its stride, and the blur that takes it (Zhang 2019)."""
    return nn.Sequential(OrderedDict(relu=nn.ReLU(), blur=BlurPool(channels, stride)))


# --- shortcuts --------------------------------------------------------------------------------------------------------


def shortcut(in_channels: int, out_channels: int, stride: int, reshape: Block) -> nn.Module:
    """What is added to a block's branch: its input, brought to the branch's shape where that is another (eq. 1, 2)."""
    keeps_shape = stride == 1 and in_channels == out_channels
    return nn.Identity() if keeps_shape else reshape(in_channels, out_channels, stride)


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Option B: a 1x1 convolution and batch norm."""
    return nn.Sequential(conv1x1(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels))


def blurred_projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Option B behind a blur that takes the stride; a 1x1 convolution in front of it would cost four times as much."""
    parts = projection(in_channels, out_channels, 1).named_children()  # which keep their names
    return nn.Sequential(OrderedDict[str, nn.Module]([("blur", BlurPool(in_channels, stride)), *parts]))


class PaddedShortcut(nn.Module):
    """Option A: every s-th row and column, and zeros for the new channels. N,C,H,W -> N,K,ceil(H/s),ceil(W/s).

    The paper does not say where the zeros go; here they follow the old channels, as in fb.resnet.torch.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.new_channels = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        return pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))

    def extra_repr(self) -> str:
        return f"stride={self.stride}, new_channels={self.new_channels}"


# --- convolutions -----------------------------------------------------------------------------------------------------


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """Padded to keep the size; without the bias, which the batch norm behind it would take away."""
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """A mixture of channels, position by position; without bias."""
    return nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

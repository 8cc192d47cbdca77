"""Networks built from a line of the pattern language, layer for layer as ``pattern_plan`` lays them out."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import assert_never

from torch import Tensor, nn

from vitreous.models.blur import BlurPool
from vitreous.models.initialisation import initialise_he
from vitreous.models.pattern_language import (
    Activation,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalPool,
    Pattern,
    Pool,
    Residual,
    Unshuffle,
    parse,
)
from vitreous.models.pattern_plan import Layer, plan

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "lin": nn.Identity,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


class PatternNetwork(nn.Sequential):
    """A network that knows the line it was built from; N,C,H,W -> logits N,K. ``str`` gives the line back."""

    def __init__(self, layers: OrderedDict[str, nn.Module], line: str = "") -> None:
        super().__init__(layers)
        self.line = line

    def __str__(self) -> str:
        return self.line


class ResidualGroup(nn.Module):
    """activation(branch(x) + shortcut(x)) (He et al. 2015, "Deep Residual Learning", eq. 1 and 2)."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut
        self.act = activation

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.branch(x) + self.shortcut(x))
        return y


def pattern_network(
    pattern: Pattern | str, *, in_channels: int, image_size: tuple[int, int], num_classes: int
) -> PatternNetwork:
    """Build the network, He-initialised from torch's random numbers.

    Raises:
        PatternError: the line cannot be read, or does not fit the image or the classes.

    >>> import torch
    >>> network = pattern_network("conv8 pool gap fc", in_channels=3, image_size=(8, 8), num_classes=2)
    >>> print(network)
    conv8 pool gap fc
    >>> network(torch.zeros(1, 3, 8, 8)).shape
    torch.Size([1, 2])
    """
    pattern = parse(pattern) if isinstance(pattern, str) else pattern
    layers = plan(pattern, in_channels=in_channels, image_size=image_size, num_classes=num_classes)
    network = PatternNetwork(_named(layers), line=str(pattern))
    initialise_he(network)
    return network


def _named(layers: Iterable[Layer]) -> OrderedDict[str, nn.Module]:
    """The layers' modules under the last part of their paths."""
    return OrderedDict((layer.path.rpartition(".")[2], _module(layer)) for layer in layers)


def _module(layer: Layer) -> nn.Module:
    is_map = len(layer.input_shape) == 3
    channels = layer.input_shape[0]
    match layer.node:
        case Conv() as conv:
            return _conv_block(conv, channels)
        case Dense(units=units) if layer.path == "head":
            return nn.Linear(channels, units)
        case Dense() as dense:
            return _dense_block(dense, channels)
        case Residual() as group:
            return _residual_group(group, layer)
        case Pool() as pool:
            return _pool(pool, channels)
        case GlobalPool(mode=mode):
            global_pool = nn.AdaptiveMaxPool2d(1) if mode == "max" else nn.AdaptiveAvgPool2d(1)
            return nn.Sequential(OrderedDict(pool=global_pool, flatten=nn.Flatten()))
        case Flatten():
            return nn.Flatten()
        case Activation(name=name):
            return ACTIVATIONS[name]()
        case BatchNorm():
            return nn.BatchNorm2d(channels) if is_map else nn.BatchNorm1d(channels)
        case Dropout(rate=rate):
            return nn.Dropout(rate)
        case Unshuffle(factor=factor):
            return nn.PixelUnshuffle(factor)
        case _:
            assert_never(layer.node)


def _conv_block(conv: Conv, in_channels: int) -> nn.Sequential:
    """[pad] conv [bn] [act] [blur]; zeros are added apart only where an even kernel needs one more at the far end."""
    (top, bottom), (left, right) = conv.paddings
    is_even = top == bottom and left == right
    block = OrderedDict[str, nn.Module]()
    if not is_even:
        block["pad"] = nn.ZeroPad2d((left, right, top, bottom))
    block["conv"] = nn.Conv2d(
        in_channels,
        conv.filters,
        conv.kernel,
        1 if conv.is_blurred else conv.stride,
        padding=(top, left) if is_even else 0,
        dilation=conv.dilation,
        groups=conv.groups,
        bias=not conv.has_norm,
    )
    if conv.has_norm:
        block["bn"] = nn.BatchNorm2d(conv.filters)
    if conv.activation != "lin":
        block["act"] = ACTIVATIONS[conv.activation]()
    if conv.is_blurred:
        block["blur"] = BlurPool(conv.filters, conv.stride)
    return nn.Sequential(block)


def _pool(pool: Pool, channels: int) -> nn.Module:
    """The pool, or the pool with stride 1 and a blur (Zhang 2019, section 3)."""
    kind = nn.MaxPool2d if pool.mode == "max" else nn.AvgPool2d
    if not pool.is_blurred:
        return kind(pool.kernel, pool.stride, pool.padding)
    blur = BlurPool(channels, pool.stride)
    return nn.Sequential(OrderedDict(pool=kind(pool.kernel, 1, pool.padding), blur=blur))


def _dense_block(dense: Dense, in_features: int) -> nn.Sequential:
    block = OrderedDict[str, nn.Module](linear=nn.Linear(in_features, dense.units, bias=not dense.has_norm))
    if dense.has_norm:
        block["bn"] = nn.BatchNorm1d(dense.units)
    if dense.activation != "lin":
        block["act"] = ACTIVATIONS[dense.activation]()
    return nn.Sequential(block)


def _residual_group(group: Residual, layer: Layer) -> ResidualGroup:
    assert isinstance(group.last, Conv | Dense)  # the parser sees to it
    shortcut = nn.Identity() if layer.shortcut is None else _module(layer.shortcut)
    activation = ACTIVATIONS[group.last.activation]()
    return ResidualGroup(nn.Sequential(_named(layer.branch)), shortcut, activation)

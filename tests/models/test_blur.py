"""The blur beside plain sums, filters that keep what they must, and networks that keep their weights."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis.strategies import integers
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vitreous.models import build_network
from vitreous.models.blur import BlurPool
from vitreous.models.resnet import BasicBlock, Bottleneck, resnet
from vitreous.trace import trace


def built(line, side=16):
    return build_network(line, in_channels=3, image_size=(side, side), num_classes=3).eval()


def test_one_number_by_hand():
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    inner = (x[0, 0, 1:4, 1:4] * torch.tensor([[1, 2, 1], [2, 4, 2], [1, 2, 1]])).sum() / 16
    corner = (4 * 0 + 4 * 1 + 4 * 4 + 4 * 5) / 16  # mirrored: the row below stands above, too
    blurred = BlurPool(1, stride=2)(x)
    assert blurred[0, 0, 1, 1] == inner == 10
    assert blurred[0, 0, 0, 0] == corner == 2.5


@settings(deadline=None, max_examples=40)
@given(integers(2, 9), integers(2, 9), integers(1, 4))
def test_every_channel_apart_down_and_across(height, width, stride):
    x = torch.randn(2, 3, height, width, dtype=torch.double)
    lines = F.pad(x, (1, 1, 1, 1), mode="reflect")
    across = (lines[..., :-2] + 2 * lines[..., 1:-1] + lines[..., 2:]) / 4
    both = (across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]) / 4
    torch.testing.assert_close(BlurPool(3, stride).double()(x), both[..., ::stride, ::stride])


def test_an_even_map_stays_and_a_chequered_one_goes():
    even, chequered = torch.ones(1, 1, 8, 8), (torch.arange(8)[:, None] + torch.arange(8)) % 2 * 2.0 - 1
    assert BlurPool(1, 2)(even).eq(1).all()
    assert BlurPool(1, 2)(chequered[None, None]).eq(0).all()
    assert chequered[::2, ::2].eq(-1).all()  # what a stride without the blur makes of it


def test_the_filter_is_not_among_the_weights():
    blur = BlurPool(4, 2)
    assert blur.state_dict() == {}
    assert list(blur.parameters()) == []
    assert [name for name, _ in blur.named_buffers()] == ["filter"]
    assert blur.to(torch.bfloat16)(torch.ones(1, 4, 4, 4, dtype=torch.bfloat16)).eq(1).all()


@pytest.mark.parametrize(
    ("line", "plain"),
    [("poolblur flatten fc", "pool flatten fc"), ("avgpool3s2p1blur flatten fc", "avgpool3s2p1 flatten fc")],
)
def test_a_blurred_pool_is_its_pool_at_stride_1_and_a_blur(line, plain):
    x = torch.rand(2, 3, 16, 16)
    kind, sizes = (nn.MaxPool2d, (2, 1)) if line.startswith("pool") else (nn.AvgPool2d, (3, 1, 1))
    expected = BlurPool(3, 2)(kind(*sizes)(x))
    assert built(line).pool1(x).equal(expected)
    assert built(plain).pool1(x).shape == expected.shape


def test_a_blurred_average_of_two_is_the_blur_of_four():
    x = torch.rand(1, 3, 16, 16, dtype=torch.double)
    line = torch.tensor([1, 3, 3, 1], dtype=torch.double) / 8
    binomial = torch.outer(line, line).repeat(3, 1, 1, 1)
    ours = built("avgpoolblur flatten fc").double().pool1(x)
    torch.testing.assert_close(
        ours[..., 1:-1, 1:-1], F.conv2d(x, binomial, stride=2, groups=3, padding=1)[..., 1:7, 1:7]
    )


def test_a_blurred_convolution_blurs_behind_its_activation():
    network, x = built("conv4s2blur gap fc"), torch.randn(2, 3, 16, 16)
    conv = network.conv1.conv
    expected = BlurPool(4, 2)(F.conv2d(x, conv.weight, conv.bias, padding=1).relu())
    torch.testing.assert_close(network.conv1(x), expected)
    assert network.conv1(x).shape == built("conv4s2 gap fc").conv1(x).shape


def test_a_group_with_a_blur_has_one_in_its_shortcut():
    group = built("conv4 res[conv4s2blur conv8bn] gap fc").res1
    assert isinstance(group.branch.conv1.blur, BlurPool)
    assert isinstance(group.shortcut.blur, BlurPool)
    assert not any(isinstance(module, BlurPool) for module in built("res[conv3 conv3s2] gap fc").modules())


# --- residual networks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [18, 50])
def test_a_blurred_resnet_has_the_plain_ones_weights_and_sizes(depth):
    with torch.device("meta"):
        plain, blurred = (resnet(depth, num_classes=10, in_channels=3, is_blurred=each) for each in (False, True))
    assert {name: weights.shape for name, weights in plain.state_dict().items()} == {
        name: weights.shape for name, weights in blurred.state_dict().items()
    }
    stages = [f"layer{n}" for n in (1, 2, 3, 4)]
    assert sizes_at(plain, ["maxpool", *stages]) == sizes_at(blurred, ["maxpool", *stages])
    assert sum(isinstance(module, BlurPool) for module in blurred.modules()) == 1 + 3 * 2
    strides = [module.stride for module in blurred.modules() if isinstance(module, nn.Conv2d)]
    assert strides[0] == (2, 2)
    assert set(strides[1:]) == {(1, 1)}
    assert not any(isinstance(module, BlurPool) for module in plain.modules())


def sizes_at(network, names):
    sizes = {}
    handles = [
        network.get_submodule(name).register_forward_hook(
            lambda _m, _i, out, name=name: sizes.update({name: out.shape})
        )
        for name in names
    ]
    network.eval()(torch.empty(1, 3, 225, 97, device="meta"))
    for handle in handles:
        handle.remove()
    return sizes


@pytest.mark.parametrize("block", [BasicBlock(8, 16, 2, is_blurred=True), Bottleneck(8, 16, 2, is_blurred=True)])
def test_a_blurred_block_adds_blurred_branches(block):
    block, x = block.eval(), torch.randn(2, 8, 9, 6)
    blur, last, norm = (
        (block.conv2, block.conv2, block.bn2) if isinstance(block, BasicBlock) else (None, block.conv3, block.bn3)
    )
    first = block.bn1(block.conv1(x)).relu()
    if blur is None:
        first = block.bn2(block.conv2(first)).relu()
    branch = norm(last(BlurPool(first.shape[1], 2)(first)))
    shortcut = block.downsample[2](block.downsample[1](BlurPool(8, 2)(x)))
    torch.testing.assert_close(block(x), (branch + shortcut).relu())
    assert block(x).shape == (2, 16, 5, 3)


def test_what_the_blur_costs():
    with torch.device("meta"):
        plain, blurred = (resnet(18, num_classes=10, in_channels=3, is_blurred=each).eval() for each in (False, True))
        image = torch.empty(1, 3, 224, 224)
    costs = []
    for network in (plain, blurred):
        with FlopCounterMode(display=False) as flops:
            network(image)
        costs.append(flops.get_total_flops() // 2)
    convolutions = 3 * sum(9 * c * 2 * c * side * side for c, side in ((64, 28), (128, 14), (256, 7)))  # 3 times more
    blurs = 9 * (64 * 56**2 + sum((3 * c) * side**2 for c, side in ((64, 28), (128, 14), (256, 7))))
    assert costs[1] - costs[0] == convolutions + blurs


def test_a_blur_sees_two_jumps_more():
    with torch.device("meta"):
        plain, blurred = (resnet(18, num_classes=10, in_channels=3, is_blurred=each) for each in (False, True))
    found = trace(blurred, (3, 224, 224))
    fields = found.fields[found.last_map]
    before = trace(plain, (3, 224, 224))
    assert [(field.size, field.jump, field.status) for field in fields] == [
        (435 + 2 * (2 + 4 + 8 + 16), 32, "exact")
    ] * 2
    assert found.parameters == before.parameters
    assert [field.size for field in before.fields[before.last_map]] == [435, 435]

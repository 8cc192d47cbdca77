"""Networks built from patterns, against torch's own shapes, parameters and operation counts."""

import copy

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import HealthCheck, assume, given, settings
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tests.models.pattern_strategies import patterns
from vitreous.errors import PatternError
from vitreous.models import build_network
from vitreous.models.pattern import pattern_network
from vitreous.models.pattern_plan import walk

DATA = {"in_channels": 2, "image_size": (24, 18), "num_classes": 3}


def built(line, in_channels=3, side=8, num_classes=3, seed=0):
    return build_network(line, in_channels=in_channels, image_size=(side, side), num_classes=num_classes, seed=seed)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(patterns)
def test_the_plan_is_what_torch_does(pattern):
    try:
        layers = walk(pattern, **DATA)
    except PatternError:
        assume(False)
    with torch.device("meta"):
        network = pattern_network(pattern, **DATA).eval()
    shapes = {}
    for layer in layers:
        network.get_submodule(layer.path).register_forward_hook(
            lambda _module, _inputs, output, path=layer.path: shapes.update({path: tuple(output.shape[1:])})
        )
    with FlopCounterMode(display=False) as flops:
        logits = network(torch.empty(1, 2, 24, 18, device="meta"))

    assert logits.shape == (1, 3)
    assert shapes == {layer.path: layer.output_shape for layer in layers}
    assert sum(layer.params for layer in layers) == sum(weights.numel() for weights in network.parameters())
    assert 2 * sum(layer.macs for layer in layers) == flops.get_total_flops()
    assert network.line == str(network) == str(pattern)


def test_names_are_readable_and_stable():
    network = built("conv4bn pool res[conv4bn conv8s2bn] flatten fc5 fc")
    assert [name for name, _ in network.named_parameters()] == [
        *("conv1.conv.weight", "conv1.bn.weight", "conv1.bn.bias"),
        *("res1.branch.conv1.conv.weight", "res1.branch.conv1.bn.weight", "res1.branch.conv1.bn.bias"),
        *("res1.branch.conv2.conv.weight", "res1.branch.conv2.bn.weight", "res1.branch.conv2.bn.bias"),
        *("res1.shortcut.conv.weight", "res1.shortcut.bn.weight", "res1.shortcut.bn.bias"),
        *("fc1.linear.weight", "fc1.linear.bias", "head.weight", "head.bias"),
    ]


def test_every_activation_is_a_module_of_its_own():
    network = built("[conv4]*2 res[conv4 conv4]*2 relu flatten fc5 fc")
    activations = [module for module in network.modules() if isinstance(module, nn.ReLU)]
    assert len(activations) == len({id(module) for module in activations}) == 2 + 2 * 2 + 1 + 1


@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_even_kernels_keep_the_size_as_torchs_same_padding_does():
    network = built("conv4k4x2lin gap fc")
    x = torch.randn(2, 3, 8, 8)
    conv = network.conv1.conv
    assert network.conv1(x).allclose(F.conv2d(x, conv.weight, conv.bias, padding="same"), atol=1e-6)


@pytest.mark.parametrize(
    ("line", "activation", "shortcut"),
    [
        ("res[conv3 conv3]", F.relu, lambda x, group: x),
        ("res[conv3 conv3gelu]", F.gelu, lambda x, group: x),
        ("res[bn relu conv3lin bn relu conv3lin]", lambda x: x, lambda x, group: x),  # He et al. 2016
        ("res[conv3bn conv5s2bn]", F.relu, lambda x, group: group.shortcut(x)),
    ],
)
def test_a_residual_group_is_the_activation_of_the_sum(line, activation, shortcut):
    group = built(line + " gap fc").eval().res1
    x = torch.randn(2, 3, 8, 8)
    assert group(x).equal(activation(group.branch(x) + shortcut(x, group)))


def test_example_3_of_the_article():
    network = built("flatten res[fc2 fc2] fc", in_channels=2, side=1)
    branch = network.res1.branch
    with torch.no_grad():
        branch.fc1.linear.weight.copy_(torch.tensor([[0.2, 0.1], [-0.1, 0.3]]))
        branch.fc2.linear.weight.copy_(torch.tensor([[0.3, -0.2], [0.1, 0.4]]))
        branch.fc1.linear.bias.zero_()
        branch.fc2.linear.bias.zero_()
    x = torch.tensor([[1.0, -0.5]])
    assert branch.fc1(x).allclose(torch.tensor([0.15, 0.0]))
    assert branch(x).allclose(torch.tensor([0.045, 0.015]))
    assert network.res1(x).allclose(torch.tensor([1.045, 0.0]))


def test_pooling_of_the_articles_region():
    region = torch.tensor([[[[1.0, 3.0], [2.0, 4.0]]]])
    assert built("pool gap fc", in_channels=1, side=2).pool1(region).item() == 4
    assert built("avgpool gap fc", in_channels=1, side=2).pool1(region).item() == 2.5


def test_the_seed_decides_the_weights_and_nothing_else_changes():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    one, same, other = (built("conv4 flatten fc5 fc", seed=seed) for seed in (1, 1, 2))
    assert torch.get_rng_state().equal(before)
    for name, weights in one.named_parameters():
        assert weights.equal(same.get_parameter(name))
    assert not one.head.weight.equal(other.head.weight)


def test_convolutions_are_initialised_as_he_et_al_do():
    network = built("conv64 conv128bn gap fc")
    assert network.conv2.conv.weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)
    assert network.conv1.conv.bias.eq(0).all()


def test_a_copy_keeps_its_line_and_a_slice_is_a_network():
    network = built("conv4 pool gap fc")
    assert str(copy.deepcopy(network)) == "conv4 pool gap fc"
    assert network[:2](torch.zeros(1, 3, 8, 8)).shape == (1, 4, 4, 4)


def test_a_small_network_learns_sixteen_images_by_heart():
    network = built("conv8bn pool res[conv8bn conv8bn] flatten fc", num_classes=4)
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(16, 3, 8, 8, generator=generator), torch.arange(16) % 4
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    for _ in range(40):
        loss = F.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05

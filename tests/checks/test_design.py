"""Findings: each on a network that has the fault, and none on one that does not."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from vitreous.checks.design import design_findings
from vitreous.models import build_network
from vitreous.trace import trace
from vitreous.trace.summary import Summary


def findings(network, shape, num_classes=10):
    found = design_findings(network, Summary("network", shape, trace(network, shape)), num_classes)
    return {finding.code: finding for finding in found}


def named(model, shape, num_classes=10):
    network = build_network(model, num_classes=num_classes, in_channels=shape[0], image_size=shape[1:])
    return findings(network, shape, num_classes)


def test_good_designs_have_nothing_to_mend():
    for model, shape in [("resnet20-cifar", (3, 32, 32)), ("lenet5", (1, 32, 32)), ("resnet50", (3, 224, 224))]:
        assert all(finding.severity != "mend" for finding in named(model, shape).values()), model


def test_a_stem_for_photographs_on_small_images():
    found = named("resnet18", (3, 32, 32))
    padding, strides = found["mostly-padding"], found["strides-too-great"]
    assert padding.severity == strides.severity == "mend"
    assert "88.9%" in padding.seen  # eight of nine taps
    assert "32 px / 32 px" in strides.arithmetic
    assert "--image-size 128" in strides.edit
    assert "strides-too-great" not in named("resnet18", (3, 128, 128))


def test_a_dense_layer_that_holds_most_parameters():
    dense = named("vgg16", (3, 224, 224), 1000)["dense-holds-most"]
    assert dense.where == "classifier.0"
    assert "512 x 7 x 7 * 4,096 + 4,096 = 102,764,544 of 138,357,544" in dense.arithmetic
    assert "2,101,248" in dense.arithmetic
    assert "dense-holds-most" not in named("resnet50", (3, 224, 224), 1000)


class Gate(nn.Module):
    def forward(self, x):
        return x * x.mean((2, 3), keepdim=True).sigmoid()


@pytest.mark.parametrize("gate", [nn.ReLU, Gate])
def test_pixels_that_no_unit_sees_and_sizes_that_mend_it(gate):
    network = nn.Sequential(nn.Conv2d(1, 4, 3, stride=3), gate(), nn.Conv2d(4, 4, 1), nn.AdaptiveAvgPool2d(1))
    lost = findings(network, (1, 23, 23))["pixels-never-seen"]
    assert lost.seen.startswith("2 rows at the bottom and 2 columns at the right")
    assert "(23 - 3 + 0)/3 leaves 2 over" in lost.arithmetic
    assert "--image-size 21 or --image-size 24" in lost.edit
    assert lost.severity == "mend"  # a sixth of the image
    for size in (21, 24):
        assert "pixels-never-seen" not in findings(network, (1, size, size))
    image = torch.rand(1, 1, 23, 23, requires_grad=True)
    network(image).sum().backward()
    assert not image.grad[0, 0, 21:].any()


def test_pixels_that_a_later_window_sees_all_the_same_are_not_reported():
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1))
    assert "pixels-never-seen" not in findings(network, (1, 24, 24))


class Branches(nn.Module):
    def __init__(self, padding, gate):
        super().__init__()
        self.padding = padding
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), gate)
        self.even = nn.Conv2d(4, 4, 2)

    def forward(self, x):
        x = functional.relu(self.stem(x))
        return (x + self.even(functional.pad(x, self.padding))).mean((2, 3))


@pytest.mark.parametrize("gate", [nn.ReLU, Gate])
def test_branches_that_look_at_other_places(gate):
    found = findings(Branches((1, 0, 1, 0), gate()), (1, 16, 16))["branches-misaligned"]
    assert found.where == "add"
    assert "0.5 px apart" in found.seen
    assert "stem" not in found.edit


def test_branches_of_a_resnet_are_aligned():
    for model in ("resnet18", "resnet50", "resnet20-cifar"):
        assert "branches-misaligned" not in named(model, (3, 64, 64))


def test_biases_that_a_batch_norm_cancels():
    with_bias = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))
    assert findings(with_bias, (3, 8, 8))["bias-before-batch-norm"].seen.startswith("8 biases")
    assert "bias-before-batch-norm" not in named("resnet18", (3, 64, 64))


def test_channels_that_add_nothing():
    dead = named("conv8 conv128lin conv16 gap fc", (3, 16, 16))["dead-width"]
    assert dead.severity == "mend"
    assert "56 of the 128 channels" in dead.seen  # 8 channels of 3x3 taps span 72 dimensions
    assert "dead-width" not in named("conv8 conv64lin conv16 gap fc", (3, 16, 16))
    assert "dead-width" not in named("conv8 conv128 conv16 gap fc", (3, 16, 16))
    assert "dead-width" not in named("mobilenet_v2", (3, 64, 64))


def test_more_classes_than_features_can_tell_apart():
    assert "too-few-features" in named("conv8 pool conv4 gap fc", (3, 16, 16), 10)
    assert "too-few-features" not in named("conv8 pool conv16 gap fc", (3, 16, 16), 10)


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.spare = nn.Conv2d(1, 4, 3), nn.Linear(7, 3)

    def forward(self, x):
        return self.conv(x).mean((2, 3))


def test_parameters_that_nothing_reads():
    unread = findings(Unused(), (1, 8, 8), 4)["parameters-never-read"]
    assert unread.seen.startswith("24 of 64 parameters")
    assert unread.severity == "mend"


def test_the_gravest_comes_first():
    network = build_network("resnet18", num_classes=10, in_channels=3, image_size=(32, 32))
    found = design_findings(network, Summary("resnet18", (3, 32, 32), trace(network, (3, 32, 32))), 10)
    order = ["mend", "consider", "note"]
    assert [finding.severity for finding in found] == sorted((each.severity for each in found), key=order.index)


@pytest.mark.parametrize("shape", [(1, 8), (1, 8, 8, 8)])
def test_networks_of_other_than_two_axes_are_checked_too(shape):
    kind = nn.Conv1d if len(shape) == 2 else nn.Conv3d
    network = nn.Sequential(kind(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
    network(torch.zeros(1, *shape))
    assert isinstance(findings(network, shape, 3), dict)

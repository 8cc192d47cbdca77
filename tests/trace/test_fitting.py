"""A forward that fails: which layer, what it wanted, and an image that fits."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from vitreous.errors import ShapeError
from vitreous.models import build_network
from vitreous.trace.recording import record
from vitreous.trace.values import record_values


class Lambda(nn.Module):
    def __init__(self, function, *modules):
        super().__init__()
        self.function, self.modules_ = function, nn.ModuleList(modules)

    def forward(self, x):
        return self.function(x, *self.modules_)


def classic():
    """LeNet-5 as it is usually written down for 32x32."""
    layers = nn.Sequential(nn.Conv2d(3, 6, 5), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.MaxPool2d(2), nn.Flatten())
    layers.add_module("fc", nn.Linear(400, 10))
    return layers


def skipping(x, down, deeper):
    half = down(x)
    return half + functional.interpolate(deeper(half), scale_factor=2)


def of_one_size(x):
    if x.shape[2] != 224:
        raise ValueError("Input height 32 is not 224.")
    return x


U_NET = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1)
CASES = [
    (classic(), (3, 36, 36), r"fc wants 400 features but is given 576 \(16 x 6 x 6\) .*; the network takes 3x32x32"),
    (classic(), (1, 32, 32), "0 takes 3 channels, the image has 1 .*; the network takes 3x32x32"),
    (classic(), (1, 28, 28), "0 takes 3 channels, the image has 1 .*; the network takes 3x32x32"),
    (
        classic(),
        (3, 10, 10),
        "2 is given a map of 3x3, too small for its windows .*; the network takes at least 3x32x32",
    ),
    (nn.Sequential(nn.Flatten(), nn.Linear(784, 9)), (3, 32, 32), "1 wants 784 .* 3072 .*; the network takes 1x28x28"),
    (nn.Sequential(nn.Linear(784, 9)), (1, 28, 28), "0 wants 784 features but is given 28 .*; flatten what that layer"),
    (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(5, 4, 3)), (3, 8, 8), "1 takes 5 .* its layers do not fit each other"),
    (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(5)),
        (3, 8, 8),
        "1 takes 5 channels, is given 4 .* fit each other",
    ),
    (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(10, 2)), (3, 8, 8), "its layers do not fit each other"),
    (nn.Sequential(nn.Conv1d(2, 4, 3)), (3, 8, 8), "along one axis and is given two axes .*; the network takes 2x8"),
    (nn.Sequential(nn.Conv3d(1, 4, 3)), (1, 8, 8), "along three axes and is given two .*; the network takes 1x8x8x8"),
    (nn.Conv2d(3, 4, 3), (8, 8), "along two axes and is given one axis .*; the network takes 3x8x8"),
    (nn.Sequential(nn.Embedding(9, 4)), (3, 8, 8), "0 looks up whole numbers, .*; only a network that takes an image"),
    (Lambda(skipping, *U_NET), (3, 29, 30), "the network takes 3x32x32"),
    (Lambda(of_one_size), (3, 32, 32), "Input height 32 is not 224; the network takes 3x224x224"),
    (build_network("alexnet", num_classes=9, in_channels=3, image_size=(224, 224)), (3, 28, 28), "at least 3x63x63"),
]


@pytest.mark.parametrize(("network", "image", "said"), CASES)
def test_what_failed_and_what_would_fit(network, image, said):
    with pytest.raises(ShapeError, match=f"cannot take an image of {'x'.join(map(str, image))}: .*{said}") as failure:
        record(network, image)
    assert "mat1" not in str(failure.value)
    _, promised, fits = str(failure.value).removesuffix(".").partition("; the network takes ")
    fits = fits.removeprefix("at least ")
    if promised:
        assert record(network, tuple(map(int, fits.split("x")))).operations


def test_values_are_refused_with_the_same_words():
    with pytest.raises(ShapeError, match=r"fc wants 400 .*; the network takes 3x32x32"):
        record_values(classic(), torch.zeros(1, 3, 36, 36))


def test_numbers_of_another_kind_are_not_taken_for_a_wrong_size():
    with pytest.raises(ShapeError, match=r"0 failed: Input type .*; an image of zeros of that shape does pass"):
        record_values(classic(), torch.zeros(1, 3, 32, 32, dtype=torch.float64))
    with pytest.raises(ShapeError, match=r"its own forward failed: negative; an image of zeros .* does pass"):
        record_values(Lambda(not_negative), -torch.ones(1, 3, 4, 4))


def not_negative(x):
    if x.min() < 0:
        raise ValueError("negative")
    return x

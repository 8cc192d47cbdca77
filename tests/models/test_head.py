"""The layer with the last word, for every network of the table and for odd ones."""

import pytest
import torch
from torch import nn

from vitreous.models import ARCHITECTURES, build_network
from vitreous.models.head import head_of

HEADS = {"lenet5": "output", "lenet5-1998": None, "alexnet": "classifier.6", "mobilenet_v2": "classifier.1"}


def expected_head(name):
    return HEADS.get(name, "classifier.6" if name.startswith("vgg") else "fc")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_name_of_the_table(name):
    channels, height, width = ARCHITECTURES[name].input
    with torch.device("meta"):
        network = build_network(name, num_classes=7, in_channels=channels, image_size=(height, width))
    head = head_of(network, channels, (height, width))
    assert head == expected_head(name)
    assert head is None or network.get_submodule(head).weight.shape[0] == 7


def test_a_line_of_the_pattern_language():
    network = build_network("conv8 pool flatten fc16 fc", num_classes=3, in_channels=1, image_size=(8, 8))
    assert head_of(network, 1, (8, 8)) == "head"


class Crossed(nn.Module):
    """The head is registered first; another linear layer is last, and never called."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(4, 2, 1)
        self.stem = nn.Conv2d(3, 4, 1)
        self.unused = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.stem(x).mean((2, 3), keepdim=True))[:, :, 0, 0]


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (Crossed(), "head"),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 2), nn.Identity(), nn.Dropout()), "1"),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 2), nn.Softmax(1)), None),  # its numbers are not the answer
        (nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()), None),
        (nn.Sequential(nn.Flatten(), nn.Linear(99, 2)), None),  # does not fit
    ],
)
def test_it_is_the_layer_whose_output_is_the_answer(network, expected):
    assert head_of(network, 3, (2, 2)) == expected
    assert not any(module._forward_hooks for module in network.modules())

"""The same weights give the same answers as torchvision's networks, taken over in either direction."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vitreous.models import build_network

models = pytest.importorskip("torchvision.models")
pytestmark = pytest.mark.reference

NAMES = ("alexnet", "vgg11", "vgg16_bn", "resnet18", "resnet50", "mobilenet_v2")


def ours(name, num_classes=10):
    return build_network(name, num_classes=num_classes, in_channels=3, image_size=(224, 224))


def num_macs(network):
    with FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 3, 224, 224, device="meta"))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("size", [(224, 224), (96, 130)])
@pytest.mark.parametrize("name", NAMES)
def test_answers_are_equal_with_the_same_weights(name, size, with_statistics):
    mine, theirs = with_statistics(ours(name)), with_statistics(getattr(models, name)(num_classes=10))
    x = torch.randn(2, 3, *size)
    with torch.inference_mode():
        theirs.load_state_dict(mine.state_dict())  # strict: every key, every shape
        torch.testing.assert_close(mine(x), theirs(x), rtol=1e-5, atol=1e-5)
        theirs.load_state_dict(with_statistics(getattr(models, name)(num_classes=10)).state_dict())
        assert not torch.allclose(mine(x), theirs(x))
        mine.load_state_dict(theirs.state_dict())
        torch.testing.assert_close(mine(x), theirs(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [*NAMES, "vgg13", "vgg16", "vgg19", "resnet34", "resnet101", "resnet152"])
def test_keys_parameters_and_macs_are_equal(name):
    with torch.device("meta"):
        mine, theirs = ours(name, 1000).eval(), getattr(models, name)().eval()
    shapes = [{key: tuple(value.shape) for key, value in each.state_dict().items()} for each in (mine, theirs)]
    assert list(shapes[0].items()) == list(shapes[1].items())
    assert num_macs(mine) == num_macs(theirs)

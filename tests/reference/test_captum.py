"""Our integrated gradients and occlusion beside captum's: the same numbers."""

import pytest
import torch
from torch import nn

from vitreous.explanation.attribution import integrated_gradients, occlusion
from vitreous.models import build_network

captum = pytest.importorskip("captum.attr")
pytestmark = pytest.mark.reference


def networks():
    flat = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.Softplus(), nn.Flatten(), nn.Linear(6 * 32 * 32, 4))
    return [flat.eval(), build_network("resnet18", num_classes=4, in_channels=3, image_size=(32, 32)).eval()]


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("baseline", [0.0, 0.5])
def test_integrated_gradients(number, baseline):
    network, image = networks()[number], torch.randn(1, 3, 32, 32)
    expected = captum.IntegratedGradients(network).attribute(image, baseline, target=2, n_steps=32)
    found = integrated_gradients(network, image, 2, steps=32, baseline=baseline)
    torch.testing.assert_close(found.map_HW, expected[0].sum(dim=0).float(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(("window", "stride"), [(4, 4), (5, 2), (7, 5)])
def test_occlusion(number, window, stride):
    network, image = networks()[number], torch.randn(1, 3, 32, 32)
    sides = 32 - (32 - window) % stride  # captum's last square hangs over the end, where ours ends with the image
    expected = captum.Occlusion(network).attribute(image, (3, window, window), strides=(3, stride, stride), target=1)
    found = occlusion(network, image, 1, window, stride).logit.map_HW
    before = sides - window
    torch.testing.assert_close(found[:before, :before], expected[0, 0, :before, :before], rtol=1e-3, atol=1e-5)

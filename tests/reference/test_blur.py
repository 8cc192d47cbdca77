"""The blur beside timm's."""

import pytest
import torch

from vitreous.models.blur import BlurPool

timm_layers = pytest.importorskip("timm.layers")
pytestmark = pytest.mark.reference


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 10), (2, 3)])
def test_the_blur_is_timms(height, width):
    x = torch.randn(2, 5, height, width)
    theirs = timm_layers.BlurPool2d(5, filt_size=3, stride=2, pad_mode="reflect")
    torch.testing.assert_close(BlurPool(5, 2)(x), theirs(x))

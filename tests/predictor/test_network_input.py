import pytest
import torch

from vitreous.data.preprocess import Preprocess
from vitreous.predictor.torch_backend import network_input


@pytest.mark.parametrize("channels", [1, 3])
def test_it_is_the_formula_to_the_last_bit_and_leaves_the_pixels(channels):
    pixels_NHWC = torch.randint(0, 256, (3, 5, 7, channels), dtype=torch.uint8, generator=torch.manual_seed(1))
    before = pixels_NHWC.clone()
    mean, std = (0.485, 0.456, 0.406)[:channels], (0.229, 0.224, 0.225)[:channels]
    preprocess = Preprocess(height=5, width=7, channels=channels, fit="pad", mean=mean, std=std)
    mean_C, std_C = (torch.tensor(values) * 255 for values in (preprocess.mean, preprocess.std))
    for seen_NHWC in (pixels_NHWC, pixels_NHWC.flip(2), pixels_NHWC[:, :, ::2], pixels_NHWC[:0]):
        images_NCHW = network_input(seen_NHWC, preprocess)
        assert torch.equal(images_NCHW, ((seen_NHWC.float() - mean_C) / std_C).permute(0, 3, 1, 2))
        assert images_NCHW.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(pixels_NHWC, before)

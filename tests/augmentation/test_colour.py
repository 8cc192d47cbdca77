import colorsys

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from tests.augmentation.pixels import noise
from vitreous.augmentation import Augmentation
from vitreous.augmentation.colour import linear, lit, recoloured
from vitreous.augmentation.counter import Stream, uniform


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_light_changes_brightness_and_contrast_as_it_says():
    pixels, index = noise(30, 16, 16) // 2 + 30, torch.arange(30)
    varied = Augmentation(light=0.2)(pixels, index, seed=4, epoch=2).double()
    contrast, brightness = (1 + 0.2 * (2 * uniform(4, 2, index, stream) - 1) for stream in (7, 8))
    plain = pixels.double()
    assert torch.allclose(varied.mean((1, 2, 3)), plain.mean((1, 2, 3)) * brightness, atol=0.5)
    assert torch.allclose(varied.std((1, 2, 3)), plain.std((1, 2, 3)) * brightness * contrast, atol=0.5)


def test_light_stays_within_the_bytes():
    pixels = torch.zeros(50, 4, 4, 1, dtype=torch.uint8)
    pixels[:, :2] = 255
    varied = Augmentation(light=0.9)(pixels, torch.arange(50), seed=0, epoch=0)
    assert (varied[:, :2] >= varied[:, 2:]).all(), "nothing wraps around"
    assert len(varied.unique()) > 30


@pytest.mark.parametrize("factor", [0.1, 0.5, 1.0, 1.7])
def test_brightness_and_contrast_are_pillows_on_grey_images(factor):
    for image in noise(4, 9, 7, 1):
        grey = Image.fromarray(image[..., 0].numpy())
        brighter, firmer = (kind(grey).enhance(factor) for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast))
        one, same = numbers(1), numbers(factor)
        for ours, pillows in ((lit(image[None], one, same), brighter), (lit(image[None], same, one), firmer)):
            assert np.abs(ours[0, ..., 0].numpy().astype(int) - np.array(pillows)).max() <= 1


def test_a_line_through_the_levels_is_rounded_and_bounded():
    image = torch.tensor([0, 1, 100, 255], dtype=torch.uint8).view(1, 1, 4, 1)
    assert linear(image, numbers(1.5), numbers(-1.0)).flatten().tolist() == [0, 1, 149, 255]


@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.9])
def test_saturation_is_pillows(factor):
    for image in noise(4):
        pillows = ImageEnhance.Color(Image.fromarray(image.numpy())).enhance(factor)
        ours = recoloured(image[None], numbers(factor), numbers(0))[0]
        assert np.abs(ours.numpy().astype(int) - np.array(pillows)).max() <= 1 + round(
            0.5 * factor
        )  # its grey is whole


@pytest.mark.parametrize("degrees", [-170.0, -30.0, 0.0, 15.0, 90.0])
def test_a_hue_is_turned_in_the_colour_plane_of_television(degrees):
    """Against the standard library's YIQ, pixel by pixel; its luma weights have two digits."""
    image = noise(1, 6, 6)[0] // 2 + 64
    ours = recoloured(image[None], numbers(1), numbers(degrees))[0]
    for pixel, turned in zip(image.view(-1, 3).tolist(), ours.view(-1, 3).tolist(), strict=True):
        luma, i, q = colorsys.rgb_to_yiq(*(level / 255 for level in pixel))
        chroma = complex(i, q) * np.exp(-1j * np.deg2rad(degrees))  # from red to yellow
        wanted = [255 * level for level in colorsys.yiq_to_rgb(luma, chroma.real, chroma.imag)]
        assert np.abs(np.array(turned) - wanted).max() <= 4


def test_a_small_turn_goes_from_red_to_yellow_to_green():
    red = torch.tensor([200, 60, 60], dtype=torch.uint8).view(1, 1, 1, 3)
    warmer, greener = (recoloured(red, numbers(1), numbers(degrees)).flatten().tolist() for degrees in (30, 120))
    assert warmer[0] > warmer[1] > warmer[2]
    assert greener[1] == max(greener)


def test_greys_and_grey_images_have_no_colour_to_change():
    grey = noise(3, channels=1)
    assert torch.equal(recoloured(grey, numbers(0.2, 1, 2), numbers(50, 60, 70)), grey)
    in_colour = grey.expand(-1, -1, -1, 3).contiguous()
    assert torch.equal(recoloured(in_colour, numbers(0.2, 1, 2), numbers(50, 60, 70)), in_colour)


def test_the_settings_draw_what_they_say():
    pixels, index = noise(20, 5, 5), torch.arange(3, 20)
    varied = Augmentation(saturation=0.5, hue=0.25)(pixels, index, seed=8, epoch=2)
    saturation, hue = (2 * uniform(8, 2, index, stream) - 1 for stream in (Stream.SATURATION, Stream.HUE))
    for image, number, strength, turn in zip(varied, index, saturation, hue, strict=True):
        wanted = recoloured(pixels[number][None], 1 + 0.5 * strength[None], 90 * turn[None])[0]
        assert torch.equal(image, wanted)

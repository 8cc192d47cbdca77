import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from tests.augmentation.pixels import noise, pictures
from vitreous.augmentation import Augmentation
from vitreous.augmentation.colour import lit, recoloured
from vitreous.augmentation.counter import uniform
from vitreous.augmentation.geometry import affine, product, resampled
from vitreous.augmentation.randaugment import (
    OPERATIONS,
    Operations,
    auto_contrasted,
    equalized,
    posterized,
    sharpened,
    solarized,
)


def pillow(image):
    """An (H,W,C) tensor as Pillow has it."""
    return Image.fromarray(image.numpy() if image.shape[2] == 3 else image[..., 0].numpy())


def difference(images, pillows):
    """The largest between images and a list of Pillow's."""
    theirs = np.stack([np.array(image) for image in pillows]).reshape(images.shape)
    return int(np.abs(images.numpy().astype(int) - theirs).max())


def some(channels):
    """Noise, smooth pictures, images of one level, of two, and of one that is missing."""
    few = torch.zeros(4, 24, 31, channels, dtype=torch.uint8)
    few[0] = 200
    few[1, :, 5:] = 7
    few[2, 3:] = torch.arange(31, dtype=torch.uint8)[:, None]
    few[3, 0, 0] = 255
    return torch.cat((noise(3, 24, 31, channels), pictures(3, 24, 31, channels), few))


CHANNELS = pytest.mark.parametrize("channels", [1, 3])


@CHANNELS
def test_equalize_is_pillows_to_the_bit(channels):
    images = some(channels)
    assert difference(equalized(images), [ImageOps.equalize(pillow(image)) for image in images]) == 0


@CHANNELS
def test_auto_contrast_is_pillows(channels):
    images = some(channels)
    assert difference(auto_contrasted(images), [ImageOps.autocontrast(pillow(image)) for image in images]) <= 1


@CHANNELS
@pytest.mark.parametrize("lost", [0, 1, 4])
def test_posterize_is_pillows_to_the_bit(channels, lost):
    images = some(channels)
    ours = posterized(images, torch.full((len(images),), lost))
    assert difference(ours, [ImageOps.posterize(pillow(image), 8 - lost) for image in images]) == 0


@CHANNELS
@pytest.mark.parametrize("threshold", [0, 100, 179, 255])
def test_solarize_is_pillows_to_the_bit(channels, threshold):
    images = some(channels)
    ours = solarized(images, torch.full((len(images),), float(threshold)))
    assert difference(ours, [ImageOps.solarize(pillow(image), threshold) for image in images]) == 0


@CHANNELS
@pytest.mark.parametrize("factor", [0.1, 0.73, 1.0, 1.9])
def test_sharpness_is_pillows(channels, factor):
    images = some(channels)
    ours = sharpened(images, torch.full((len(images),), factor))
    assert difference(ours, [ImageEnhance.Sharpness(pillow(image)).enhance(factor) for image in images]) <= 1


def alone(image, name, signed, magnitude_share):
    """One operation on one image (H,W,C) by itself, by its documented strength."""
    strength, images = torch.tensor([signed * magnitude_share], dtype=torch.float64), image[None]
    factor, one = 1 + 0.9 * strength, torch.ones(1, dtype=torch.float64)
    changed = {
        "auto_contrast": lambda: auto_contrasted(images),
        "equalize": lambda: equalized(images),
        "posterize": lambda: posterized(images, torch.tensor([round(4 * magnitude_share)])),
        "solarize": lambda: solarized(images, torch.tensor([-(-255 * (1 - magnitude_share) // 1)])),
        "color": lambda: recoloured(images, factor, 0 * one),
        "contrast": lambda: lit(images, factor, one),
        "brightness": lambda: lit(images, one, factor),
        "sharpness": lambda: sharpened(images, factor),
    }
    return changed[name]()[0] if name in changed else image


@settings(deadline=None, max_examples=30)
@given(
    num_ops=st.integers(1, 4),
    magnitude=st.sampled_from([0.0, 5.0, 9.0, 17.0, 30.0]),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
def test_each_image_meets_its_own_operations_one_after_the_other(num_ops, magnitude, channels, seed):
    """Against a loop over images and rounds: first all that moves pixels, then what changes levels."""
    images, index = pictures(6, 17, 13, channels), torch.arange(10, 16)
    pixels = torch.cat((noise(10, 17, 13, channels), images))
    varied = Augmentation(randaugment=num_ops, randaugment_magnitude=magnitude)(pixels, index, seed=seed, epoch=2)
    share = magnitude / 30
    for number in range(6):
        met = []
        for round_number in range(num_ops):
            kind, sign = (float(uniform(seed, 2, index, 100 + 2 * round_number + each)[number]) for each in (0, 1))
            met.append((OPERATIONS[int(kind * 14)], 1 if sign < 0.5 else -1))
        wanted = placed(images[number], met, share)
        for name, signed in met:
            wanted = alone(wanted, name, signed, share)
        assert torch.equal(varied[number], wanted)


def placed(image, met, share):
    """The image after those operations that move pixels, one map after the other."""
    height, width, _ = image.shape
    most = {
        "translate_x": ("right_N", 150 / 331 * width),
        "translate_y": ("down_N", 150 / 331 * height),
        "rotate": ("degrees_N", 30),
        "shear_x": ("slope_right_N", 0.3),
        "shear_y": ("slope_down_N", 0.3),
    }
    nothing = dict.fromkeys(("right_N", "down_N", "degrees_N", "slope_right_N", "slope_down_N"), 0.0)
    maps = []
    for name, signed in met:
        if name in most:
            argument, strength = most[name]
            values = {**nothing, argument: signed * share * strength, "factor_N": 1.0}
            maps.append(affine(**{key: torch.tensor([value], dtype=torch.float64) for key, value in values.items()}))
    if not maps:
        return image
    rows, columns = (torch.arange(length).double()[None] for length in (height, width))
    return resampled(image[None], rows, columns, functools.reduce(product, maps))[0]


def test_the_operations_are_drawn_alike_and_apart():
    index = torch.arange(70_000)
    operations = Operations.drawn(2, 9.0, lambda stream: uniform(3, 0, index, stream))
    both = torch.bincount(operations.kind_RN[0] * 14 + operations.kind_RN[1], minlength=14 * 14).double()
    wanted = 70_000 / 196
    assert float(((both - wanted) ** 2 / wanted).sum()) < 262  # chi-squared, 195 degrees of freedom, p = 0.001
    for operation, signed in zip(operations.kind_RN, operations.signed_RN, strict=True):
        assert sorted(set(signed.tolist())) == [-0.3, 0.3]
        share = torch.stack([(signed[operation == kind] > 0).double().mean() for kind in range(14)])
        assert float((share - 0.5).abs().max()) < 0.03
    assert len(set(OPERATIONS)) == 14


def test_the_fourteen_are_the_papers():
    papers = (
        "identity autoContrast equalize rotate solarize color posterize contrast brightness sharpness shear-x shear-y"
    )
    papers += " translate-x translate-y"
    assert sorted(name.replace("_", "") for name in OPERATIONS) == sorted(papers.lower().replace("-", "").split())


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (9, 1)])
def test_images_of_few_pixels_are_varied_too(size):
    pixels = noise(40, *size)
    varied = Augmentation(randaugment=8, randaugment_magnitude=30.0)(pixels, torch.arange(40), seed=0, epoch=0)
    assert (varied.shape, varied.dtype) == (pixels.shape, torch.uint8)

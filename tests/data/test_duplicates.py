"""The same picture is found through encoding and scaling; distinct ones are not, however small and alike."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageFilter
from sklearn.datasets import load_sample_images

from tests.images import encode, picture
from vitreous.data.arrays import open_arrays
from vitreous.data.duplicates import duplicate_groups
from vitreous.data.images import FileImages
from vitreous.data.prepared import hash_contents
from vitreous.data.source import open_source

TILE = 100


@pytest.fixture(scope="module")
def photographs():
    """Distinct tiles of two photographs that come with scikit-learn, without those of plain sky."""
    photos = load_sample_images().images
    tiles = [
        Image.fromarray(photo[y : y + TILE, x : x + TILE])
        for photo in photos
        for y in range(0, photo.shape[0] - TILE, TILE)
        for x in range(0, photo.shape[1] - TILE, TILE)
    ]
    return [tile for tile in tiles if np.std(tile) >= 30]


def saved(image, format, **options):
    return io.BytesIO(encode(image, format, **options))


CHANGES = {
    "JPEG 75": lambda im: saved(im, "JPEG", quality=75),
    "JPEG 40": lambda im: saved(im, "JPEG", quality=40),
    "WebP": lambda im: saved(im, "WEBP", quality=60),
    "smaller": lambda im: saved(im.resize((70, 70), Image.Resampling.LANCZOS), "PNG"),
    "larger": lambda im: saved(im.resize((222, 222), Image.Resampling.BICUBIC), "JPEG", quality=90),
    "brighter": lambda im: saved(ImageEnhance.Brightness(im).enhance(1.05), "PNG"),
    "darker": lambda im: saved(ImageEnhance.Brightness(im).enhance(0.8), "PNG"),
    "less contrast": lambda im: saved(ImageEnhance.Contrast(im).enhance(0.8), "PNG"),
    "sharper": lambda im: saved(im.filter(ImageFilter.SHARPEN), "PNG"),
    "cropped": lambda im: saved(im.crop((1, 1, 99, 99)), "PNG"),
    "blurred": lambda im: saved(im.filter(ImageFilter.GaussianBlur(1)), "PNG"),
}


def write(folder, contents):
    folder.mkdir()
    names = []
    for number, content in enumerate(contents):
        names.append(f"{number:05d}")
        (folder / names[-1]).write_bytes(content.getvalue())
    return FileImages([folder / name for name in names], names)


def numbers(images):
    return duplicate_groups(images, hash_contents(images))


def of_arrays(arrays):
    return numbers(open_arrays("arrays", "npz", {"": (arrays, np.zeros(len(arrays), int))}).images)


def num_extra(numbers):
    return len(numbers) - len(set(numbers.tolist()))


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_the_same_picture(tmp_path, photographs, change):
    copies = [CHANGES[change](each) for each in photographs]
    found = numbers(write(tmp_path / "images", [saved(each, "PNG") for each in photographs] + copies))
    half = len(photographs)
    assert (found[:half] == found[half:]).mean() >= 0.95
    assert num_extra(found[:half]) == 0  # and no tile is another


@pytest.mark.parametrize("name", ["fashion-mini", "digits"])
def test_small_distinct_pictures_are_not(name):
    images = open_source(name).images
    assert num_extra(numbers(images)) <= 0.002 * len(images)


@pytest.mark.parametrize(
    ("name", "how", "quality"),
    [
        ("fashion-mini", Image.Resampling.BICUBIC, 90),
        ("fashion-mini", Image.Resampling.NEAREST, 75),
        ("digits", Image.Resampling.BILINEAR, 90),
    ],
)
def test_small_distinct_pictures_that_were_enlarged_are_not_either(tmp_path, name, how, quality):
    """Their size says that there is room for details, and there are none: one in ten was once taken for a copy."""
    small = [Image.fromarray(np.squeeze(each)) for each in open_source(name).images.array[::4]]
    large = [saved(each.resize((96, 96), how), "JPEG", quality=quality) for each in small]
    assert num_extra(numbers(write(tmp_path / "images", large))) <= 0.005 * len(large)


def test_what_matters_before_a_fixed_background_is_seen():
    scene = np.array(load_sample_images().images[0][:128, :128])
    red, green = scene.copy(), scene.copy()
    red[20:36, 60:72], green[36:52, 60:72] = (255, 20, 20), (20, 255, 20)
    found = of_arrays(np.stack([red, green, scene]))
    assert num_extra(found) == 0


def test_light_that_falls_off_to_the_corners_is_no_picture():
    random = np.random.default_rng(0)
    y, x = np.mgrid[:128, :128] / 127 - 0.5
    slides = np.repeat(200 * np.exp(-4 * (x * x + y * y))[None, ..., None], 40, axis=0) + np.zeros((1, 1, 1, 3))
    for slide in slides:
        for top, left in random.integers(10, 112, (6, 2)):
            slide[top : top + 6, left : left + 6] -= random.uniform(30, 60)
    assert num_extra(of_arrays(slides.clip(0, 255).astype(np.uint8))) == 0


def test_blank_pictures_are_the_same_only_byte_for_byte():
    shades = np.full((5, 80, 80, 3), 10, np.uint8) + np.array([0, 1, 2, 0, 3], np.uint8)[:, None, None, None]
    assert of_arrays(shades).tolist() == of_arrays(shades)[[3, 1, 2, 0, 4]].tolist()
    assert num_extra(of_arrays(shades)) == 1


def test_equal_bytes_under_other_names_and_unreadable_ones(tmp_path):
    images = write(tmp_path / "images", [io.BytesIO(encode(picture(seed=s))) for s in (1, 2, 1)] + [io.BytesIO()])
    missing = FileImages([*images.paths, tmp_path / "gone", tmp_path / "gone too"], [*images.names, "gone", "too"])
    found = numbers(missing)
    assert found[0] == found[2]
    assert num_extra(found) == 1


@settings(max_examples=20)
@given(st.permutations(range(8)))
def test_the_order_of_the_images_does_not_matter(order):
    photo = load_sample_images().images[1]
    tiles = [photo[y : y + 96, 100 : 100 + 96] for y in (0, 100, 200)]
    arrays = np.stack([*tiles, *[tile // 5 * 4 + 20 for tile in tiles], tiles[0], tiles[1]])
    found = of_arrays(arrays[list(order)])
    expected = np.array([0, 1, 2, 0, 1, 2, 0, 1])[list(order)]
    assert ((found[:, None] == found) == (expected[:, None] == expected)).all()


def test_no_images_are_no_groups():
    assert duplicate_groups(FileImages([], []), []).tolist() == []

import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images

from tests.images import encode, picture
from vitreous.data.decode import ImageFacts, decode
from vitreous.data.preprocess import FITS, INTERPOLATIONS, Preprocess, suggest_preprocess
from vitreous.errors import DataError

sides = st.integers(1, 90)
fields = st.integers(1, 40)


def contract(height=32, width=32, channels=3, fit="pad", **more):
    return Preprocess(height=height, width=width, channels=channels, fit=fit, **more)


@given(height=sides, width=sides, field_height=fields, field_width=fields, fit=st.sampled_from(["pad", "centre"]))
@settings(max_examples=200, deadline=None)
def test_pad_and_centre_put_the_whole_picture_in_the_middle(height, width, field_height, field_width, fit):
    white = np.full((height, width), 255, np.uint8)
    pixels = contract(field_height, field_width, 1, fit).pixels(white)[..., 0]
    scale = min(Fraction(field_height, height), Fraction(field_width, width))
    if fit == "centre":
        scale = min(scale, Fraction(1))
    rows, columns = (np.flatnonzero(pixels.any(axis=axis)) for axis in (1, 0))
    for occupied, side, field in ((rows, height, field_height), (columns, width, field_width)):
        assert abs(len(occupied) - max(side * scale, 1)) <= Fraction(1, 2)
        assert np.array_equal(occupied, occupied[0] + np.arange(len(occupied)))
        before, after = occupied[0], field - 1 - occupied[-1]
        assert after - before in (0, 1), "an odd pixel goes right or bottom"
    assert set(np.unique(pixels)) <= {0, 255}


@given(height=sides, width=sides, field_height=fields, field_width=fields)
@settings(max_examples=100, deadline=None)
def test_crop_is_what_pillow_calls_fit(height, width, field_height, field_width):
    pixels = contract(field_height, field_width, 3, "crop").pixels(picture(height, width))
    wanted = ImageOps.fit(
        Image.fromarray(picture(height, width)), (field_width, field_height), Image.Resampling.BILINEAR
    )
    assert np.abs(pixels.astype(int) - np.array(wanted)).max() <= 1


def test_crop_keeps_the_centre():
    image = np.zeros((10, 30), np.uint8)
    image[:, 10:20] = 255
    assert (contract(10, 10, 1, "crop").pixels(image) == 255).all()


def test_a_crop_fraction_keeps_the_middle_of_the_middle():
    image = np.zeros((100, 140), np.uint8)
    image[25:75, 45:95] = 255
    assert (contract(10, 10, 1, "crop", crop_fraction=0.5, interpolation="box").pixels(image) == 255).all()
    assert not (contract(10, 10, 1, "crop", crop_fraction=0.6, interpolation="box").pixels(image) == 255).all()


def test_a_crop_fraction_holds_for_an_image_of_the_fields_size_too():
    image = picture(32, 32)
    wanted = Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR, (4, 4, 28, 28))
    for source in (image, encode(image)):
        assert np.array_equal(contract(fit="crop", crop_fraction=0.75).pixels(source), np.array(wanted))


@pytest.mark.parametrize(("size", "limit"), [((640, 427), 5.5), ((500, 333), 1.0), ((301, 427), 5.5)])
def test_a_crop_fraction_gives_nearly_what_resize_then_crop_gives(size, limit):
    """As torchvision's presets do it: the shorter side to 256 px, the longer rounded down, 224 px of the middle.

    The scale is the same; their part lies up to half a pixel off the middle, which on this photograph, full of fine
    detail, is 5 of 255 grey levels on average, and under 1 where their part lies on whole pixels.
    """
    photograph = Image.fromarray(load_sample_images().images[0])  # a palace with much carving, 640 x 427
    photograph = photograph.resize(size, Image.Resampling.LANCZOS)
    scaled = tuple(256 * side // min(size) for side in size)
    left, top = (round((side - 224) / 2) for side in scaled)
    wanted = np.array(photograph.resize(scaled, Image.Resampling.BILINEAR).crop((left, top, left + 224, top + 224)))
    pixels = contract(224, 224, fit="crop", crop_fraction=224 / 256).pixels(np.array(photograph))
    assert np.abs(pixels.astype(int) - wanted).mean() < limit


def test_a_jpeg_is_decoded_large_enough_for_a_crop_fraction():
    """A quarter of 640 px fills the field of 128 px: the whole picture must not be decoded at half its size."""
    data = encode(np.random.default_rng(0).integers(0, 256, (640, 640, 3), dtype=np.uint8), "JPEG", quality=95)
    part = contract(128, 128, fit="crop", crop_fraction=0.25)
    assert np.array_equal(part.pixels(data), part.pixels(decode(data)))
    whole = contract(128, 128, fit="crop")
    assert not np.array_equal(whole.pixels(data), whole.pixels(decode(data)))


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_squash_scales_each_axis_alone(interpolation):
    pixels = contract(16, 48, 3, "squash", interpolation=interpolation).pixels(picture(32, 24))
    wanted = Image.fromarray(picture(32, 24)).resize((48, 16), INTERPOLATIONS[interpolation])
    assert np.array_equal(pixels, np.array(wanted))


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_of_the_right_size_keeps_every_byte(fit, channels):
    image = picture(32, 32)[..., :channels]
    assert contract(channels=channels, fit=fit).pixels(image).tobytes() == image.tobytes()
    assert contract(channels=channels, fit=fit).pixels(encode(np.squeeze(image))).tobytes() == image.tobytes()


@pytest.mark.parametrize("fit", FITS)
def test_a_28_pixel_image_in_a_32_pixel_field(fit):
    image = picture(28, 28)[..., 0]
    pixels = contract(channels=1, fit=fit).pixels(image)[..., 0]
    kept_as_it_is = np.array_equal(pixels[2:30, 2:30], image) and not pixels[:2].any() and not pixels[:, 30:].any()
    assert kept_as_it_is == (fit == "centre")


def test_grey_and_colour():
    grey = picture(20, 20)[..., 0]
    assert np.array_equal(contract(20, 20).pixels(grey), np.repeat(grey[..., None], 3, axis=2))
    red, green, blue = np.moveaxis(picture(20, 20).astype(float), 2, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue  # ITU-R BT.601
    assert np.abs(contract(20, 20, 1).pixels(picture(20, 20))[..., 0] - luma).max() <= 1


def test_the_fill_has_the_pad_value_in_every_channel():
    pixels = contract(30, 10, 3, pad_value=7).pixels(picture(10, 10))
    assert (pixels[:10] == 7).all()
    assert (pixels[20:] == 7).all()


@given(st.integers(40, 200), st.integers(40, 200), st.sampled_from(FITS), st.sampled_from(["PNG", "BMP", "WEBP"]))
@settings(max_examples=40, deadline=None)
def test_a_file_and_its_decoded_pixels_give_the_same(height, width, fit, format):
    data = encode(picture(height, width), format)
    assert np.array_equal(contract(fit=fit).pixels(data), contract(fit=fit).pixels(decode(data)))


def test_a_large_jpeg_gives_nearly_what_its_full_decode_gives(tmp_path):
    data = encode(picture(480, 640), "JPEG", quality=92)
    (tmp_path / "a.jpg").write_bytes(data)
    pixels = contract(fit="crop").pixels(data)
    assert np.array_equal(pixels, contract(fit="crop").pixels(tmp_path / "a.jpg"))
    assert np.abs(pixels.astype(int) - contract(fit="crop").pixels(decode(data))).mean() < 2


def test_a_fraction_of_a_pixel_fills_the_field():
    for shape in ((1, 1), (1, 50), (50, 1)):
        pixels = contract(8, 8, 1, "crop", crop_fraction=0.01).pixels(np.full(shape, 9, np.uint8))
        assert (pixels == 9).all()


def test_extreme_shapes_need_no_memory():
    for fit in FITS:
        for shape in ((1, 20_000), (20_000, 1)):
            assert contract(64, 64, 1, fit).pixels(np.full(shape, 9, np.uint8)).shape == (64, 64, 1)


def test_the_pixels_may_be_written_to():
    for source in (picture(), encode(picture()), encode(picture(32, 32))):
        assert contract().pixels(source).flags.writeable


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4)), np.zeros((4, 4, 4), np.uint8), np.zeros(4, np.uint8), np.zeros((0, 4), np.uint8)]
)
def test_other_arrays_are_refused(image):
    with pytest.raises(DataError, match="uint8 of shape"):
        contract().pixels(image)


def test_the_dictionary_round_trip_is_json():
    full = contract(20, 30, 1, "crop", interpolation="box", pad_value=9, crop_fraction=0.875).with_statistics(
        [0.3], [0.2]
    )
    assert Preprocess.from_dict(json.loads(json.dumps(full.to_dict()))) == full
    assert contract().mean == (0.0, 0.0, 0.0)
    assert contract().std == (1.0, 1.0, 1.0)


def test_the_pixel_key_names_what_decides_the_pixels():
    assert contract().pixel_key() == contract().with_statistics([0.5] * 3, [0.1] * 3).pixel_key()
    others = [
        contract(31),
        contract(width=31),
        contract(channels=1),
        contract(fit="crop"),
        contract(pad_value=1),
        contract(interpolation="box"),
        contract(fit="crop", crop_fraction=0.875),
        contract(fit="crop", crop_fraction=0.9),
    ]
    assert len({each.pixel_key() for each in [contract(), *others]}) == 9


def test_contracts_from_before_there_were_crop_fractions_hold():
    values = contract().to_dict()
    del values["crop_fraction"]
    old = Preprocess.from_dict(values)
    assert old == contract()
    assert old.pixel_key() == "1aa5979844de345cc6505d28a2c44fc7dfadfe6b2572885efe7123836c4b41d0"
    assert contract(crop_fraction=1) == old


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"colour": 3}, "colour unknown"),
        ({"height": None}, "height"),
        ({"height": 0}, "height = 0"),
        ({"height": True}, "height = True"),
        ({"width": 1.5}, "width"),
        ({"channels": 2}, "channels = 2"),
        ({"fit": ["pad"]}, "fit"),
        ({"fit": "stretch"}, "pad, crop, squash, centre"),
        ({"interpolation": "cubic"}, "interpolation"),
        ({"pad_value": 256}, "pad_value"),
        ({"crop_fraction": 0}, "crop_fraction = 0 "),
        ({"crop_fraction": 1e-320}, "from 0.01 to 1"),
        ({"crop_fraction": 1.1}, "crop_fraction"),
        ({"crop_fraction": float("nan")}, "crop_fraction"),
        ({"crop_fraction": True}, "crop_fraction = True"),
        ({"crop_fraction": None}, "crop_fraction"),
        ({"crop_fraction": 0.5}, "with fit = pad leave it at 1"),
        ({"mean": [0.1]}, "mean"),
        ({"mean": "abc"}, "mean"),
        ({"mean": [0.1, 0.1, float("nan")]}, "mean"),
        ({"std": [0.1, 0.1, 0.0]}, "std"),
    ],
)
def test_a_damaged_contract_is_refused_by_the_name_of_its_key(change, word):
    with pytest.raises(DataError, match=word):
        Preprocess.from_dict(contract().to_dict() | change)


def test_a_contract_without_a_key_is_refused():
    values = contract().to_dict()
    del values["fit"]
    with pytest.raises(DataError, match="fit missing"):
        Preprocess.from_dict(values)


def facts(*sizes, grey=False):
    return [ImageFacts(height, width, grey) for height, width in sizes]


@pytest.mark.parametrize(
    ("images", "asked", "shape", "fit"),
    [
        (facts((28, 28), (28, 28), grey=True), {}, (28, 28, 1), "centre"),
        (facts((28, 28), grey=True), {"model_input": (32, 32)}, (32, 32, 1), "centre"),
        (facts((28, 28), grey=True), {"model_input": (32, 32), "image_size": 20}, (20, 20, 1), "pad"),
        (facts((20, 30)), {}, (20, 30, 3), "centre"),
        (facts((20, 30)), {"image_size": (40, 16), "channels": 1, "fit": "crop"}, (40, 16, 1), "crop"),
        (facts((20, 30), (30, 20)), {}, (32, 32, 3), "pad"),
        (facts((50, 41), (60, 50), (45, 20)), {}, (56, 56, 3), "pad"),
        (facts((300, 200), (480, 640)), {}, (128, 128, 3), "pad"),
        (facts((480, 640)), {}, (128, 128, 3), "pad"),
        ([*facts((8, 8), grey=True), *facts((8, 8))], {}, (8, 8, 3), "centre"),
        (facts((28, 28)), {"crop_fraction": 0.875}, (28, 28, 3), "crop"),
        (facts((28, 28)), {"crop_fraction": 1.0, "interpolation": None}, (28, 28, 3), "centre"),
    ],
)
def test_the_suggestion_suits_the_images(images, asked, shape, fit):
    suggested = suggest_preprocess(images, **asked)
    assert (suggested.shape, suggested.fit) == (shape, fit)
    assert suggested.crop_fraction == asked.get("crop_fraction", 1.0)
    assert suggested.interpolation == "bilinear"


def test_no_image_no_suggestion():
    with pytest.raises(DataError, match="no image"):
        suggest_preprocess([])

import base64
import io

import numpy as np
import pytest
from PIL import Image

from vitreous.report.pictures import MAX_SIDE_PX, filter_colours, over, picture, signed_colours


def decoded(found):
    head, _, data = found.uri.partition(",")
    image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
    assert head == f"data:image/{image.format.lower()};base64"
    return np.asarray(image)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_small_picture_keeps_every_pixel(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (28, 20, channels), dtype=np.uint8)
    found = picture(pixels)
    assert (found.width, found.height, found.is_pixelated) == (20, 28, True)
    np.testing.assert_array_equal(decoded(found).reshape(pixels.shape), pixels)


def test_a_large_picture_is_shrunk_and_keeps_its_shape():
    found = picture(np.full((400, 800, 3), 90, np.uint8))
    assert (found.width, found.height, found.is_pixelated) == (MAX_SIDE_PX, MAX_SIDE_PX // 2, False)
    assert np.abs(decoded(found).astype(int) - 90).max() <= 2


def test_signs_have_their_own_colours_on_one_scale():
    below, zero, above = signed_colours(np.array([-2.0, 0.0, 2.0]), 2.0).astype(int)
    assert below[2] > below[0]
    assert above[0] > above[2]
    assert zero.min() > 240
    np.testing.assert_array_equal(signed_colours(np.array([5.0, -5.0]), 2.0), [above, below])  # cut, not wrapped


def test_a_scale_of_nothing_is_white():
    assert signed_colours(np.zeros((2, 2)), 0.0).min() > 240


def test_filters_on_colour_are_colours_around_mid_grey():
    filters = np.zeros((1, 3, 1, 2), np.float32)
    filters[0, 0, 0, 1] = 2.0
    np.testing.assert_array_equal(filter_colours(filters, 2.0), [[[[128, 128, 128], [255, 128, 128]]]])
    assert filter_colours(np.zeros((4, 3, 5, 5), np.float32), 0.0).shape == (4, 5, 5, 3)


def test_filters_on_grey_are_signed_colours():
    filters = np.random.default_rng(0).normal(size=(4, 1, 3, 3))
    np.testing.assert_array_equal(filter_colours(filters, 3.0), signed_colours(filters[:, 0], 3.0))


@pytest.mark.parametrize("channels", [1, 3])
def test_over_an_image_a_map_of_nothing_leaves_it_in_grey(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, channels), dtype=np.uint8)
    found = over(pixels, np.zeros((5, 4)), 1.0)
    np.testing.assert_allclose(found, np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2), atol=0.51)


def test_over_an_image_more_is_redder_and_below_zero_is_blue():
    grey = np.full((1, 5, 1), 128, np.uint8)
    found = over(grey, np.array([[-1.0, 0.0, 0.3, 1.0, 9.0]]), 1.0)[0].astype(int)
    redness = found[:, 0] - found[:, 2]
    assert redness[0] < redness[1] == 0 < redness[2] < redness[3] == redness[4]

"""Whether images may be mirrored: measured on images whose handedness is known."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from vitreous.config import Config
from vitreous.data.prepared import prepare
from vitreous.data.preprocess import Preprocess
from vitreous.data.source import open_source
from vitreous.training.mirroring import Handedness, measure_handedness
from vitreous.training.recipe import Facts, choose_recipe

SIDE = 24


def discs(random):
    """A disc anywhere, of any light."""
    image = Image.new("L", (SIDE, SIDE), int(random.integers(0, 100)))
    x, y, radius = (int(number) for number in random.integers((6, 6, 3), (18, 18, 6)))
    ImageDraw.Draw(image).ellipse((x - radius, y - radius, x + radius, y + radius), fill=int(random.integers(150, 255)))
    return image


def arrows(points_right):
    def drawn(random):
        """An arrow anywhere, of any size."""
        image = Image.new("L", (SIDE, SIDE), int(random.integers(0, 100)))
        x, y, size = (int(number) for number in random.integers((8, 8, 4), (16, 16, 7)))
        tip = size if points_right else -size
        shape = [(x - tip, y - size), (x + tip, y), (x - tip, y + size)]
        ImageDraw.Draw(image).polygon(shape, fill=int(random.integers(150, 255)))
        return image

    return drawn


def measured(tmp_path, number=60, **classes):
    random = np.random.default_rng(3)
    for name, draw in classes.items():
        (tmp_path / name).mkdir()
        for n in range(number):
            draw(random).save(tmp_path / name / f"{n}.png")
    source, contract = open_source(tmp_path), Preprocess(height=SIDE, width=SIDE, channels=1, fit="pad")
    images = prepare(source, preprocess=contract, val_fraction=0.1, test_fraction=0.1, seed=0, near_duplicates=False)
    return measure_handedness(images)


def test_what_has_no_handedness_may_be_mirrored(tmp_path):
    found = measured(tmp_path, round=discs, other=discs)
    assert 0.35 < found.num_nearer / found.num_images < 0.62
    assert found.is_ruled_out


def test_left_and_right_are_told_apart(tmp_path):
    found = measured(tmp_path, left=arrows(False), right=arrows(True))
    assert found.num_nearer > 0.9 * found.num_images
    assert not found.is_ruled_out


def test_one_handed_class_among_others_is_enough(tmp_path):
    found = measured(tmp_path, a=discs, b=discs, c=discs, d=discs, e=discs, left=arrows(False))
    assert found.num_nearer < 0.65 * found.num_images
    assert not found.is_ruled_out


def test_images_that_are_all_the_same_in_a_mirror(tmp_path):
    def centred(random):
        image = Image.new("L", (SIDE, SIDE))
        ImageDraw.Draw(image).rectangle((8, 8, 15, 15), fill=int(random.integers(100, 255)))
        return image

    assert measured(tmp_path, a=centred, b=centred).is_ruled_out


@pytest.mark.parametrize(("nearer", "images", "handed", "may"), [(50, 100, False, True), (50, 100, True, False)])
def test_a_few_images_say_nothing(nearer, images, handed, may):
    assert Handedness(nearer, images, handed).is_ruled_out == may
    assert not Handedness(3, 6, False).is_ruled_out
    assert not Handedness(0, 0, False).is_ruled_out


@pytest.mark.parametrize("start", [["training.epochs=20"], ["training.epochs=3", "model.weights=a.safetensors"]])
@pytest.mark.parametrize("nearer", [480, 800, None])
def test_the_recipe_follows_and_says_so(start, nearer):
    handedness = None if nearer is None else Handedness(nearer, 1000, False)
    facts = Facts((500, 500), (32, 32), 10**6, has_norm=True, handedness=handedness)
    chosen, line = choose_recipe(Config().override(start), facts)
    assert chosen.augmentation.flip is (nearer == 480)
    assert ("a mirror would change nothing (48% of 1,000 images" in line) == (nearer == 480)
    assert ("not mirrored (80% of 1,000 images" in line) == (nearer == 800)


def test_what_was_asked_stays():
    facts = Facts((500, 500), (32, 32), 10**6, has_norm=True, handedness=Handedness(500, 1000, False))
    chosen, line = choose_recipe(Config().override(["training.epochs=20", "augmentation.flip=false"]), facts)
    assert chosen.augmentation.flip is False
    assert "mirror" not in line

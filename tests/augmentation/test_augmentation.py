import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.augmentation.pixels import noise, pictures
from vitreous.augmentation import Augmentation
from vitreous.augmentation.counter import Stream, uniform
from vitreous.augmentation.description import describe
from vitreous.config import AugmentationConfig, Config
from vitreous.errors import ConfigError

EACH = {
    "flip": True,
    "shift_px": 2,
    "zoom": 0.3,
    "light": 0.3,
    "rotate": 20.0,
    "shear": 0.2,
    "scale": 0.3,
    "saturation": 0.5,
    "hue": 0.2,
    "randaugment": 2,
    "cutout": 0.5,
}


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 99), epoch=st.integers(0, 99), shift=st.integers(0, 4), flip=st.booleans())
def test_each_image_is_a_reflected_shift_and_mirror_of_itself(seed, epoch, shift, flip):
    """Against a plain per-image reference: pad by reflection, crop, mirror."""
    pixels, index = noise(), torch.arange(5)
    varied = Augmentation(flip=flip, shift_px=shift)(pixels, index, seed=seed, epoch=epoch)
    rows = (uniform(seed, epoch, index, 0) * (2 * shift + 1)).long() - shift
    columns = (uniform(seed, epoch, index, 1) * (2 * shift + 1)).long() - shift
    is_mirrored = uniform(seed, epoch, index, 2) < 0.5
    for number in range(5):
        padded = np.pad(pixels[number].numpy(), ((shift, shift), (shift, shift), (0, 0)), mode="reflect")
        top, left = shift + int(rows[number]), shift + int(columns[number])
        wanted = padded[top : top + 9, left : left + 7]
        if flip and is_mirrored[number]:
            wanted = wanted[:, ::-1]
        assert np.array_equal(varied[number].numpy(), wanted)


@settings(deadline=None, max_examples=60)
@given(
    size=st.tuples(st.integers(1, 41), st.integers(1, 41), st.sampled_from([1, 3])),
    asked=st.lists(st.sampled_from(list(EACH)), unique=True),
    flip=st.sampled_from([True, "alternating"]),
    threads=st.integers(1, 3),
    epoch=st.integers(0, 9),
)
def test_an_image_is_varied_alike_in_any_company_to_the_bit(size, asked, flip, threads, epoch):
    options = {name: EACH[name] for name in asked}
    augmentation = Augmentation(**options | ({"flip": flip} if "flip" in asked else {}))
    pixels, before = noise(40, *size), torch.get_num_threads()
    order = torch.randperm(40, generator=torch.Generator().manual_seed(epoch))
    try:
        torch.set_num_threads(threads)
        together = augmentation(pixels, order, seed=1, epoch=epoch)
        turned = augmentation(pixels, order.flip(0)[:29], seed=1, epoch=epoch)
        torch.set_num_threads(1)
        alone = [augmentation(pixels, order[n : n + 1], seed=1, epoch=epoch)[0] for n in range(0, 40, 6)]
    finally:
        torch.set_num_threads(before)
    assert torch.equal(together.flip(0)[:29], turned)
    assert torch.equal(together[::6], torch.stack(alone))
    assert (together.dtype, together.shape) == (torch.uint8, pixels.shape)
    assert together.is_contiguous(), "the network is fed channels-last"


def test_slices_that_fit_the_cache_change_nothing(monkeypatch):
    augmentation, pixels, index = Augmentation(**EACH), noise(20), torch.arange(20)
    whole = augmentation(pixels, index, seed=1, epoch=3)
    monkeypatch.setattr("vitreous.augmentation._SLICE", 3 * pixels[0].numel())
    assert torch.equal(augmentation(pixels, index, seed=1, epoch=3), whole)
    monkeypatch.setattr("vitreous.augmentation._SLICE", 1)
    assert torch.equal(augmentation(pixels, index, seed=1, epoch=3), whole)


@pytest.mark.parametrize("name", EACH)
def test_every_epoch_and_seed_varies_anew(name):
    augmentation, pixels, index = Augmentation(**{name: EACH[name]}), noise(12), torch.arange(12)
    first = augmentation(pixels, index, seed=1, epoch=3)
    assert torch.equal(first, augmentation(pixels, index, seed=1, epoch=3))
    assert not torch.equal(first, pixels)
    assert not torch.equal(first, augmentation(pixels, index, seed=1, epoch=4))
    assert not torch.equal(first, augmentation(pixels, index, seed=2, epoch=3))


def test_nothing_is_varied_where_nothing_is_asked_and_the_set_never():
    pixels = noise(6)
    kept = pixels.clone()
    assert torch.equal(Augmentation()(pixels, torch.tensor([4, 0, 4]), seed=0, epoch=0), kept[[4, 0, 4]])
    Augmentation(**EACH)(pixels, torch.arange(6), seed=0, epoch=0).zero_()
    assert torch.equal(pixels, kept)


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 1, 3), (1, 50, 3), (50, 1, 1), (2, 2, 3)])
def test_the_smallest_images_and_the_longest_shift(size):
    everything = Augmentation(**EACH | {"shift_px": 64})
    varied = everything(noise(9, *size), torch.arange(9), seed=0, epoch=0)
    assert varied.shape == (9, *size)
    flat = torch.full((9, *size), 77, dtype=torch.uint8)
    moved = Augmentation(flip=True, shift_px=64, zoom=0.9, rotate=180.0, shear=0.5, scale=1.0, cutout=0.9)
    assert torch.equal(moved(flat, torch.arange(9), seed=0, epoch=0), flat), "a picture of one level stays so"


def test_mirror_and_shift_alone_give_the_bits_of_the_first_version():
    """The sum of the bytes weighted by their place, taken before there was more."""
    varied = Augmentation(True, 3)(noise(20, 24, 30), torch.arange(0, 20, 2), seed=5, epoch=7).flatten().long()
    assert int((varied * torch.arange(1, len(varied) + 1)).sum()) == 29_810_722_881


def test_light_alone_gives_the_bits_of_the_first_version():
    varied = Augmentation(True, 3, light=0.3)(noise(20, 24, 30), torch.arange(20), seed=5, epoch=7).flatten().long()
    assert int((varied * torch.arange(1, len(varied) + 1)).sum()) == 118278810316


def test_alternating_mirrors_every_image_in_every_second_epoch():
    pixels, index = noise(400, 4, 5, 1), torch.arange(400)
    is_mirrored = []
    for epoch in range(4):
        varied = Augmentation(flip="alternating")(pixels, index, seed=6, epoch=epoch)
        same, turned = ((varied == each).all(3).all(2).all(1) for each in (pixels, pixels.flip(2)))
        assert (same ^ turned).all()
        is_mirrored.append(turned)
    assert torch.equal(is_mirrored[0], ~is_mirrored[1])
    assert torch.equal(is_mirrored[0], is_mirrored[2])
    assert torch.equal(is_mirrored[1], is_mirrored[3])
    assert 140 < int(is_mirrored[0].sum()) < 260, "half in each epoch, 6 standard deviations"


@pytest.mark.parametrize("size", [(48, 64), (33, 20)])
def test_a_zoomed_part_is_what_pillow_resamples_from_the_same_box(size):
    """Against Pillow's bilinear enlargement of the box that the documented draws give."""
    height, width = size
    pixels, index = pictures(12, height, width), torch.arange(12)
    varied = Augmentation(flip=True, zoom=0.6)(pixels, index, seed=3, epoch=1)
    for number in range(12):
        share, signed, top, left, mirror = (float(uniform(3, 1, index, s)[number]) for s in (3, 4, 5, 6, 2))
        share, signed = 1 - 0.6 * share, 2 * signed - 1
        stretch = 1 + abs(signed) * (min((4 / 3) ** 0.5, 1 / share) - 1)
        tall, wide = (share * stretch, share / stretch) if signed >= 0 else (share / stretch, share * stretch)
        assert max(tall, wide) <= 1 + 1e-12
        assert 0.74 < tall / wide < 1.34
        x, y = left * (1 - wide) * width, top * (1 - tall) * height
        box = x, y, min(x + wide * width, width), min(y + tall * height, height)
        wanted = np.array(
            Image.fromarray(pixels[number].numpy()).resize((width, height), Image.Resampling.BILINEAR, box)
        )
        wanted = wanted[:, ::-1] if mirror < 0.5 else wanted
        assert np.abs(varied[number].numpy().astype(int) - wanted).max() <= 1


@settings(deadline=None, max_examples=20)
@given(height=st.integers(1, 300), width=st.integers(1, 300), shift=st.integers(0, 9))
def test_a_zoom_that_hardly_zooms_is_the_shift_alone(height, width, shift):
    """Both ways of fetching pixels mean the same places, the reflected edge included."""
    pixels, index = noise(2, height, width), torch.arange(2)
    fetched = Augmentation(True, shift)(pixels, index, seed=2, epoch=0)
    resampled = Augmentation(True, shift, zoom=1e-12)(pixels, index, seed=2, epoch=0)
    assert torch.equal(fetched, resampled)


@settings(deadline=None, max_examples=40)
@given(
    size=st.tuples(st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 3])),
    share=st.floats(0.01, 0.9),
    seed=st.integers(0, 99),
)
def test_cutout_is_numpys_slice_of_the_mean_colour(size, share, seed):
    height, width, _ = size
    pixels, index = noise(4, *size), torch.arange(4)
    varied = Augmentation(cutout=share)(pixels, index, seed=seed, epoch=1).numpy()
    side = max(1, round(share * min(height, width)))
    for number, image in enumerate(pixels.numpy()):
        row, column = (
            int(length * float(uniform(seed, 1, index, stream)[number])) - side // 2
            for length, stream in ((height, Stream.CUTOUT_ROW), (width, Stream.CUTOUT_COLUMN))
        )
        wanted = image.copy()
        wanted[max(0, row) : row + side, max(0, column) : column + side] = np.floor(image.mean((0, 1)) + 0.5)
        assert np.array_equal(varied[number], wanted)


def test_a_cutout_lies_anywhere():
    """The centre is as often in each pixel: a square of one pixel shows it."""
    pixels = torch.zeros(40_000, 5, 8, 1, dtype=torch.uint8)
    pixels[:, 0, 0] = 200  # the mean is 5, so a hidden pixel of the rest shows
    varied = Augmentation(cutout=0.01)(pixels, torch.arange(40_000), seed=0, epoch=0)
    counts = (varied == 5).sum(0, dtype=torch.float64).flatten()
    assert int(counts.sum()) == 40_000
    assert float(((counts - 1000) ** 2 / 1000).sum()) < 73  # chi-squared, 39 degrees of freedom, p = 0.001


def test_the_settings_name_what_the_augmentation_knows():
    asked = AugmentationConfig(**EACH | {"flip": "alternating", "randaugment_magnitude": 5.0})
    assert Augmentation.from_config(asked) == Augmentation(**EACH | {"flip": "alternating"}, randaugment_magnitude=5.0)
    names = {spec.name for spec in dataclasses.fields(AugmentationConfig)}
    assert names - {spec.name for spec in dataclasses.fields(Augmentation)} == {"mixup", "cutmix"}


def test_settings_of_older_runs_leave_the_rest_off():
    asked = Config.from_toml("[augmentation]\nflip = true\nshift_px = 2\nzoom = 0.0\nlight = 0.0").augmentation
    assert Augmentation.from_config(asked) == Augmentation(True, 2)
    assert Augmentation.from_config(AugmentationConfig()) == Augmentation()


def test_a_flip_is_true_false_or_alternating():
    assert Config().override(["augmentation.flip=alternating"]).augmentation.flip == "alternating"
    with pytest.raises(ConfigError, match=r"augmentation\.flip = 'both' is not true, false or alternating"):
        Config().override(["augmentation.flip=both"])


def test_each_variation_is_described():
    numbers = EACH | {"mixup": 0.2, "cutmix": 1.0}
    plain = list(describe(AugmentationConfig()))
    assert plain == ["shift 0 px"]
    for name, value in numbers.items():
        told = list(describe(AugmentationConfig(**{name: value})))
        assert told != plain, name
    assert len(list(describe(AugmentationConfig(**numbers)))) == len(numbers)


@pytest.mark.parametrize("name", EACH)
def test_no_variation_reads_back_from_where_the_pixels_are(name):
    """On tensors without numbers nothing can be read back; a GPU need not be waited for."""
    pixels = torch.empty(30, 24, 20, 3, dtype=torch.uint8, device="meta")
    varied = Augmentation(**{name: EACH[name]})(pixels, torch.arange(0, 30, 2), seed=0, epoch=0)
    assert (varied.device.type, varied.shape) == ("meta", (15, 24, 20, 3))


@pytest.mark.gpu
@pytest.mark.parametrize("name", EACH)
def test_a_gpu_varies_as_the_processor_does(name):
    """To the bit, or to a level where fractions are rounded."""
    augmentation, pixels, index = Augmentation(**{name: EACH[name]}), pictures(12), torch.arange(12)
    here = augmentation(pixels, index, seed=1, epoch=3)
    there = augmentation(pixels.cuda(), index, seed=1, epoch=3).cpu()
    is_whole = name in ("flip", "shift_px", "cutout")
    assert int((here.int() - there.int()).abs().max()) <= (0 if is_whole else 1)


def test_the_page_on_variation_names_every_setting():
    page = (Path(__file__).parents[2] / "docs" / "augmentation.md").read_text(encoding="utf-8")
    for spec in dataclasses.fields(AugmentationConfig):
        assert f"`{spec.name}`" in page

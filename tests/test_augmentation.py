import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.images import picture
from vitreous.augmentation import Augmentation, reflect
from vitreous.augmentation.counter import uniform


def images(num=5, height=9, width=7, channels=3):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (num, height, width, channels), dtype=np.uint8))


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 99), epoch=st.integers(0, 99), shift=st.integers(0, 4), flip=st.booleans())
def test_each_image_is_a_reflected_shift_and_mirror_of_itself(seed, epoch, shift, flip):
    """Against a plain per-image reference: pad by reflection, crop, mirror."""
    pixels, index = images(), torch.arange(5)
    varied = Augmentation(flip=flip, shift_px=shift)(pixels, index, seed=seed, epoch=epoch)
    rows = (uniform(seed, epoch, index, 0) * (2 * shift + 1)).long() - shift
    columns = (uniform(seed, epoch, index, 1) * (2 * shift + 1)).long() - shift
    mirrored = uniform(seed, epoch, index, 2) < 0.5
    for number in range(5):
        padded = np.pad(pixels[number].numpy(), ((shift, shift), (shift, shift), (0, 0)), mode="reflect")
        top, left = shift + int(rows[number]), shift + int(columns[number])
        wanted = padded[top : top + 9, left : left + 7]
        if flip and mirrored[number]:
            wanted = wanted[:, ::-1]
        assert np.array_equal(varied[number].numpy(), wanted)


@settings(deadline=None, max_examples=60)
@given(
    size=st.tuples(st.integers(1, 41), st.integers(1, 41), st.sampled_from([1, 3])),
    shift=st.integers(0, 2),
    zoom=st.sampled_from([0.0, 0.3, 0.9]),
    light=st.sampled_from([0.0, 0.2, 0.9]),
    threads=st.integers(1, 3),
)
def test_an_image_is_varied_alike_in_any_company_to_the_bit(size, shift, zoom, light, threads):
    augmentation, pixels = Augmentation(flip=True, shift_px=shift, zoom=zoom, light=light), images(40, *size)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(shift))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        together = augmentation(pixels, order, seed=1, epoch=3)
        torch.set_num_threads(1)
        alone = [augmentation(pixels, order[n : n + 1], seed=1, epoch=3)[0] for n in range(40)]
    finally:
        torch.set_num_threads(before)
    assert torch.equal(together, torch.stack(alone))
    assert (together.dtype, together.shape) == (torch.uint8, pixels.shape)
    assert together.is_contiguous(), "the network is fed channels-last"


@pytest.mark.parametrize("options", [{}, {"zoom": 0.3}, {"light": 0.3}])
def test_every_epoch_varies_anew(options):
    augmentation, pixels, index = Augmentation(flip=True, shift_px=2, **options), images(), torch.arange(5)
    first = augmentation(pixels, index, seed=1, epoch=3)
    assert torch.equal(first, augmentation(pixels, index, seed=1, epoch=3))
    assert not torch.equal(first, augmentation(pixels, index, seed=1, epoch=4))
    assert not torch.equal(first, augmentation(pixels, index, seed=2, epoch=3))


def test_mirror_and_shift_alone_give_the_bits_of_the_first_version():
    """The sum of the bytes weighted by their place, taken before there were zoom and light."""
    varied = Augmentation(True, 3)(images(20, 24, 30), torch.arange(0, 20, 2), seed=5, epoch=7).flatten().long()
    assert int((varied * torch.arange(1, len(varied) + 1)).sum()) == 29_810_722_881


@pytest.mark.parametrize("size", [(48, 64), (33, 20)])
def test_a_zoomed_part_is_what_pillow_resamples_from_the_same_box(size):
    """Against Pillow's bilinear enlargement of the box that the documented draws give."""
    height, width = size
    pixels = torch.from_numpy(np.stack([picture(height, width, seed) for seed in range(12)]))
    index = torch.arange(12)
    varied = Augmentation(flip=True, shift_px=0, zoom=0.6)(pixels, index, seed=3, epoch=1)
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
    pixels, index = images(2, height, width), torch.arange(2)
    fetched = Augmentation(True, shift)(pixels, index, seed=2, epoch=0)
    resampled = Augmentation(True, shift, zoom=1e-12)(pixels, index, seed=2, epoch=0)
    assert torch.equal(fetched, resampled)


def test_light_changes_brightness_and_contrast_as_it_says():
    pixels, index = images(30, 16, 16) // 2 + 30, torch.arange(30)
    varied = Augmentation(False, 0, light=0.2)(pixels, index, seed=4, epoch=2).double()
    contrast, brightness = (1 + 0.2 * (2 * uniform(4, 2, index, stream) - 1) for stream in (7, 8))
    plain = pixels.double()
    assert torch.allclose(varied.mean((1, 2, 3)), plain.mean((1, 2, 3)) * brightness, atol=0.5)
    assert torch.allclose(varied.std((1, 2, 3)), plain.std((1, 2, 3)) * brightness * contrast, atol=0.5)


def test_light_stays_within_the_bytes():
    pixels = torch.zeros(50, 4, 4, 1, dtype=torch.uint8)
    pixels[:, :2] = 255
    varied = Augmentation(False, 0, light=0.9)(pixels, torch.arange(50), seed=0, epoch=0)
    assert (varied[:, :2] >= varied[:, 2:]).all(), "nothing wraps around"
    assert len(varied.unique()) > 30


def test_the_draws_are_uniform_and_the_streams_independent():
    index = torch.arange(200_000)
    first, second = uniform(7, 3, index, 0), uniform(7, 3, index, 1)
    counts = torch.histc(first.float(), 20, 0, 1)
    assert float(((counts - 10_000) ** 2 / 10_000).sum()) < 43.8  # chi-squared, 19 degrees of freedom, p = 0.001
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.01
    assert float(first.min()) >= 0
    assert float(first.max()) < 1


def test_reflection_is_torchs():
    row = torch.arange(6.0)
    padded = torch.nn.functional.pad(row[None, None], (5, 5), mode="reflect")[0, 0]
    assert torch.equal(row[reflect(torch.arange(-5, 11), 6)], padded)

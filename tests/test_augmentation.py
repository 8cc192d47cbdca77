import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

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


def test_an_image_is_varied_alike_in_any_company():
    augmentation, pixels = Augmentation(flip=True, shift_px=2), images()
    together = augmentation(pixels, torch.tensor([4, 2, 0]), seed=1, epoch=3)
    alone = augmentation(pixels, torch.tensor([2]), seed=1, epoch=3)
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(alone, augmentation(pixels, torch.tensor([2]), seed=1, epoch=4))


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

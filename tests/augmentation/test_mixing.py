import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta as beta_distribution
from scipy.stats import kstest

from tests.augmentation.pixels import noise
from vitreous.augmentation.boxes import drawn_box
from vitreous.augmentation.counter import Stream, uniform
from vitreous.augmentation.mixing import Mixing, averaged, beta
from vitreous.config import AugmentationConfig

WAYS = pytest.mark.parametrize("options", [{"mixup": 0.2}, {"cutmix": 1.0}, {"mixup": 1.0, "cutmix": 0.5}])


def levels(num, height=12, width=9, channels=3):
    """Images of one level each, all different, so that a pixel tells whose it is."""
    return torch.arange(num, dtype=torch.uint8)[:, None, None, None].expand(num, height, width, channels).contiguous()


@pytest.mark.parametrize("alpha", [0.1, 0.2, 1.0, 3.0])
def test_the_shares_are_of_the_beta_distribution(alpha):
    drawn = beta(alpha, uniform(0, 0, torch.arange(5000), 0)).numpy()
    assert kstest(drawn, beta_distribution(alpha, alpha).cdf).pvalue > 0.001


@WAYS
@pytest.mark.parametrize("num", [1, 2, 3, 40])
def test_every_image_is_partner_once_and_none_its_own(options, num):
    _, partner, share = Mixing(**options)(noise(num), torch.arange(num), seed=3, epoch=1)
    assert sorted(partner.tolist()) == list(range(num))
    assert num == 1 or not (partner == torch.arange(num)).any()
    assert ((share >= 0) & (share <= 1)).all()
    assert (share.dtype, share.shape) == (torch.float32, (num,))


@WAYS
def test_an_image_alone_stays_as_it_is(options):
    image = noise(1)
    assert torch.equal(Mixing(**options)(image, torch.tensor([7]), seed=0, epoch=0).images_NHWC, image)


@settings(deadline=None, max_examples=40)
@given(
    num=st.integers(2, 30),
    channels=st.sampled_from([1, 3]),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    alpha=st.sampled_from([0.2, 1.0, 4.0]),
    seed=st.integers(0, 99),
)
def test_cutmix_takes_a_box_and_the_label_has_the_share_of_the_pixels(num, channels, size, alpha, seed):
    index = torch.arange(100, 100 + num)
    mixed, partner, share = Mixing(cutmix=alpha)(levels(num, *size, channels), index, seed=seed, epoch=2)
    for number, image in enumerate(mixed[..., 0].numpy()):
        is_other = image == int(partner[number])
        assert np.array_equal(is_other, image != number), "every pixel is of the one or the other"
        assert float(share[number]) == pytest.approx(1 - is_other.mean(), abs=1e-6)
        rows, columns = is_other.any(1), is_other.any(0)
        assert np.array_equal(is_other, rows[:, None] & columns), "they make a box"
        for inside in (rows, columns):
            assert np.abs(np.diff(inside.astype(int))).sum() <= 2, "without a gap"
    assert torch.equal(mixed, mixed[..., :1].expand(mixed.shape))


def test_the_area_before_the_edge_cuts_it_off_is_the_drawn_one():
    index = torch.arange(2000)
    _, _, share = Mixing(cutmix=1.0)(levels(2000, 64, 64, 1), index, seed=0, epoch=0)
    wanted = 1 - beta(1.0, uniform(0, 0, index, Stream.MIX_SHARE))
    area = 1 - share.double()
    assert float((area - wanted).max()) < 1e-6, "at most what was drawn"
    assert float((wanted - area)[area > 0].min()) < 0.03, "whole pixels take away a row and a column at most"
    assert 0.3 < float(area.mean()) < 0.36  # of boxes with a uniform area about a uniform centre: 0.329


def test_mixup_is_the_weighted_mean():
    images, index = noise(20), torch.arange(50, 70)
    mixed, partner, share = Mixing(mixup=0.4)(images, index, seed=1, epoch=9)
    assert torch.allclose(share.double(), beta(0.4, uniform(1, 9, index, Stream.MIX_SHARE)), atol=1e-7)
    for number in range(20):
        own, other = images[number].numpy().astype(float), images[int(partner[number])].numpy()
        wanted = float(share[number]) * own + (1 - float(share[number])) * other
        assert np.abs(mixed[number].numpy() - wanted).max() <= 0.501


def test_a_share_of_one_changes_nothing_and_of_none_everything():
    images, others = noise(3), noise(3, seed=1)
    shares = torch.tensor([1.0, 0.0, 0.5], dtype=torch.float64)
    mixed = averaged(images, others, shares)
    assert torch.equal(mixed[0], images[0])
    assert torch.equal(mixed[1], others[1])


def test_with_both_ways_half_of_the_images_go_each():
    images = levels(200, 16, 16, 1)
    mixed, partner, share = Mixing(mixup=1.0, cutmix=1.0)(images, torch.arange(200), seed=0, epoch=0)
    own, other = images[:, :1, :1], images[partner][:, :1, :1]
    is_cut = uniform(0, 0, torch.arange(200), Stream.MIX_KIND) < 0.5
    assert 70 < int(is_cut.sum()) < 130
    assert ((mixed == own) | (mixed == other))[is_cut].all()
    kept = (mixed == own).flatten(1).double().mean(1)
    assert torch.allclose(share[is_cut].double(), kept[is_cut], atol=1e-6)
    blended = share.double() * own.flatten() + (1 - share.double()) * other.flatten()
    assert torch.allclose(mixed[~is_cut], mixed[~is_cut][:, :1, :1].expand(-1, 16, 16, -1))
    assert torch.allclose(mixed[~is_cut][:, 0, 0, 0].double(), blended[~is_cut], atol=0.501)


@WAYS
def test_the_order_of_the_batch_changes_nothing(options):
    images, index = noise(30), torch.arange(30) * 7
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    first = Mixing(**options)(images, index, seed=5, epoch=5)
    second = Mixing(**options)(images[order], index[order], seed=5, epoch=5)
    assert torch.equal(first.images_NHWC[order], second.images_NHWC)
    assert torch.equal(first.share_N[order], second.share_N)
    assert torch.equal(first.partner_N[order], order[second.partner_N])


@WAYS
def test_every_epoch_mixes_anew_and_leaves_the_images_alone(options):
    images, index = noise(30), torch.arange(30)
    kept = images.clone()
    first, again, later = (Mixing(**options)(images, index, seed=5, epoch=epoch) for epoch in (5, 5, 6))
    for ours, theirs in zip(first, again, strict=True):
        assert torch.equal(ours, theirs)
    assert not torch.equal(first.images_NHWC, later.images_NHWC)
    assert not torch.equal(first.partner_N, later.partner_N)
    assert torch.equal(images, kept)
    assert first.images_NHWC.is_contiguous()


def test_boxes_are_cut_off_at_the_edge():
    first, end = drawn_box(10, torch.tensor([4, 4, 4, 20]), torch.tensor([0.0, 0.5, 0.99, 0.5]).double())
    assert (first.tolist(), end.tolist()) == ([0, 3, 7, 0], [2, 7, 10, 10])


def test_the_settings_ask_for_mixing_or_not():
    assert Mixing.from_config(AugmentationConfig()) is None
    assert Mixing.from_config(AugmentationConfig(mixup=0.0, cutmix=0.0)) is None
    assert Mixing.from_config(AugmentationConfig(cutmix=1.0)) == Mixing(0.0, 1.0)
    assert Mixing.from_config(AugmentationConfig(mixup=0.2, cutmix=1.0)) == Mixing(0.2, 1.0)


@WAYS
def test_no_mixing_reads_back_from_where_the_pixels_are(options):
    pixels = torch.empty(30, 24, 20, 3, dtype=torch.uint8, device="meta")
    mixed = Mixing(**options)(pixels, torch.arange(30), seed=0, epoch=0)
    assert [each.device.type for each in mixed] == ["meta"] * 3

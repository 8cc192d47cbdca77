"""Faithful maps win, reversed ones lose, and chance is no map's friend."""

from statistics import median

import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate

from vitreous.errors import UserError
from vitreous.explanation.attribution import Attribution
from vitreous.explanation.faithfulness import Curves, curves, grain, judge, most_faithful, random_squares


def attribution(map_HW, grain=1, method="by hand"):
    return Attribution(method, map_HW, None, "", is_signed=True, grain=grain)


def image(side=16):
    return torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(1))


class Weighted(nn.Module):
    """The logit of class 1 is a weighted sum of pixels, so what each pixel gives it is known; class 0's is 0."""

    def __init__(self, side=16, scale=0.5):
        super().__init__()
        weight_HW = torch.randn(side, side, generator=torch.Generator().manual_seed(2)) * scale
        self.weight = nn.Parameter(weight_HW)

    def forward(self, x):
        logit_N = (x[:, 0] * self.weight).sum(dim=(1, 2))
        return torch.stack([torch.zeros_like(logit_N), logit_N], dim=1)


def shares(network, x):
    """What each pixel adds to the logit."""
    return (network.weight * x[0, 0]).detach()


def test_the_curves_of_a_linear_network_are_sums_of_the_pixels_in_order():
    network, x = Weighted(4), image(4)
    share_HW = shares(network, x)
    best_P = share_HW.flatten().sort(descending=True).values.double()
    found = curves(network, x, 1, share_HW, steps=16)
    kept_by_insertion = torch.cat([torch.zeros(1), best_P.cumsum(0)])
    torch.testing.assert_close(found.insertion, kept_by_insertion.sigmoid(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.deletion, (best_P.sum() - kept_by_insertion).sigmoid(), rtol=1e-5, atol=1e-6)
    assert found.shares.tolist() == [n / 16 for n in range(17)]


def test_the_true_order_beats_chance_and_its_reverse_is_its_opposite():
    network, x = Weighted(), image()
    share_HW = shares(network, x)
    true, reverse = judge(network, x, 1, [attribution(share_HW), attribution(-share_HW)])
    assert true.is_better_than_chance
    assert true.score > max(map(abs, true.chance_scores)) > 0 > reverse.score
    assert reverse.score == pytest.approx(-true.score, abs=1e-6)
    assert (true.verdict, reverse.verdict) == ("better than chance", "not better than chance")
    assert most_faithful([reverse, true]) is true


def test_no_order_of_a_linear_network_scores_higher_than_the_true_one():
    network, x = Weighted(8), image(8)
    best = curves(network, x, 1, shares(network, x)).score
    generator = torch.Generator().manual_seed(0)
    assert all(curves(network, x, 1, random_squares((8, 8), 1, generator)).score < best for _ in range(20))


@pytest.mark.parametrize("coarseness", [1, 3, 8])
def test_maps_that_mean_nothing_seldom_beat_chance_however_smooth_they_are(coarseness):
    network, x, generator = Weighted(24), image(24), torch.Generator().manual_seed(3)
    small = torch.rand(40, 1, 24 // coarseness, 24 // coarseness, generator=generator)
    maps = interpolate(small, (24, 24), mode="bilinear")[:, 0]
    judged = judge(network, x, 1, [attribution(map_HW) for map_HW in maps])
    assert sum(each.is_better_than_chance for each in judged) <= 3


@pytest.mark.parametrize("side", [1, 2, 3, 5, 8, 12])
def test_the_grain_of_random_squares_is_their_side(side):
    drawn = [random_squares((120, 96), side, torch.Generator().manual_seed(seed)) for seed in range(15)]
    assert median(map(grain, drawn)) == pytest.approx(side, abs=side // 8)
    assert all(grain(squares**3) == grain(squares) for squares in drawn[:3])  # the order counts, not the values


def test_the_grain_is_at_most_half_of_the_image_and_at_least_what_the_method_says():
    assert [grain(torch.zeros(8, 10)), grain(torch.zeros(1, 1))] == [4, 1]
    noise = torch.rand(16, 16, generator=torch.Generator().manual_seed(5))
    assert [each.grain for each in judge(Weighted(), image(), 1, [attribution(noise), attribution(noise, 4)])] == [1, 4]


def test_where_nothing_matters_no_map_is_better_than_chance():
    network, x = Weighted(scale=0), image()
    judged = judge(network, x, 1, [attribution(x[0, 0]), attribution(-x[0, 0])])
    assert [each.deviations for each in judged] == [0, 0]
    assert most_faithful(judged) is None
    assert most_faithful([]) is None


def test_chance_is_kept_as_curves():
    network, x = Weighted(), image()
    (found,) = judge(network, x, 1, [attribution(x[0, 0])], steps=8, orders=3)
    assert found.chance_scores == tuple(each.score for each in found.chance)
    assert {each.deletion.shape for each in found.chance} == {found.curves.deletion.shape}
    assert len({each.deletion[0].item() for each in (found.curves, *found.chance)}) == 1  # nothing hidden yet


def test_ties_go_row_by_row():
    network, x = Weighted(4), image(4)
    rows = torch.arange(16.0, 0, -1).reshape(4, 4)
    equal, ordered = curves(network, x, 1, torch.zeros(4, 4)), curves(network, x, 1, rows)
    assert torch.equal(equal.deletion, ordered.deletion)


def test_the_same_seed_gives_the_same_verdict_whatever_else_is_judged():
    network, x = Weighted(), image()
    first, coarse = attribution(shares(network, x)), attribution(x[0, 0], grain=4)
    random = torch.get_rng_state()
    alone, together = judge(network, x, 1, [first], seed=3), judge(network, x, 1, [coarse, first], seed=3)
    assert together[0].chance_scores != together[1].chance_scores
    assert alone[0].chance_scores == together[1].chance_scores
    assert alone[0].chance_scores != judge(network, x, 1, [first], seed=4)[0].chance_scores
    assert torch.equal(torch.get_rng_state(), random)


def test_the_baseline_is_what_hides():
    network, x = Weighted(), image()
    found = curves(network, x, 1, x[0, 0], baseline=2.0)
    expected = network(torch.full_like(x, 2.0)).softmax(dim=1)[0, 1].item()
    assert found.deletion[-1].item() == found.insertion[0].item() == pytest.approx(expected, rel=1e-5)
    assert found.deletion[0] == found.insertion[-1]


def test_areas_are_those_under_straight_lines():
    found = Curves(torch.tensor([0, 0.5, 1]), torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 1, 1]))
    assert (found.deletion_area, found.insertion_area, found.score) == (0.25, 0.75, 0.5)


def test_squares_are_squares():
    squares = random_squares((5, 7), 3, torch.Generator().manual_seed(0))
    assert squares.shape == (5, 7)
    assert len(squares.unique()) == 6
    assert (squares[:3, :3] == squares[0, 0]).all()


def test_the_network_is_left_as_it_was_found():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(784, 3))
    network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    x = image()
    kept = x.clone()
    judge(network, x, 1, [attribution(x[0, 0])], orders=2)
    assert all(module.training for module in network.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    assert torch.equal(x, kept)


def test_what_cannot_be_judged_is_refused():
    network, x = Weighted(), image()
    with pytest.raises(UserError, match=r"by hand is \(4, 4\), the image \(16, 16\)"):
        judge(network, x, 1, [attribution(torch.zeros(4, 4))])
    with pytest.raises(UserError, match="steps=0"):
        judge(network, x, 1, [], steps=0)
    with pytest.raises(UserError, match="no class 2"):
        judge(network, x, 2, [attribution(x[0, 0])])

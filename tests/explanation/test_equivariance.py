"""Shifts: what must move along exactly does, what cannot is found, and the shares are counted as anyone would."""

from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis.strategies import integers
from torch import nn

from vitreous.errors import UserError
from vitreous.explanation.equivariance import (
    DIRECTIONS,
    answers_kept,
    first_change,
    shift_consistency,
    shifted,
    shifted_maps,
    total_stride,
)
from vitreous.models import build_network
from vitreous.models.blur import BlurPool


def image(side=24, channels=2, seed=0):
    return torch.randn(1, channels, side, side, generator=torch.Generator().manual_seed(seed))


def convolutions(*strides):
    torch.manual_seed(0)
    layers = [(nn.Conv2d(2, 2, 3, stride, padding=1), nn.ReLU()) for stride in strides]
    return nn.Sequential(*(each for pair in layers for each in pair))


# --- maps -------------------------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(integers(0, 9), integers(0, 9))
def test_convolutions_of_stride_1_move_along_exactly(down, right):
    maps = shifted_maps(convolutions(1, 1, 1), image(), down, right)
    assert [each.num_compared for each in maps[1:3]] == [(22 - down) * (22 - right)] * 2
    assert all(each.is_whole and each.difference < 1e-6 for each in maps)
    assert first_change(maps) is None


@settings(max_examples=25)
@given(integers(2, 3), integers(0, 8), integers(0, 8))
def test_a_stride_moves_along_for_multiples_of_the_jump_only(stride, down, right):
    maps = shifted_maps(convolutions(1, stride, 1), image(), down, right)
    first = first_change(maps)
    if down % stride == right % stride == 0:
        assert first is None
        assert all(each.is_whole for each in maps)
    else:
        assert (first.name, first.jump) == ("2", (stride, stride))
        assert first.units == (Fraction(down, stride), Fraction(right, stride))
        assert not first.is_whole


def test_only_units_that_see_no_border_are_compared():
    maps = shifted_maps(convolutions(1, 1), image(12), 0, 3)
    assert [each.num_compared for each in maps] == [12 * 9, 10 * 7, 10 * 7, 8 * 5, 8 * 5]
    (deep,) = [each for each in shifted_maps(convolutions(*[1] * 6), image(12), 0, 1) if each.name == "10"]
    assert (deep.num_compared, deep.difference) == (0, None)


def test_padding_shows_where_the_border_is_compared():
    """The reason to leave it out: by hand, with nothing left out, the maps differ."""
    network, x = convolutions(1, 1), image(12)
    assert not network(shifted(x, 0, 3)).allclose(network(x).roll(3, dims=3), atol=1e-3)


class KnowsWhereItIs(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.place = nn.Parameter(torch.randn(1, 2, 24, 24))

    def forward(self, x):
        return (self.conv(x) + self.place).relu()


def test_a_layer_that_knows_where_it_is_is_found():
    first = first_change(shifted_maps(KnowsWhereItIs(), image(), 4, 4))
    assert (first.name, first.is_whole) == ("add", True)


class ChannelsLast(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 5)

    def forward(self, x):
        return self.linear(F.max_pool2d(x, 2).permute(0, 2, 3, 1))


def test_maps_with_channels_last_are_compared_too():
    maps = {each.name: each for each in shifted_maps(ChannelsLast(), image(), 4, 2)}
    assert maps["linear"].num_compared == maps["max_pool2d"].num_compared == 10 * 11
    assert maps["linear"].difference < 1e-6
    assert first_change(shifted_maps(ChannelsLast(), image(), 1, 0)).name == "max_pool2d"


class Chooses(nn.Module):
    """Goes another way where the corner is bright."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3)

    def forward(self, x):
        y = self.conv(x)
        return (y.relu() if x[0, 0, 0, 0] > 0 else y.tanh()).mean(dim=(2, 3))


def test_what_a_network_does_for_one_of_the_two_only_is_left_out():
    x = -torch.ones(1, 2, 8, 8)
    x[0, 0, 0, 7] = 1.0  # comes to the corner
    names = [each.name for each in shifted_maps(Chooses(), x, 0, 1)]
    assert "conv" in names
    assert not {"relu", "tanh"} & set(names)
    assert "tanh" in [each.name for each in shifted_maps(Chooses(), x, 0, 2)]


def test_a_blur_makes_less_of_half_a_step():
    smooth = F.avg_pool2d(image(40), 5, 1)
    networks = nn.Sequential(nn.MaxPool2d(2)), nn.Sequential(nn.MaxPool2d(2, 1), BlurPool(2, 2))
    plain, blurred = (shifted_maps(network, smooth, 0, 1)[-1] for network in networks)
    assert plain.jump == blurred.jump == (2, 2)
    assert 0 < blurred.difference < plain.difference


@pytest.mark.parametrize("shift", [(24, 0), (0, 24), (-1, 0)])
def test_shifts_that_leave_nothing_are_refused(shift):
    with pytest.raises(UserError, match="does not fit"):
        shifted_maps(convolutions(1), image(), *shift)


# --- answers ----------------------------------------------------------------------------------------------------------


def test_a_network_that_ignores_places_never_changes_its_answer():
    network = build_network("conv8 conv8 gap fc", in_channels=2, image_size=(12, 12), num_classes=3).eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.padding_mode = "circular"
            module._reversed_padding_repeated_twice = [1, 1, 1, 1]
    found = shift_consistency(network, torch.randn(5, 2, 12, 12), 4)
    assert found.same.value == found.always.value == 1
    assert found.same.low == pytest.approx(5 / (5 + 1.959964**2))  # Wilson's of 5 out of 5
    assert max(each.logit_change for each in found.shifts) < 1e-5
    assert [(each.down, each.right) for each in found.shifts[:4]] == [(0, 1), (1, 0), (1, 1), (0, 2)]


class Corner(nn.Module):
    """Answers 1 if the pixel in the corner is bright, 0 if not."""

    def forward(self, x):
        corner = x[:, 0, :1, 0]
        return torch.cat([torch.zeros_like(corner), corner], dim=1)


def test_every_image_is_asked_at_every_shift():
    images = torch.full((2, 1, 4, 4), -1.0)
    images[0, 0, 0, 0] = 1.0  # bright in the corner alone: any shift changes the answer, but not around the world
    images[1, 0, 3, 3] = 1.0  # comes in over the corner at (1, 1) alone
    found = shift_consistency(Corner(), images, 1)
    assert found.answers_SN.tolist() == [[1, 0], [0, 0], [0, 0], [0, 1]]
    assert [each.same.value for each in found.shifts] == [0.5, 0.5, 0.0]
    assert found.same.value == pytest.approx(1 / 3)
    assert found.always.value == 0
    sigmoid = torch.tensor(1.0).sigmoid().item()
    assert found.confidences_SN[:, 0].tolist() == pytest.approx([sigmoid, *[1 - sigmoid] * 3])
    assert found.shifts[0].confidence_change == pytest.approx((2 * sigmoid - 1) / 2)
    assert found.shifts[0].logit_change == pytest.approx(1.0)  # twice the length for one image, 0 for the other
    assert found.same.low < found.same.value < found.same.high


def test_three_borders():
    images = torch.full((1, 1, 4, 4), -1.0)
    images[0, 0, 0, 0] = 1.0
    circular, edge = (shift_consistency(Corner(), images, 2, border=border) for border in ("circular", "edge"))
    assert circular.always.value == 0
    assert edge.always.value == 1  # the bright corner is repeated
    picture = torch.arange(36.0).reshape(1, 1, 6, 6)

    class Pixel(nn.Module):
        def forward(self, x):
            seen.append((x.shape[-1], x[0, 0, 0, 0].item()))
            return torch.zeros(len(x), 2)

    seen = []
    shift_consistency(Pixel(), picture, 2, border="crop")
    assert seen == [(4, 14), (4, 13), (4, 8), (4, 7), (4, 12), (4, 2), (4, 0)]  # moved right, one sees further left


def test_by_default_as_far_as_the_total_stride():
    network = build_network("conv4 pool conv4s2 gap fc", in_channels=2, image_size=(12, 12), num_classes=3)
    assert total_stride(network, (2, 12, 12)) == 4
    assert len(shift_consistency(network, torch.randn(2, 2, 12, 12)).shifts) == 3 * 4
    assert total_stride(build_network("flatten fc", in_channels=1, image_size=(4, 4), num_classes=2), (1, 4, 4)) == 1


def test_the_network_and_the_images_are_left_as_they_were():
    class Careless(nn.Sequential):
        def forward(self, x):
            return super().forward(x.mul_(2)).mean(dim=(2, 3))

    network = Careless(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Dropout()).train()
    images = torch.randn(3, 2, 8, 8)
    before, statistics = images.clone(), network[1].running_mean.clone()
    for border in ("circular", "edge"):
        shift_consistency(network, images, 2, border=border)
    shifted_maps(network, images[:1], 1, 1)
    assert images.equal(before)
    assert network[1].running_mean.equal(statistics)
    assert network.training
    assert network[2].training


def test_the_document_of_all_of_it():
    document = shift_consistency(Corner(), torch.randn(3, 1, 6, 6), 1).to_json()
    assert document["num_images"] == 3
    assert document["border"] == "circular"
    assert document["shifts"][2].keys() == {"down", "right", "same", "confidence_change", "logit_change"}
    assert document["same"].keys() == {"value", "low", "high"}


@pytest.mark.parametrize(("num_images", "reach"), [(0, 1), (2, 0), (2, 8)])
def test_what_cannot_be_shifted_is_refused(num_images, reach):
    with pytest.raises(UserError, match=r"images"):
        shift_consistency(Corner(), torch.zeros(num_images, 1, 8, 8), reach)


@given(integers(-9, 9), integers(-9, 9))
def test_what_comes_in_repeats_the_edge(down, right):
    x = image(side=6)
    around = ((0, 0), (0, 0), (max(down, 0), max(-down, 0)), (max(right, 0), max(-right, 0)))
    padded = np.pad(x.numpy(), around, mode="edge")
    top, left = max(-down, 0), max(-right, 0)
    expected = padded[:, :, top : top + 6, left : left + 6]
    np.testing.assert_array_equal(shifted(x, down, right, "edge").numpy(), expected)


def test_each_image_is_moved_in_one_direction_and_compared_with_its_own_answer():
    images = torch.full((16, 1, 8, 8), -1.0)
    images[:, 0, 0, 1] = 1.0  # comes into the corner by a step left, or left and down, where the upper edge is repeated
    answers = torch.zeros(16, dtype=torch.long)
    (found,) = answers_kept(Corner(), images, answers, [1])
    assert [DIRECTIONS[n] for n in (3, 4)] == [(1, -1), (0, -1)]
    assert found.value == 12 / 16
    assert found.low < found.value < found.high
    answers[[3, 4]] = 1  # images 11 and 12 are moved in the same ways
    assert answers_kept(Corner(), images, answers, [1])[0].value == 14 / 16


def test_moved_images_in_batches_are_those_moved_one_by_one(monkeypatch):
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(inplace=True), nn.Dropout(), nn.Flatten(), nn.LazyLinear(3))
    images = torch.randn(21, 2, 10, 10, generator=torch.Generator().manual_seed(2))
    network(images)
    before, was_training = images.clone(), network.training
    answers = network.eval()(images).argmax(dim=1)
    network.train(was_training)
    together = answers_kept(network, images, answers, [1, 3])
    monkeypatch.setattr("vitreous.explanation.equivariance.BATCH_SIZE", 4)
    assert answers_kept(network, images, answers, [1, 3]) == together
    assert images.equal(before)
    assert network.training
    by_hand = []
    for distance in (1, 3):
        moved = [
            shifted(each[None], *(distance * way for way in DIRECTIONS[n % 8]), border="edge")
            for n, each in enumerate(images)
        ]
        by_hand.append(float((network.eval()(torch.cat(moved)).argmax(dim=1) == answers).double().mean()))
    assert [each.value for each in together] == pytest.approx(by_hand)
    assert min(by_hand) < 1


@pytest.mark.parametrize(("num_images", "distance"), [(0, 1), (2, 8), (2, 0)])
def test_images_that_cannot_be_moved_are_refused(num_images, distance):
    with pytest.raises(UserError, match="images"):
        answers_kept(Corner(), torch.zeros(num_images, 1, 8, 8), torch.zeros(num_images), [distance])

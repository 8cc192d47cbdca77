"""Skips: the article's block by hand, shares that add up, and the shorter way found in blocks of any form."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis.strategies import integers
from torch import nn

from vitreous.errors import UserError
from vitreous.explanation.residual import residual_shares
from vitreous.models import build_network
from vitreous.trace.values import record_values


class ArticleBlock(nn.Module):
    """Example 3 of the article: two layers of two units, without biases."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
        self.first.weight.data = torch.tensor([[0.2, 0.1], [-0.1, 0.3]])
        self.second.weight.data = torch.tensor([[0.3, -0.2], [0.1, 0.4]])

    def forward(self, x):
        return torch.relu(self.second(torch.relu(self.first(x))) + x)


class Calls(nn.Module):
    """Whatever a function makes of its modules and the image."""

    def __init__(self, function, **modules):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x):
        return self.function(self, x)


def shares(network, x, target=None):
    return residual_shares(record_values(network, x, with_gradients=target is not None), target)


def image(*shape, seed=0):
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed))


def conv(channels=2):
    return nn.Conv2d(channels, channels, 3, padding=1)


ARTICLE_INPUT = torch.tensor([[1.0, -0.5]])


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_the_articles_block():
    (share,) = shares(ArticleBlock(), ARTICLE_INPUT)
    assert (share.layer, share.source, share.skip.layer, share.branch.layer) == ("add", "input", "input", "second")
    assert (share.skip.num_operations, share.branch.num_operations) == (0, 4 - 1)
    assert share.skip.norm == pytest.approx(1.25**0.5)
    assert share.branch.norm == pytest.approx((0.045**2 + 0.015**2) ** 0.5)
    assert share.norm == pytest.approx((1.045**2 + 0.485**2) ** 0.5)
    squared = 1.045**2 + 0.485**2
    assert share.skip.projection == pytest.approx((1.045 + 0.5 * 0.485) / squared)
    assert share.branch.projection == pytest.approx((0.045 * 1.045 - 0.015 * 0.485) / squared)
    assert share.cosine == pytest.approx((0.045 - 0.0075) / (1.25 * (0.045**2 + 0.015**2)) ** 0.5, rel=1e-5)
    assert share.skip_share == pytest.approx(1.1180340 / (1.1180340 + 0.0474342), rel=1e-5)


def test_gradients_of_the_articles_block():
    (share,) = shares(ArticleBlock(), ARTICLE_INPUT, target=0)
    assert share.gradient_norm == pytest.approx(1.0)  # of the class's score towards the sum: (1, 0)
    assert share.skip.gradient_norm == pytest.approx(1.0)
    by_branch = 0.3 * torch.tensor([0.2, 0.1])  # back through the second layer, the one open ReLU, the first
    assert share.branch.gradient_norm == pytest.approx(float(by_branch.norm()))
    assert share.skip_gradient_share == pytest.approx(1 / (1 + float(by_branch.norm())))


@settings(max_examples=20)
@given(integers(0, 10_000), integers(1, 4))
def test_projections_add_up_to_1(seed, channels):
    torch.manual_seed(seed)
    network = Calls(lambda self, x: x + self.branch(x), branch=conv(channels))
    (share,) = shares(network, image(channels, 5, 5, seed=seed))
    assert share.skip.projection + share.branch.projection == pytest.approx(1)
    assert -1 <= share.cosine <= 1
    assert share.norm**2 == pytest.approx(
        share.skip.norm**2 + share.branch.norm**2 + 2 * share.cosine * share.skip.norm * share.branch.norm
    )


def test_alpha_scales_the_second():
    x = image(2, 4, 4)
    (share,) = shares(Calls(lambda self, x: torch.add(torch.tanh(x), x, alpha=3).flatten(1)), x, target=0)
    assert (share.skip.layer, share.skip.norm) == ("input", pytest.approx(3 * float(x.norm())))
    assert (share.gradient_norm, share.skip.gradient_norm) == (pytest.approx(1), pytest.approx(3))
    assert share.branch.gradient_norm == pytest.approx(1 - float(torch.tanh(x[0, 0, 0, 0])) ** 2)


def test_nothing_is_shared_where_nothing_comes():
    (share,) = shares(Calls(lambda self, x: x + torch.relu(x)), torch.zeros(1, 2, 3, 3))
    assert (share.skip_share, share.cosine, share.skip.projection, share.norm) == (None, None, None, 0.0)


# --- which is the skip ------------------------------------------------------------------------------------------------


def block_of_four(self, x):
    return self.d(self.c(self.b(self.a(x))))


@pytest.mark.parametrize(
    "function",
    [
        lambda self, x: x + block_of_four(self, x),
        lambda self, x: block_of_four(self, x) + x,
        lambda self, x: block_of_four(self, x).add_(x),
        lambda self, x: torch.add(x, other=block_of_four(self, x)),
        lambda self, x: sum([x, block_of_four(self, x)][::-1]),
    ],
)
def test_either_order_in_place_or_not(function):
    network = Calls(function, a=conv(), b=nn.ReLU(inplace=True), c=conv(), d=nn.BatchNorm2d(2))
    share = shares(network, image(2, 5, 5))[-1]
    assert (share.skip.layer, share.skip.num_operations, share.branch.num_operations) in {
        ("input", 0, 4),
        ("input", 0, 5),  # sum() begins with 0 + the first
    }
    assert not share.is_even


def test_an_in_place_sum_is_told_from_what_it_was_before():
    def function(self, x):
        made = self.a(x)
        made += x
        return made

    x = image(2, 5, 5)
    network = Calls(function, a=conv())
    (share,) = shares(network, x)
    with torch.no_grad():
        assert share.branch.norm == pytest.approx(float(network.a(x).norm()))
        assert share.norm == pytest.approx(float((network.a(x) + x).norm()))


@pytest.fixture(scope="module")
def resnet18():
    network = build_network("resnet18", num_classes=3, in_channels=1, image_size=(32, 32))
    return record_values(network, image(1, 32, 32), with_gradients=True)


def test_resnet18_has_eight_of_which_three_are_projected(resnet18):
    found = residual_shares(resnet18, 0)
    assert [each.layer for each in found] == [f"layer{n}.{m}:add" for n in (1, 2, 3, 4) for m in (0, 1)]
    assert [each.branch.layer for each in found] == [f"layer{n}.{m}.bn2" for n in (1, 2, 3, 4) for m in (0, 1)]
    assert [each.branch.num_operations for each in found] == [5] * 8
    projected = [each for each in found if each.skip.num_operations]
    assert [each.skip.layer for each in projected] == [f"layer{n}.0.downsample.1" for n in (2, 3, 4)]
    assert [each.skip.num_operations for each in projected] == [2] * 3
    assert all((each.skip.gradient_norm is None) == (each in projected) for each in found)
    assert all(each.skip.layer == each.source for each in found if each not in projected)


def test_the_gradient_by_the_skip_is_that_of_the_sum(resnet18):
    gradients = resnet18.gradients(resnet18.result[0, 1])
    for share in residual_shares(resnet18, 1):
        towards_sum = gradients[share.operation, 0]
        assert share.gradient_norm == pytest.approx(float(towards_sum.norm()), rel=1e-5)
        if share.skip.num_operations == 0:
            towards_source = gradients[share.skip.operation, 0]
            assert share.branch.gradient_norm == pytest.approx(float((towards_source - towards_sum).norm()), rel=1e-4)


def test_a_block_around_a_block():
    def function(self, x):
        inside = self.a(x)
        return self.b(x) + (inside + self.d(self.c(inside)))

    network = Calls(function, a=conv(), b=conv(), c=conv(), d=nn.ReLU())
    inner, outer = shares(network, image(2, 5, 5))
    assert (inner.skip.layer, inner.source, inner.branch.num_operations) == ("a", "a", 2)
    assert (outer.skip.layer, outer.source) == ("b", "input")  # though the other has a way of two, by the inner skip
    assert (outer.skip.num_operations, outer.branch.num_operations) == (1, 4)


def test_groups_of_the_pattern_language():
    network = build_network(
        "conv4 res[conv4bn conv4bn] res[conv4 conv8s2bn] gap fc", num_classes=2, in_channels=1, image_size=(8, 8)
    )
    found = shares(network, image(1, 8, 8))
    assert [each.layer for each in found] == ["res1:add", "res2:add"]
    assert [each.skip.num_operations == 0 for each in found] == [True, False]
    assert not any(each.is_even for each in found)


def test_two_ways_of_one_length_are_even():
    (share,) = shares(Calls(lambda self, x: self.a(x) + self.b(x), a=conv(), b=conv()), image(2, 5, 5))
    assert share.is_even
    assert (share.skip.layer, share.branch.layer) == ("a", "b")


def test_a_source_that_is_used_elsewhere_too_has_no_gradients_to_part():
    network = Calls(lambda self, x: torch.relu((x + torch.tanh(x)) * torch.sigmoid(x)).flatten(1))
    (share,) = shares(network, image(2, 3, 3), target=0)
    assert share.gradient_norm is not None
    assert (share.skip.gradient_norm, share.skip_gradient_share) == (None, None)


def test_a_source_that_is_cut_off_has_no_gradients_to_part():
    def forward(self, x):
        source = self.a(x).detach()
        return (source + (self.b(source) + self.c(x))).sum(dim=(2, 3))

    *_, share = shares(Calls(forward, a=conv(), b=conv(), c=conv()), image(2, 6, 6), target=0)
    assert share.skip.layer == "detach"
    assert (share.skip.gradient_norm, share.branch.gradient_norm) == (None, None)
    assert share.gradient_norm == pytest.approx(6)  # 36 places, 1 in each


def test_additions_of_what_does_not_come_of_the_image_are_left_out():
    def function(self, x):
        x = x + torch.ones(1, 2, 5, 5)  # a constant
        x = x + 1  # a number
        x = x + self.a.bias[:, None, None]  # another shape
        return x + x.mean((2, 3), keepdim=True)  # of the image, but of another shape

    assert shares(Calls(function, a=conv()), image(2, 5, 5)) == []


def test_networks_without_skips():
    network = build_network("lenet5", num_classes=2, in_channels=1, image_size=(32, 32))
    assert shares(network, image(1, 32, 32)) == []


def test_a_concatenation_is_no_addition():
    dense = Calls(lambda self, x: torch.cat([x, self.a(x)], dim=1), a=conv())
    assert shares(dense, image(2, 5, 5)) == []


# --- what is told -----------------------------------------------------------------------------------------------------


def test_json_is_plain():
    (share,) = shares(ArticleBlock(), ARTICLE_INPUT, target=0)
    told = json.loads(json.dumps(share.to_json()))
    assert (told["layer"], told["call"], told["source"]) == ("add", 0, {"layer": "input", "call": 0})
    assert told["skip"]["projection"] + told["branch"]["projection"] == pytest.approx(1)
    assert told["is_even"] is False


def test_gradients_that_were_not_recorded():
    with pytest.raises(UserError, match="with_gradients=True"):
        residual_shares(record_values(ArticleBlock(), ARTICLE_INPUT), 0)


def test_the_network_is_left_as_it_was():
    network = ArticleBlock().train()
    shares(network, ARTICLE_INPUT, target=0)
    assert network.training
    assert all(each.requires_grad and each.grad is None for each in network.parameters())

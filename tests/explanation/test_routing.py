"""Pools: what autograd sends back through them is what is told of them, and torch's own winners are the winners."""

import json

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import assume, given, settings
from hypothesis.strategies import booleans, integers, none, one_of
from torch import nn

from vitreous.errors import UserError
from vitreous.explanation.routing import routes
from vitreous.models import build_network
from vitreous.trace.values import record_values


class Weighed(nn.Module):
    """A pool, and then one class for each of three random weighings of what it gives."""

    def __init__(self, pool):
        super().__init__()
        self.pool = pool

    def forward(self, x):
        made = self.pool(x)
        weights = torch.randn(3, made.numel(), generator=torch.Generator().manual_seed(1))
        return F.linear(made.flatten(1), weights.to(made))


def image(*shape, seed=0):
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed))


def only_route(pool, x, target=0):
    values = record_values(Weighed(pool), x, with_gradients=True)
    (route,) = routes(values, target)
    gradients = values.gradients(values.result[0, target])
    assert torch.allclose(route.routed, gradients[0, 0][0], atol=1e-6)  # the pool is the image's only way on
    return route


# --- max --------------------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(
    kernel=integers(1, 4),
    stride=integers(1, 4),
    padding=integers(0, 2),
    dilation=integers(1, 2),
    ceil_mode=booleans(),
    is_module=booleans(),
    side=integers(5, 9),
)
def test_the_winners_are_those_of_torch_and_get_all(kernel, stride, padding, dilation, ceil_mode, is_module, side):
    assume(2 * padding <= kernel and side + 2 * padding >= dilation * (kernel - 1) + 1)
    chosen = {"stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil_mode}
    x = image(2, side, side + 1).mul(2).round()  # whole numbers: many are equal
    made, winners = F.max_pool2d(x, kernel, **chosen, return_indices=True)
    route = only_route(nn.MaxPool2d(kernel, **chosen) if is_module else lambda x: F.max_pool2d(x, kernel, **chosen), x)
    assert torch.equal(route.winners, winners[0])
    assert route.divisors is None
    assert int(route.wins.sum()) == made.numel()
    assert torch.allclose(route.routed.sum(), route.arrived.sum(), atol=1e-4)
    assert not route.routed[route.wins == 0].any()


def test_of_equals_the_first_wins():
    route = only_route(nn.MaxPool2d(2), torch.ones(1, 1, 4, 4))
    assert route.winners.tolist() == [[[0, 2], [8, 10]]]
    assert route.wins.tolist() == [[[1, 0, 1, 0], [0] * 4, [1, 0, 1, 0], [0] * 4]]
    assert route.share_without_wins == route.share_without_gradient == 0.75


def test_the_largest_of_overlapping_windows_gets_the_sum():
    x = torch.zeros(1, 1, 5, 5)
    x[..., 2, 2] = 1.0
    route = only_route(nn.MaxPool2d(3, stride=1), x)
    assert (route.wins[0, 2, 2], route.winners.unique().tolist()) == (9, [12])
    assert torch.allclose(route.routed[0, 2, 2], route.arrived.sum())
    assert route.strongest == {"layer": "input", "call": 0, "at": [0, 2, 2]}


def test_padding_never_wins():
    route = only_route(nn.MaxPool2d(3, stride=2, padding=1), -torch.ones(1, 1, 4, 4))
    assert route.winners.tolist() == [[[0, 1], [4, 5]]]


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (None, 4)])
def test_adaptive_maxima_are_routed_too(size):
    x = image(2, 7, 8)
    route = only_route(nn.AdaptiveMaxPool2d(size), x)
    assert torch.equal(route.winners, F.adaptive_max_pool2d(x, size, return_indices=True)[1][0])


def test_a_pool_that_gives_its_indices_is_routed_too():
    x = image(2, 6, 6)
    route = only_route(lambda x: F.max_pool2d(x, 3, 2, return_indices=True)[0], x)
    assert torch.equal(route.winners, F.max_pool2d(x, 3, 2, return_indices=True)[1][0])


def test_one_axis_is_enough():
    route = only_route(nn.MaxPool1d(2), torch.tensor([[[0.0, 1.0, 3.0, 2.0]]]))
    assert (route.winners.tolist(), route.wins.tolist()) == ([[1, 2]], [[0, 1, 1, 0]])
    assert only_route(nn.AvgPool1d(3, 2, 1, count_include_pad=False), image(1, 4)).divisors.tolist() == [2, 3]


def test_maps_sum_over_the_channels():
    route = only_route(nn.MaxPool2d(3, 2), image(3, 7, 7))
    assert torch.equal(route.win_map, route.wins.sum(dim=0))
    assert torch.equal(route.gradient_map, route.routed.abs().sum(dim=0))
    assert route.win_map.shape == (7, 7)


# --- averages ---------------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(
    kernel=integers(1, 4),
    stride=integers(1, 4),
    padding=integers(0, 2),
    ceil_mode=booleans(),
    count_include_pad=booleans(),
    divisor_override=one_of(none(), integers(1, 7)),
    side=integers(5, 9),
)
def test_divisors_are_what_the_sum_is_divided_by(kernel, stride, padding, ceil_mode, side, **others):
    assume(2 * padding <= kernel)
    chosen = {"stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    x = image(1, side, side + 1)
    sums = F.avg_pool2d(x, kernel, **chosen, divisor_override=1)[0, 0]
    means = F.avg_pool2d(x, kernel, **chosen, **others)[0, 0]
    route = only_route(nn.AvgPool2d(kernel, **chosen, **others), x)
    assert torch.allclose(sums / route.divisors, means, atol=1e-5)
    if others["divisor_override"] is not None:
        assert set(route.divisors.flatten().tolist()) == {others["divisor_override"]}
    if padding == 0 and not ceil_mode and others["divisor_override"] is None:
        assert torch.allclose(route.routed.sum(), route.arrived.sum(), atol=1e-4)
        assert int(route.wins.sum()) == means.numel() * kernel**2


def test_divisors_at_the_border():
    def divisors(**chosen):
        return only_route(nn.AvgPool2d(3, 1, 1, **chosen), image(1, 3, 3)).divisors.tolist()

    assert divisors() == [[9] * 3] * 3
    assert divisors(count_include_pad=False) == [[4, 6, 4], [6, 9, 6], [4, 6, 4]]
    assert divisors(divisor_override=5) == [[5] * 3] * 3
    hanging = only_route(nn.AvgPool2d(2, ceil_mode=True), image(1, 3, 3)).divisors  # over the end, not into padding
    assert hanging.tolist() == [[4, 2], [2, 1]]


@settings(max_examples=15)
@given(integers(1, 9), integers(1, 9))
def test_adaptive_windows_overlap_where_sizes_do_not_divide(side, units):
    x = image(2, side, side)
    route = only_route(nn.AdaptiveAvgPool2d((units, 1)), x)
    reads = torch.autograd.functional.jacobian(lambda x: F.adaptive_avg_pool1d(x, units), torch.ones(1, 1, side)) > 0
    assert route.divisors.flatten().tolist() == (reads.flatten(3).sum(dim=-1).flatten() * side).tolist()
    assert torch.allclose(route.routed.sum(), route.arrived.sum(), atol=1e-4)


@pytest.mark.parametrize(
    ("mean", "divisor"),
    [
        (lambda x: x.mean((2, 3)), 20),
        (lambda x: x.mean(dim=[-2, -1], keepdim=True), 20),
        (lambda x: torch.mean(x, axis=(3, 2)), 20),
        (lambda x: x.mean(3), 5),
    ],
)
def test_means_over_space_are_averages(mean, divisor):
    route = only_route(mean, image(3, 4, 5))
    assert route.divisors.unique().tolist() == [divisor]
    assert bool((route.wins == 1).all())


@pytest.mark.parametrize("mean", [lambda x: x.mean(1), lambda x: x.mean((1, 2, 3), keepdim=True), torch.mean])
def test_means_over_channels_are_no_pools(mean):
    values = record_values(Weighed(lambda x: mean(x).reshape(1, -1)), image(3, 4, 5), with_gradients=True)
    assert routes(values, 0) == []


# --- networks ---------------------------------------------------------------------------------------------------------


def test_the_pools_of_a_network_in_running_order():
    network = build_network("resnet18", num_classes=3, in_channels=1, image_size=(32, 32))
    values = record_values(network, image(1, 32, 32), with_gradients=True)
    first, last = routes(values, 2)
    assert (first.kind, first.layer, last.kind) == ("max", "maxpool", "average")
    gradients = values.gradients(values.result[0, 2])
    torch.testing.assert_close(first.arrived, gradients[first.operation, 0][0])  # a second backward pass rounds anew
    assert torch.allclose(first.routed.sum(), first.arrived.sum(), rtol=1e-3, atol=1e-6)
    strongest = first.strongest
    assert strongest["layer"] == first.source == "relu"
    assert first.routed[tuple(strongest["at"])].abs() == first.routed.abs().max()


def test_a_pool_used_twice_is_told_apart_by_its_call():
    pool = nn.MaxPool2d(2)
    values = record_values(Weighed(lambda x: pool(pool(x))), image(1, 8, 8), with_gradients=True)
    assert [each.source for each in routes(values, 0)] == ["input", "max_pool2d"]

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = pool

        def forward(self, x):
            return self.pool(self.pool(x)).flatten(1)

    first, second = routes(record_values(Twice(), image(1, 8, 8), with_gradients=True), 0)
    assert (first.layer, first.call, second.call) == ("pool", 0, 1)
    assert (second.strongest["layer"], second.strongest["call"]) == ("pool", 0)
    assert (first.gradient_map > 0).sum() == 1  # one class, one of the four that are left


def test_no_gradient_no_strongest_unit():
    values = record_values(Weighed(lambda x: F.max_pool2d(x, 2) * 0), image(1, 4, 4), with_gradients=True)
    (route,) = routes(values, 0)
    assert (route.strongest, route.share_without_gradient) == (None, 1.0)


def test_json_is_plain_and_brief():
    maximum = only_route(nn.MaxPool2d(2), torch.ones(1, 1, 4, 4)).to_json()
    assert maximum.pop("strongest")["layer"] == "input"
    assert json.loads(json.dumps(maximum)) == {
        "layer": "pool",
        "call": 0,
        "kind": "max",
        "input": [1, 4, 4],
        "output": [1, 2, 2],
        "num_units": 16,
        "share_without_wins": 0.75,
        "share_without_gradient": 0.75,
    }
    average = only_route(nn.AvgPool2d(2, ceil_mode=True), image(1, 3, 3)).to_json()
    assert average["divisor"] == {"smallest": 1, "largest": 4}


@pytest.mark.parametrize("target", [-1, 3])
def test_a_class_that_is_not_there(target):
    values = record_values(Weighed(nn.MaxPool2d(2)), image(1, 4, 4), with_gradients=True)
    with pytest.raises(UserError, match=f"no class {target}; the network has 3"):
        routes(values, target)


def test_values_without_gradients():
    with pytest.raises(UserError, match="with_gradients=True"):
        routes(record_values(Weighed(nn.MaxPool2d(2)), image(1, 4, 4)), 0)


def test_a_batch_has_no_class_score():
    values = record_values(nn.Sequential(nn.MaxPool2d(4), nn.Flatten()), torch.ones(2, 3, 4, 4), with_gradients=True)
    with pytest.raises(UserError, match=r"\(1, classes\)"):
        routes(values, 0)


def test_the_network_is_left_as_it_was():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Flatten()).train()
    network[0].weight.requires_grad_(False)
    routes(record_values(network, image(1, 6, 6), with_gradients=True), 0)
    assert network.training
    assert [each.requires_grad for each in network.parameters()] == [False, True]
    assert all(each.grad is None for each in network.parameters())

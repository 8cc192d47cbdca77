"""Effective fields: the paper's formula for uniform kernels, known weights, and no influence outside of the box."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis.strategies import integers
from torch import nn

from vitreous.errors import UserError
from vitreous.explanation.influence import influence
from vitreous.models import build_network


def uniform(depth, kernel, padding=0):
    layers = [nn.Conv2d(1, 1, kernel, padding=padding, bias=False) for _ in range(depth)]
    for layer in layers:
        nn.init.constant_(layer.weight, 1 / kernel**2)
    return nn.Sequential(*layers)


def images(count, channels, side, seed=0):
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=12)
@given(integers(1, 6), integers(1, 5))
def test_uniform_kernels_have_the_width_of_the_paper(depth, kernel):
    side = depth * (kernel - 1) + 3
    found = influence(uniform(depth, kernel), images(2, 1, side))
    expected = (depth * (kernel**2 - 1) / 12) ** 0.5
    assert found.sigma == pytest.approx((expected, expected), rel=1e-5, abs=1e-9)
    size = depth * (kernel - 1) + 1  # grows with the depth, sigma with its root
    assert [len(pixels) for pixels in found.box] == [size, size]
    assert float(found.influence_HW.sum()) == pytest.approx(1)


def test_two_taps_give_binomial_coefficients():
    found = influence(uniform(4, 2), images(1, 1, 7))
    row = found.influence_HW.sum(dim=0)[found.box[1].start : found.box[1].stop]
    assert (row * 16).tolist() == pytest.approx([1, 4, 6, 4, 1])


def test_known_weights():
    network = nn.Conv2d(2, 2, 3, padding=1, stride=2)
    found = influence(network, images(3, 2, 6))
    weights = network.weight.detach().double().sum(dim=0).abs().mean(dim=0)  # the sum over the unit's channels
    rows, columns = found.box
    assert (found.unit, found.box) == ((1, 1), (range(1, 4), range(1, 4)))
    inside = found.influence_HW[rows.start : rows.stop, columns.start : columns.stop]
    assert torch.allclose(inside, weights, atol=1e-6)
    assert float(found.influence_HW.sum()) == pytest.approx(float(inside.sum()))


def test_the_centre_of_mass_is_where_the_weights_are():
    network = nn.Conv2d(1, 1, 3, bias=False)
    network.weight.data = torch.tensor([[0.0, 0, 0], [0, 0, 3], [0, 0, 1]])[None, None]
    found = influence(network, images(1, 1, 5))
    assert found.box == (range(1, 4), range(1, 4))
    assert found.centre == pytest.approx((2.25, 3))  # a quarter of the way from row 2 to row 3
    assert found.to_json()["centre"] == pytest.approx([2.25, 3])


def test_the_share_that_holds_95_percent():
    network = nn.Conv2d(1, 1, 3, bias=False)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0, 1.0, 0], [1, 96, 1], [0, 1, 0]]) / 100)
    assert influence(network, images(1, 1, 3)).share_of_box == pytest.approx(1 / 9)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[1.0, 1, 1], [1, 1, 1], [1, 1, 1]]))
    assert influence(network, images(1, 1, 3)).share_of_box == pytest.approx(1)


def test_axes_are_told_apart():
    found = influence(nn.Conv2d(1, 1, (1, 5), bias=False), images(1, 1, 9))
    assert found.sigma[0] == 0 < found.sigma[1]
    assert [len(pixels) for pixels in found.box] == [1, 5]


@pytest.mark.parametrize("name", ["lenet5", "resnet18", "mobilenet_v2"])
def test_nothing_outside_of_the_box_has_influence(name):
    network = build_network(name, num_classes=3, in_channels=1, image_size=(32, 32))
    for operation in (3, 8):
        found = influence(network, images(1, 1, 32), operation)
        outside = found.influence_HW.clone()
        outside[found.box[0].start : found.box[0].stop, found.box[1].start : found.box[1].stop] = 0
        assert not outside.any()
        assert 0 < found.share_of_box <= 1


def test_a_layer_by_name_and_a_block_by_its_path():
    network = build_network("resnet18", num_classes=3, in_channels=1, image_size=(64, 64))
    first = influence(network, images(1, 1, 64), "conv1")
    assert (first.layer, [len(pixels) for pixels in first.box]) == ("conv1", [7, 7])
    block = influence(network, images(1, 1, 64), "layer1")
    assert (block.layer, [len(pixels) for pixels in block.box]) == ("layer1.1.relu2", [43, 43])
    assert block.to_json() == influence(network, images(1, 1, 64), block.operation).to_json()


def test_boxes_end_with_the_image():
    found = influence(uniform(4, 3, padding=1), images(1, 1, 5))
    assert found.box == (range(5), range(5))


def test_channels_may_be_last():
    class Last(nn.Module):
        def forward(self, x):
            return x.permute(0, 2, 3, 1)

    convolution = nn.Conv2d(1, 3, 3, padding=1)
    last = influence(nn.Sequential(convolution, Last()), images(1, 1, 9))
    assert (last.unit, last.box) == ((4, 4), (range(3, 6), range(3, 6)))
    assert torch.equal(last.influence_HW, influence(convolution, images(1, 1, 9)).influence_HW)


@pytest.mark.parametrize("is_last", [False, True])
def test_behind_a_gate_that_looks_at_everything_the_box_is_the_image(is_last):
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 24, 3, padding=1, stride=2)

        def forward(self, x):
            x = self.conv(x)
            x = x * x.mean((2, 3), keepdim=True).sigmoid()
            return x.permute(0, 2, 3, 1) if is_last else x

    found = influence(Gated(), images(1, 1, 16))
    assert found.layer == ("permute" if is_last else "mul")
    assert (found.unit, found.box) == ((4, 4), (range(16), range(16)))
    assert bool((found.influence_HW > 0).all())
    direct = found.influence_HW[7:10, 7:10]
    assert float(found.influence_HW.max()) == float(direct.max())


def test_a_signal_has_one_axis():
    network = nn.Conv1d(1, 1, 3, bias=False)
    nn.init.ones_(network.weight)
    found = influence(network, torch.zeros(1, 1, 7))
    assert (found.box, found.sigma) == ((range(2, 5),), pytest.approx(((2 / 3) ** 0.5,)))


def test_an_in_place_layer_behind_the_map_changes_nothing():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True))
    alone = influence(network[0], images(2, 1, 7))
    assert torch.equal(influence(network, images(2, 1, 7), 1).influence_HW, alone.influence_HW)


def test_a_dead_unit_has_no_influence():
    network = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU())
    nn.init.constant_(network[0].bias, -1000)
    found = influence(network, images(1, 1, 5))
    assert (found.sigma, found.share_of_box, float(found.influence_HW.sum())) == (None, None, 0)
    assert influence(nn.Sequential(nn.Conv2d(1, 1, 3), Detached()), images(1, 1, 5)).sigma is None


class Detached(nn.Module):
    def forward(self, x):
        return x.detach()


def test_images_are_averaged():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 1, 3))
    both = images(2, 1, 7)
    apart = [influence(network, each[None]).influence_HW for each in both]
    assert torch.allclose(influence(network, both).influence_HW, (apart[0] + apart[1]) / 2)


def test_json_is_plain():
    told = json.loads(json.dumps(influence(uniform(2, 3), images(1, 1, 9)).to_json()))
    assert (told["layer"], told["unit"], told["box"]) == ("1", [2, 2], [[2, 7], [2, 7]])
    assert told["sigma"] == pytest.approx([(4 / 3) ** 0.5] * 2, rel=1e-5)


def test_the_network_is_left_as_it_was():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout()).train()
    network[0].weight.requires_grad_(False)
    network[0].bias.grad = torch.ones(2)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    x, before = images(2, 1, 7), torch.get_rng_state()
    with torch.no_grad():  # whatever the caller has set
        influence(network, x)
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    assert all(module.training and not module._forward_hooks for module in network.modules())
    assert [each.requires_grad for each in network.parameters()] == [False, True, True, True]
    assert network[0].bias.grad.tolist() == [1, 1]
    assert x.grad is None
    assert torch.equal(torch.get_rng_state(), before)


# --- what cannot be asked ---------------------------------------------------------------------------------------------


def test_no_images():
    with pytest.raises(UserError, match="at least one"):
        influence(uniform(1, 3), images(0, 1, 7))


@pytest.mark.parametrize("operation", ["conv9", 99, -1])
def test_an_operation_that_is_not_there(operation):
    with pytest.raises(UserError, match=f"no operation {operation!r}; there is 0, 1"):
        influence(uniform(2, 3), images(1, 1, 7), operation)


def test_a_layer_without_places():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(50, 3))
    with pytest.raises(UserError, match=r"units of 2 .* no places on the image"):
        influence(network, images(1, 1, 7), "2")


def test_a_network_without_maps():
    with pytest.raises(UserError, match="no layer whose units have places"):
        influence(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), images(1, 1, 2), None)

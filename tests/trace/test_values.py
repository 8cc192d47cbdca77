"""A recorded forward on real numbers: every value as it was, and its gradient."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from vitreous.errors import ShapeError
from vitreous.trace.values import record_values


class Residual(nn.Module):
    """In-place everything: a copy made at the wrong moment would hold what came later."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.relu(self.norm(self.conv(x)))
        y = self.conv(y)
        y += x
        return self.relu(y).mean(dim=(2, 3))


def test_values_are_those_before_an_in_place_layer_came():
    torch.manual_seed(0)
    network, image = Residual().eval(), torch.randn(1, 2, 5, 5)
    values = record_values(network, image)
    names = values.recording.names
    first = functional.conv2d(image, network.conv.weight, network.conv.bias, padding=1)
    normed = network.norm(first)
    second = network.conv(normed.relu())
    wanted = [image, first, normed, normed.relu(), second, second + image, (second + image).relu()]
    for name, (value,), right in zip(names, values.outputs, wanted, strict=False):
        assert torch.equal(value, right), name
    assert torch.equal(values.result, network(image.clone()))
    assert names == ("input", "conv", "norm", "relu", "conv", "add", "relu", "mean")
    assert [operation.call for operation in values.recording.operations] == [0, 0, 0, 0, 1, 0, 1, 0]


def test_what_an_operation_was_given_is_found_by_its_reference():
    network, image = Residual(), torch.randn(1, 2, 5, 5)
    values = record_values(network, image)
    convolution = values.recording.operations[1]
    assert torch.equal(values.of(convolution.args[0]), image)
    assert torch.equal(values.of(convolution.args[1]), network.conv.weight)
    assert values.recording.constants[convolution.args[1].constant] == "conv.weight"


def test_gradients_are_those_of_each_value_as_it_was():
    torch.manual_seed(0)
    network, image = Residual().eval(), torch.randn(1, 2, 5, 5, requires_grad=True)
    values = record_values(network, image, with_gradients=True)
    gradients = values.gradients(values.result[0, 1])
    first = network.conv(image)
    normed = network.norm(first)
    activated = normed.relu()
    second = network.conv(activated)
    joined = second + image
    score = joined.relu().mean(dim=(2, 3))[0, 1]
    wanted = torch.autograd.grad(score, [image, first, normed, activated, second, joined])
    for number, right in enumerate(wanted):
        torch.testing.assert_close(gradients[number, 0], right)
    assert gradients.keys() == values.gradients(values.result[0, 0]).keys()  # asked twice
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_network_is_left_as_it_was():
    network = Residual().train()
    network.conv.weight.requires_grad_(False)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    before = [(dict(module.__dict__), module.training) for module in network.modules()]
    image = torch.randn(1, 2, 5, 5)
    given = image.clone()
    values = record_values(network, image, with_gradients=True)
    values.gradients(values.result.sum())
    with pytest.raises(ShapeError, match="conv2d of 1x3x5x5"):
        record_values(network, torch.zeros(1, 3, 5, 5))
    assert [(dict(module.__dict__), module.training) for module in network.modules()] == before
    assert all(tensor.equal(state[name]) for name, tensor in network.state_dict().items())
    assert torch.equal(image, given)
    assert not image.requires_grad

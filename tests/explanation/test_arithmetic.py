"""The sum behind a number, beside what torch computed, for every kind of operation."""

import itertools
import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import nn
from torch.nn import functional

from vitreous.errors import UserError
from vitreous.explanation.arithmetic import NotFollowed, explain_number
from vitreous.models import build_network
from vitreous.trace.values import record_values


class Calls(nn.Module):
    """A function as a network; tensors that it needs are parameters."""

    def __init__(self, function, **tensors):
        super().__init__()
        self.function = function
        for name, tensor in tensors.items():
            setattr(self, name, nn.Parameter(tensor))

    def forward(self, x):
        return self.function(self, x)


def require_all_numbers_hold(network, image, most=40):
    """Every number of every operation, or as many as that, is the sum of its operands, and torch computed it."""
    values = record_values(network, image)
    tolerance = {torch.float64: 1e-13, torch.float32: 1e-5}[image.dtype]
    chooser = random.Random(0)
    for number, operation in enumerate(values.recording.operations):
        shape = operation.outputs[0]
        limits = shape[1:] if shape[0] == 1 and len(shape) > 1 else shape
        places = list(itertools.islice(itertools.product(*map(range, limits)), 200_000))
        for at in chooser.sample(places, min(most, len(places))):
            found = explain_number(values, values.recording.names[number], at, operation.call)
            assert found.value == float(values.outputs[number][0][(0, *at) if len(limits) < len(shape) else at])
            scale = abs(found.bias) + sum(abs(term.product) for term in found.terms)
            assert abs(found.difference) <= tolerance * max(scale, abs(found.total), 1e-30), (found.address, found)
            assert found.holds
            for term in found.terms:
                require_it_stands_there(values, term)
    return values


def require_it_stands_there(values, term):
    if term.padding:
        assert term.activation == 0
        return
    at = term.source.at
    if term.source.is_parameter:
        return
    number = values.recording.find(term.source.layer, term.source.call)
    tensor = values.outputs[number][0]
    assert float(tensor[(0, *at) if len(at) < tensor.dim() else at]) == term.activation


def test_every_number_of_a_convolution_holds_to_the_last_tap():
    torch.manual_seed(0)
    network = nn.Conv2d(2, 3, 3, stride=2, padding=1)
    image = torch.randn(1, 2, 5, 5)
    values = require_all_numbers_hold(network, image)
    corner = explain_number(values, "conv2d", (1, 0, 0))
    assert corner.num_terms == 18
    assert sum(term.padding for term in corner.terms) == 10  # 5 of 9 taps in each of two channels
    assert corner.bias == float(network.bias[1].detach())
    first = corner.terms[4]  # the middle tap of the first channel
    assert (first.source.layer, first.source.at) == ("input", (0, 0, 0))
    assert (first.weight, first.activation) == (float(network.weight[1, 0, 1, 1].detach()), float(image[0, 0, 0, 0]))
    assert [channel.num_terms for channel in corner.channels] == [9, 9]
    assert sum(channel.total for channel in corner.channels) + corner.bias == pytest.approx(corner.total)
    sizes = [abs(term.product) for term in corner.largest(5)]
    assert sizes == sorted((abs(term.product) for term in corner.terms), reverse=True)[:5]


@settings(max_examples=40, deadline=None)
@given(data=some.data())
def test_convolutions_of_every_kind(data):
    groups = data.draw(some.sampled_from((1, 2)))
    kernel = data.draw(some.tuples(some.integers(1, 4), some.integers(1, 4)))
    stride = data.draw(some.tuples(some.integers(1, 3), some.integers(1, 3)))
    dilation = data.draw(some.tuples(some.integers(1, 2), some.integers(1, 2)))
    mode = data.draw(some.sampled_from(("zeros", "reflect", "replicate", "circular")))
    padding = data.draw(some.tuples(some.integers(0, 2), some.integers(0, 2)))
    if stride == (1, 1) and data.draw(some.booleans()):
        padding = data.draw(some.sampled_from(("same", "valid")))
    dtype = data.draw(some.sampled_from((torch.float32, torch.float64)))
    torch.manual_seed(data.draw(some.integers(0, 9)))
    network = nn.Conv2d(
        *(4, 4, kernel),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        padding_mode=mode,
        bias=data.draw(some.booleans()),
        dtype=dtype,
    )
    require_all_numbers_hold(network, torch.randn(1, 4, 9, 8, dtype=dtype), most=6)


@settings(max_examples=30, deadline=None)
@given(data=some.data())
def test_transposed_convolutions_of_every_kind(data):
    stride = data.draw(some.integers(1, 3))
    network = nn.ConvTranspose2d(
        *(4, 6, data.draw(some.integers(1, 4))),
        stride=stride,
        padding=data.draw(some.integers(0, 1)),
        output_padding=data.draw(some.integers(0, stride - 1)),
        groups=data.draw(some.sampled_from((1, 2))),
        dtype=torch.float64,
    )
    require_all_numbers_hold(network, torch.randn(1, 4, 4, 5, dtype=torch.float64), most=8)


@settings(max_examples=40, deadline=None)
@given(data=some.data())
def test_pools_of_every_kind(data):
    kernel, stride = data.draw(some.integers(1, 4)), data.draw(some.integers(1, 3))
    padding = data.draw(some.integers(0, kernel // 2))
    ceil_mode = data.draw(some.booleans())
    pools = [
        nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil_mode),
        nn.MaxPool2d(2, stride, 0, dilation=2, ceil_mode=ceil_mode),
        nn.AvgPool2d(kernel, stride, padding, ceil_mode, count_include_pad=data.draw(some.booleans())),
        nn.AvgPool2d(kernel, stride, padding, ceil_mode, divisor_override=data.draw(some.integers(1, 5))),
        nn.AdaptiveAvgPool2d(data.draw(some.integers(1, 7))),
        nn.AdaptiveMaxPool2d(data.draw(some.integers(1, 7))),
    ]
    network = nn.Sequential(data.draw(some.sampled_from(pools)))
    require_all_numbers_hold(network, torch.randn(1, 2, 7, 9, dtype=torch.float64), most=10)


def test_the_first_of_equal_numbers_wins_as_in_torch():
    image = torch.tensor([[[[2.0, 7.0], [7.0, 7.0]]]], requires_grad=True)
    found = explain_number(record_values(nn.MaxPool2d(2), image), "max_pool2d", (0, 0, 0))
    winner = next(term for term in found.terms if term.weight == 1)
    functional.max_pool2d(image, 2).sum().backward()
    assert float(image.grad[0][winner.source.at]) == 1
    assert "first of 3" in found.how
    assert [term.weight for term in found.terms] == [0, 1, 0, 0]


FUNCTIONS = {
    "activations": lambda self, x: functional.gelu(functional.silu(x)) + functional.hardswish(x).sigmoid(),
    "clipped": lambda self, x: functional.relu6(x).clamp(min=0.1) + functional.leaky_relu(x, 0.2),
    "arithmetic": lambda self, x: (2 - x) * 3 + x / 4 - (x - 1) + torch.sub(x, x, alpha=2),
    "broadcast": lambda self, x: x * self.gamma + self.beta,
    "gate": lambda self, x: x * x.mean((2, 3), keepdim=True).sigmoid(),
    "in place": lambda self, x: (x.clone().relu_().add_(1)).mul_(self.gamma),
    "norm": lambda self, x: functional.layer_norm(x, (6, 6)) + functional.group_norm(x, 2),
    "softmax": lambda self, x: x.flatten(2).softmax(-1) + x.flatten(2).log_softmax(1),
    "moves": lambda self, x: torch.cat([x.flip(3), x.roll(1, 2)], 1)[:, 1:5, ::2].permute(0, 2, 3, 1).reshape(1, -1),
    "parts": lambda self, x: x.chunk(2, 1)[0] + x.split(2, 1)[0] + x.transpose(2, 3)[:, :2],
    "pads": lambda self, x: functional.pad(functional.pad(x, (1, 2, 0, 1), value=0.5), (1, 1, 1, 1), mode="reflect"),
    "shuffles": lambda self, x: functional.pixel_unshuffle(functional.pixel_shuffle(x, 2), 2),
    "attention": lambda self, x: (x.flatten(2).transpose(1, 2) @ x.flatten(2)).softmax(-1) @ x.flatten(2).mT,
    "reductions": lambda self, x: x.mean((2, 3)) + x.sum(-1).amax(-1),
    "enlarged": lambda self, x: functional.interpolate(x, scale_factor=2, mode="bilinear"),
    "stacked": lambda self, x: torch.stack([x, x * 2], 1).flatten(1, 2),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_that_belong_to_no_module(name):
    torch.manual_seed(1)
    gamma, beta = torch.randn(1, 4, 1, 1).double(), torch.randn(4, 1, 1).double()
    network = Calls(FUNCTIONS[name], gamma=gamma, beta=beta)
    require_all_numbers_hold(network, torch.randn(1, 4, 6, 6, dtype=torch.float64), most=12)


def test_batch_norm_and_dense_layers():
    torch.manual_seed(2)
    network = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4), nn.Dropout(), nn.Flatten(), nn.Linear(64, 5), nn.Softmax(1)
    )
    nn.init.normal_(network[1].running_mean)
    nn.init.uniform_(network[1].running_var, 0.5, 2)
    require_all_numbers_hold(network.double(), torch.randn(1, 2, 6, 6, dtype=torch.float64))
    require_all_numbers_hold(network.float(), torch.randn(1, 2, 6, 6))


def test_one_and_three_axes():
    one = nn.Sequential(nn.Conv1d(2, 3, 3, padding=1), nn.MaxPool1d(2), nn.AvgPool1d(2))
    require_all_numbers_hold(one.double(), torch.randn(1, 2, 9, dtype=torch.float64))
    three = nn.Sequential(nn.Conv3d(1, 2, 3), nn.AdaptiveAvgPool3d(2))
    require_all_numbers_hold(three.double(), torch.randn(1, 1, 5, 6, 5, dtype=torch.float64))


@pytest.mark.parametrize("model", ["resnet18", "mobilenet_v2", "lenet5-1998"])
def test_any_number_of_a_whole_network(model, with_moving_statistics):
    shape = (1, 32, 32) if model.startswith("lenet") else (3, 64, 64)
    network = build_network(model, num_classes=10, in_channels=shape[0], image_size=shape[1:])
    require_all_numbers_hold(with_moving_statistics(network), torch.randn(1, *shape), most=1)


@pytest.fixture
def with_moving_statistics():
    def change(network):
        torch.manual_seed(3)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, std=0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
        return network

    return change


def test_from_a_logit_one_descends_to_pixels():
    torch.manual_seed(4)
    network = build_network("resnet18", num_classes=3, in_channels=3, image_size=(64, 64))
    values = record_values(network, torch.randn(1, 3, 64, 64))
    found, way = explain_number(values, "fc", (2,)), []
    while found.op != "input":
        way.append(found.op)
        best = found.largest(1)[0]
        found = explain_number(values, best.source.layer, best.source.at, best.source.call)
    assert way[0] == "linear"
    assert len(way) > 20
    assert found.value == float(values.outputs[0][0][(0, *found.address.at)])
    assert found.terms == ()


def test_bf16_is_recomputed_from_its_own_operands():
    torch.manual_seed(5)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 4)).bfloat16()
    values = record_values(network, torch.randn(1, 3, 6, 6).bfloat16())
    for layer, at in (("0", (3, 1, 2)), ("3", (1,))):
        found = explain_number(values, layer, at)
        assert found.dtype == "bfloat16"
        assert 0 < abs(found.difference) <= found.bound
        assert all(
            math.isclose(term.activation, float(torch.tensor(term.activation).bfloat16())) for term in found.terms
        )


def test_the_document_has_the_keys_that_others_rely_on():
    values = record_values(nn.Sequential(nn.Conv2d(1, 1, 3, padding=1)), torch.ones(1, 1, 4, 4))
    document = explain_number(values, "0", (0, 0, 0)).to_json()
    assert {"layer", "call", "at", "op", "value", "bias", "terms", "sum", "difference"} <= document.keys()
    assert document["terms"][0].keys() == {"source", "padding", "weight", "activation", "product"}
    assert document["terms"][0]["source"] == {"layer": "input", "call": 0, "at": [0, -1, -1]}
    assert document["terms"][0]["padding"] is True
    assert document["sum"] == pytest.approx(document["bias"] + sum(term["product"] for term in document["terms"]))


@pytest.mark.parametrize(
    ("layer", "at", "call", "said"),
    [
        ("conv2", (0, 0, 0), 0, "there is conv"),
        ("conv", (0, 0), 0, "3 coordinates: --at 1,2,2"),
        ("conv", (0, 0, 5), 0, "2 x 5 x 5, counted from 0"),
        ("conv", (-1, 0, 0), 0, "outside"),
        ("conv", (0, 0, 0), 2, "ran 2 times"),
    ],
)
def test_wrong_addresses_say_what_there_is(layer, at, call, said):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, x):
            return self.conv(self.conv(x))

    with pytest.raises(UserError, match=said):
        explain_number(record_values(Twice(), torch.zeros(1, 2, 5, 5)), layer, at, call)


def test_what_is_not_known_is_refused_and_says_where_to_go_on():
    network = Calls(lambda self, x: functional.relu(x).cumsum(2))
    values = record_values(network, torch.ones(1, 1, 3, 3))
    with pytest.raises(NotFollowed, match=r"cumsum.*Go on at what it read: relu"):
        explain_number(values, "cumsum", (0, 0, 0))
    training = Calls(lambda self, x: functional.batch_norm(x, None, None, training=True))
    with pytest.raises(NotFollowed, match="statistics of its batch"):
        explain_number(record_values(training, torch.ones(1, 1, 3, 3)), "batch_norm", (0, 0, 0))

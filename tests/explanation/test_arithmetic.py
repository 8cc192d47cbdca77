"""The sum behind a number, beside what torch computed, for every kind of operation."""

import itertools
import json
import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import nn
from torch.nn import functional

from vitreous.errors import UserError
from vitreous.explanation.arithmetic import NotFollowed, address_text, explain_number, find_output
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
        limits = without_the_batch(shape)
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


def without_the_batch(shape):
    return shape[1:] if len(shape) > 1 and shape[0] == 1 else shape


def require_it_stands_there(values, term):
    if term.padding:
        assert term.activation == 0
        return
    at = term.source.at
    if term.source.is_parameter:
        return
    tensor = values.of(find_output(values, term.source.layer, term.source.call))
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


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # torch speaks of memory
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
        dilation=data.draw(some.integers(1, 2)),
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
    "parts": lambda self, x: x.chunk(2, 1)[1] + x.split([1, 2, 1], 1)[1] + x.transpose(2, 3)[:, :2] + x.unbind(1)[3],
    "chosen": lambda self, x: x[:, torch.tensor([2, 0])] + x.index_select(1, torch.tensor([3, 1])),
    "conditions": lambda self, x: torch.where(x > 0, x, 0.5) + x.where(x < 1, -x) + x.masked_fill(x > 1, 3.0),
    "written": lambda self, x: written(x),
    "windows": lambda self, x: functional.unfold(x, 3, 1, 1, 2).sum(1) + x.unfold(2, 2, 2).sum((1, 3, 4)).repeat(1, 3),
    "unpooled": lambda self, x: functional.max_unpool2d(*functional.max_pool2d(x, 2, return_indices=True), 2),
    "triangle": lambda self, x: x.tril() + x.triu(1) * 2,
    "extremes": lambda self, x: (
        torch.maximum(x, self.beta) + torch.minimum(x, -x) + x.amin(1, True) + x.min(2, True)[0]
    ),
    "powers": lambda self, x: 2**x + x**2 + torch.pow(3, x) + x.pow(3) + 1 / x + (x + 9) ** -0.5,
    "lengths": lambda self, x: functional.normalize(x, dim=1) + x.norm(dim=1, keepdim=True),
    "own statistics": lambda self, x: functional.instance_norm(x) + functional.rms_norm(x, (6,)),
    "one number": lambda self, x: x - x.mean() * x.flatten().dot(x.flatten()),
    "vectors": lambda self, x: x @ self.vector + self.vector @ x,
    "products and more": lambda self, x: torch.addmm(self.vector, x[0, 0], x[0, 1], alpha=2, beta=3).addcmul(
        x[0, 2], x[0, 3], value=0.5
    ),
    "shares": lambda self, x: (
        functional.scaled_dot_product_attention(x, x + 1, x * 2, is_causal=True)
        + functional.scaled_dot_product_attention(x, x, x, attn_mask=self.beta[..., :1] - x[0, 0], scale=0.3)
        + functional.scaled_dot_product_attention(x, x, x, attn_mask=torch.eye(6, dtype=torch.bool))
    ),
    "pads": lambda self, x: functional.pad(functional.pad(x, (1, 2, 0, 1), value=0.5), (1, 1, 1, 1), mode="reflect"),
    "shuffles": lambda self, x: functional.pixel_unshuffle(functional.pixel_shuffle(x, 2), 2),
    "attention": lambda self, x: (x.flatten(2).transpose(1, 2) @ x.flatten(2)).softmax(-1) @ x.flatten(2).mT,
    "reductions": lambda self, x: x.mean((2, 3)) + x.sum(-1).amax(-1),
    "enlarged": lambda self, x: functional.interpolate(x, scale_factor=2, mode="bilinear"),
    "stacked": lambda self, x: torch.stack([x, x * 2], 1).flatten(1, 2),
    "blends": lambda self, x: torch.lerp(x, x.flip(2), 0.3) + torch.lerp(x, -x, x.sigmoid()),
    "spreads": lambda self, x: (x - x.mean(1, True)) / x.std(1, keepdim=True) + x.var((2, 3), keepdim=True),
    "responses": lambda self, x: functional.local_response_norm(x, 3, 0.5) + functional.local_response_norm(x, 4, 2.0),
    "running": lambda self, x: x.cumsum(1) + x.logsumexp(2, keepdim=True),
    "gates of halves": lambda self, x: functional.glu(x, 1) * functional.logsigmoid(x[:, :2]),
    "letters": lambda self, x: (
        torch.einsum("bchw,bdhw->bcd", x, x.exp()) @ torch.einsum("nchw, c -> nc", x, x[0, :, 0, 0])[0]
    ),
    "patches": lambda self, x: functional.fold(functional.unfold(x, 3, padding=1), 6, 3, padding=1),
    "sampled": lambda self, x: functional.grid_sample(x, self.grid, align_corners=False),
    "whole numbers": lambda self, x: (x * 3).int() + (x * 2).long() * (x - x.relu()).bool(),
}


def written(x):
    made = torch.zeros_like(x)
    made[:, 1:3] = x[:, :2]
    made[:, 0] = 4.0
    return made * 2


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_that_belong_to_no_module(name):
    torch.manual_seed(1)
    gamma, beta = torch.randn(1, 4, 1, 1).double(), torch.randn(4, 1, 1).double()
    network = Calls(FUNCTIONS[name], gamma=gamma, beta=beta, vector=torch.randn(6).double())
    network.grid = nn.Parameter(torch.rand(1, 5, 4, 2).double() * 2.4 - 1.2)  # some of it beside the image
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


def test_a_batch_norm_holds_though_mean_and_bias_cancel():
    network = nn.BatchNorm2d(1)
    nn.init.constant_(network.running_mean, 10.0)
    nn.init.constant_(network.bias, 10.0)
    values = require_all_numbers_hold(network, torch.randn(1, 1, 4, 4) * 1e-3)
    found = explain_number(values, "batch_norm", (0, 1, 2))
    assert found.bias == 10
    assert [(term.source.layer, term.source.is_parameter) for term in found.terms] == [
        ("input", False),
        ("running_mean", True),
    ]
    assert found.way_on.source.layer == "input"  # though the mean's product is larger


TAILS = ("gelu", "silu", "mish", "softplus", "logsigmoid", "hardswish", "elu", "selu", "tanh", "tanhshrink", "softsign")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", TAILS)
def test_activations_hold_far_from_zero(name, dtype):
    """torch's GELU of -5 keeps few digits: it takes one number from another of the size of 1."""
    network = Calls(lambda self, x: getattr(functional, name)(x))
    values = record_values(network, torch.linspace(-12, 12, 97, dtype=dtype)[None])
    for at in range(97):
        assert explain_number(values, values.recording.names[1], (at,)).holds


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


@pytest.mark.parametrize("seed", range(3))
def test_thirty_numbers_of_resnet18_chosen_at_random(seed):
    torch.manual_seed(seed)
    network = build_network("resnet18", num_classes=10, in_channels=3, image_size=(64, 64))
    values = record_values(network, torch.randn(1, 3, 64, 64))
    chooser = random.Random(seed)
    for _ in range(10):
        number = chooser.randrange(1, len(values.recording.operations))
        operation = values.recording.operations[number]
        at = tuple(chooser.randrange(limit) for limit in operation.outputs[0][1:])
        found = explain_number(values, values.recording.names[number], at, operation.call)
        products = [term.product for term in found.terms]
        assert abs(found.difference) <= 1e-5 * (abs(found.bias) + sum(map(abs, products)))
        assert found.total == pytest.approx(found.bias + sum(products), rel=1e-12, abs=1e-15)


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


def test_what_is_no_finite_number_is_said_so_and_stays_json():
    network = Calls(lambda self, x: functional.max_pool2d((functional.relu(x).log() / 0).relu(), 2).sqrt() - self.one)
    network.one = torch.ones(1)
    values = record_values(network, torch.tensor([[[[-1.0, 2.0], [0.0, 3.0]]]]))
    said = [explain_number(values, "log", (0, *at)) for at in itertools.product(range(2), range(2))]
    assert [found.total for found in said] == pytest.approx([-math.inf, math.log(2), -math.inf, math.log(3)])
    for number, operation in enumerate(values.recording.operations):
        for at in itertools.product(*map(range, operation.outputs[0][1:])):
            found = explain_number(values, values.recording.names[number], at, operation.call)
            assert found.holds
            json.dumps(found.to_json(), allow_nan=False)
    document = said[0].to_json()
    assert (document["value"], document["sum"], document["difference"]) == ("-Infinity", "-Infinity", 0)
    passed = explain_number(values, "relu#2", (0, 0, 0))  # minus infinity does not pass
    assert (passed.value, passed.total, passed.terms[0].product) == (0, 0, 0)
    root = record_values(Calls(lambda self, x: x.sqrt() * 2), torch.full((1, 1), -1.0))
    assert explain_number(root, "mul", (0,)).to_json()["sum"] == "NaN"


def test_what_overflows_is_no_surprise():
    network = Calls(lambda self, x: x * 3e4)
    found = explain_number(record_values(network, torch.full((1, 1), 1e4).half()), "mul", (0,))
    assert found.value == math.inf
    assert found.holds
    assert found.bound == math.inf


class TakesApart(nn.Module):
    def __init__(self):
        super().__init__()
        self.second = Calls(lambda self, x: x.chunk(2, 1)[1])

    def forward(self, x):
        return self.second(x) * 10


def test_each_tensor_of_a_chunk_has_a_name():
    image = torch.arange(8.0).view(1, 4, 2, 1)
    values = record_values(TakesApart(), image)
    (term,) = explain_number(values, "mul", (1, 1, 0)).terms
    assert str(term.source) == "second[1] at 1,1,0"
    there = explain_number(values, term.source.layer, term.source.at, term.source.call)
    assert (there.value, there.terms[0].source.at) == (7, (3, 1, 0))
    assert explain_number(values, "second[0]", (1, 1, 0)).value == 3
    assert address_text(term.source) == "--layer 'second[1]' --at 1,1,0"
    with pytest.raises(UserError, match=r"no layer 'second\[2\]'; there is second"):
        explain_number(values, "second[2]", (0, 0, 0))


def test_a_module_that_gives_back_the_second_tensor_is_asked_for_that_one():
    class Half(nn.Module):
        def forward(self, x):
            return (x + 1).chunk(2, 1)[1]

    values = record_values(nn.Sequential(Half()), torch.arange(4.0).view(1, 4))
    assert explain_number(values, "0", (0,)).value == 3
    assert explain_number(values, "0:chunk", (0,)).value == 1


def test_weights_that_another_operation_made_have_addresses():
    network = Calls(lambda self, x: functional.conv2d(x, self.filters * x.mean()), filters=torch.randn(2, 1, 2, 2))
    values = record_values(network, torch.randn(1, 1, 3, 3))
    term = explain_number(values, "conv2d", (1, 0, 1)).terms[2]
    assert str(term.weight_source) == "mul at 1,0,1,0"
    assert explain_number(values, "mul", term.weight_source.at).value == term.weight


def test_the_sum_of_a_dense_layer_is_grouped_by_the_channels_that_were_flattened():
    network = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(12, 2))
    image = torch.randn(1, 3, 2, 2)
    found = explain_number(record_values(network, image), "2", (1,))
    assert [(channel.channel, channel.num_terms) for channel in found.channels] == [(0, 4), (1, 4), (2, 4)]
    first = (image[0, 0].flatten() * network[2].weight[1, :4]).sum()
    assert found.channels[0].total == pytest.approx(float(first.detach()), abs=1e-6)


@pytest.mark.parametrize(
    ("layer", "at", "call", "said"),
    [
        ("conv2", (0, 0, 0), 0, "there is conv"),
        ("conv", (0, 0), 0, "3 coordinates: --at 1,2,2"),
        ("conv", (0, 0, 5), 0, "2 x 5 x 5, counted from 0"),
        ("conv", (-1, 0, 0), 0, "outside"),
        ("conv", (0, 0, 0), 2, r"ran 2 times in this forward, so --call is 0 to 1, not 2"),
        ("input", (0, 5, 0), 0, r"\(0 to 1, 0 to 4, 0 to 4\); 0,5,0 is outside"),
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


REFUSED = {
    "cumprod": (lambda x: functional.relu(x).cumprod(2), r"cumprod.*Go on at what it read: relu \(1 x 3 x 3\)"),
    "batch_norm": (lambda x: functional.batch_norm(x, None, None, training=True), "statistics of its batch"),
    "dropout": (lambda x: functional.dropout(x), "draws in evaluation mode too"),
    "to": (lambda x: x.to(torch.int32), "what int32 leaves"),
    "pow": (lambda x: x**x, "to the power of another"),
    "div": (lambda x: torch.div(x, 2, rounding_mode="floor"), "rounds"),
    "conv2d": (lambda x: functional.conv2d(x[0], x), "without the dimension of the batch"),
    "max_pool2d": (lambda x: functional.max_pool2d(x[0], 2), "without the dimension of the batch"),
    "fft_fft": (lambda x: torch.fft.fft(x), "complex numbers"),
    "max[1]": (lambda x: x.max(1)[1], "beside its first tensor"),
    "norm": (lambda x: x.norm(p=1), "the Euclidean one"),
    "einsum": (lambda x: torch.einsum("...ij->...ji", x), "Go on at what it read"),
}


@pytest.mark.parametrize("layer", REFUSED)
def test_what_is_not_known_is_refused_and_says_where_to_go_on(layer):
    function, said = REFUSED[layer]
    values = record_values(Calls(lambda self, x: function(x)), torch.ones(1, 1, 3, 3))
    with pytest.raises(NotFollowed, match=said):
        explain_number(values, layer, (0,) * len(without_the_batch(find_output(values, layer).shape)))


def test_numbers_written_through_a_view_are_found_where_they_were_written():
    def write(self, x):
        kept = x * 1
        row = kept[:, :, 1]
        row.add_(10)
        kept += 1
        kept[:, 0] = row[:, 0, None] * 2
        functional.relu(kept, inplace=True)
        kept.view(1, -1).neg_()
        kept[:, 1].zero_()
        kept[:, 2:].copy_(x[:, :2])
        return kept.masked_fill_(kept > 3, 0.5)

    image = torch.randn(1, 4, 3, 3, dtype=torch.float64)
    values = require_all_numbers_hold(Calls(write), image, most=36)
    for name, operation in zip(values.recording.names, values.recording.operations, strict=True):
        for at in itertools.product(*map(range, without_the_batch(operation.outputs[0]))):
            for term in explain_number(values, name, at, operation.call).terms:
                assert (term.source.layer, term.source.call) != (name, operation.call)
    added = explain_number(values, "add", (0, 2))
    assert (added.terms[0].activation, added.value) == (float(image[0, 0, 1, 2]), float(image[0, 0, 1, 2]) + 10)


@pytest.mark.parametrize("function", [torch.min, torch.max, torch.minimum, torch.maximum])
def test_the_smaller_and_the_larger_of_two_tensors(function):
    torch.manual_seed(0)
    network = Calls(lambda self, x: function(x, x.flip(3)))
    require_all_numbers_hold(network, torch.randn(1, 2, 3, 4, dtype=torch.float64))

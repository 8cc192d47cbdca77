"""The sets of pixels behind a unit, against what a backward pass finds: positive weights, gradients kept 0 or 1."""

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from vitreous.errors import ShapeError
from vitreous.models import build_network
from vitreous.trace import trace
from vitreous.trace.linking import links_of
from vitreous.trace.links import Everything
from vitreous.trace.recording import record
from vitreous.trace.support import reach, support

CHANNELS = 4


class Lambda(nn.Module):
    def __init__(self, function, text=""):
        super().__init__()
        self.function, self.text = function, text

    def forward(self, x):
        return self.function(x)

    def extra_repr(self):
        return self.text


class Kept(TorchFunctionMode):
    """Inside, maxima are averages, and what comes back through any tensor is 0 or 1, so that nothing overflows."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in ("max_pool2d", "boolean_dispatch", "fn") and "ceil_mode" in kwargs:
            func = functional.avg_pool2d
            kwargs = {key: kwargs[key] for key in kwargs if key not in ("dilation", "return_indices")}
            args = args[:4]
        result = func(*args, **kwargs)
        for each in result if isinstance(result, tuple | list) else [result]:
            if isinstance(each, torch.Tensor) and each.requires_grad and not each.is_leaf:
                each.register_hook(lambda gradient: gradient if gradient is None else (gradient != 0).double())
        return result


def positive(network):
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point():
                tensor.fill_(0.5)
    return network.double().eval()


def seen_by_backward(network, shape, at):
    image = torch.ones(1, *shape, dtype=torch.float64, requires_grad=True)
    with Kept():
        result = positive(network)(image)
    result[(0, *at)].sum().backward()
    return image.grad[0].any(0) if image.grad is not None else torch.zeros(shape[1:], dtype=torch.bool)


def pairs(low, high):
    return st.tuples(st.integers(low, high), st.integers(low, high))


class Branches(nn.Module):
    """Branches joined where they are as long as the shortest."""

    def __init__(self, joining, *branches):
        super().__init__()
        self.joining = joining
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        outputs = [branch(x) for branch in self.branches]
        height, width = (min(each.shape[dim] for each in outputs) for dim in (2, 3))
        outputs = [each[:, :, :height, :width] for each in outputs]
        if self.joining == "cat":
            return torch.cat(outputs, 1).chunk(len(outputs), 1)[0]
        if self.joining == "in place":
            first = outputs[0].clone()
            first += outputs[1]
            return first
        return sum(outputs[1:], outputs[0]) if self.joining == "add" else outputs[0] * outputs[-1]


@st.composite
def convolutions(draw, stride=2):
    groups = draw(st.sampled_from([1, 2, CHANNELS]))
    given = {"stride": pairs(1, stride), "padding": pairs(0, 2), "dilation": pairs(1, 2)}
    mode = draw(st.sampled_from(["zeros", "zeros", "reflect", "replicate", "circular"]))
    return nn.Conv2d(
        CHANNELS,
        CHANNELS,
        draw(pairs(1, 4)),
        groups=groups,
        padding_mode=mode,
        **{key: draw(each) for key, each in given.items()},
    )


@st.composite
def pools(draw):
    kernel = draw(pairs(1, 3))
    padding = tuple(draw(st.integers(0, side // 2)) for side in kernel)
    kind = draw(st.sampled_from([nn.AvgPool2d, nn.MaxPool2d]))
    return kind(kernel, draw(pairs(1, 3)), padding, ceil_mode=draw(st.booleans()))


@st.composite
def larger(draw):
    groups = draw(st.sampled_from([1, 2]))
    kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    modes = st.sampled_from(["nearest", "nearest-exact", "bilinear", "bicubic"])
    factor = draw(st.sampled_from([2, 1.5, (3, 0.5), 0.7]))
    return draw(
        st.sampled_from(
            [
                nn.ConvTranspose2d(
                    CHANNELS,
                    CHANNELS,
                    kernel,
                    stride,
                    draw(st.integers(0, kernel // 2)),
                    groups=groups,
                    dilation=draw(st.integers(1, 2)),
                ),
                nn.Upsample(scale_factor=factor, mode=draw(modes)),
                Lambda(lambda x: functional.interpolate(x, (11, 14), mode="bilinear", align_corners=True), "corners"),
            ]
        )
    )


MOVES = {
    "shuffle": lambda x: functional.channel_shuffle(x, 2),
    "flip": lambda x: x.flip(2),
    "roll": lambda x: torch.roll(x, (1, 2), (1, 3)),
    "there and back": lambda x: (x.permute(0, 2, 3, 1) * 2).relu_().permute(0, 3, 1, 2),
    "unshuffle": lambda x: functional.pixel_unshuffle(x[:, :1, : x.shape[2] // 2 * 2, : x.shape[3] // 2 * 2], 2),
    "pixels": lambda x: functional.pixel_shuffle(x, 2).repeat(1, CHANNELS, 1, 1)[:, :, 1::2],
    "repeat": lambda x: x.repeat_interleave(2, 3),
    "crop": lambda x: x[..., 1:, :],
    "gate": lambda x: x * x.mean(3, keepdim=True),
    "bins": lambda x: functional.adaptive_avg_pool2d(x, (7, 5)),
    "border": lambda x: functional.pad(x, (1, 0, 2, -1), value=1.0),
    "mirror": lambda x: functional.pad(x, (1, 2, 0, 1), mode="reflect"),
    "groups": lambda x: x.view(x.shape[0], 2, -1, *x.shape[2:]).transpose(1, 2).reshape(x.shape),
    "product": lambda x: x @ torch.ones(x.shape[-1], 3, dtype=x.dtype, device=x.device),
    "einsum": lambda x: torch.einsum("nchw,nkhw->nchw", x, x[:, :2]),
    "empty channel": lambda x: functional.pad(
        x[:, 1:], (0, 0, 0, 0, 1, 0), value=1.0
    ),  # a product with zeros has no gradient
    "written": lambda x: written(x + torch.zeros_like(x)),
}


def written(x):
    x[:, 1:] = x[:, :-1].clone()
    return x


@st.composite
def networks(draw):
    plain = st.builds(lambda: nn.Sequential(nn.BatchNorm2d(CHANNELS), nn.ReLU(inplace=True)))
    moves = st.sampled_from(sorted(MOVES)).map(lambda name: Lambda(MOVES[name], name))
    joined = st.builds(
        lambda joining, *branches: Branches(joining, *(nn.Sequential(*each) for each in branches)),
        st.sampled_from(["add", "cat", "mul", "in place"]),
        st.lists(convolutions(1) | plain, max_size=2),
        st.lists(convolutions(2), min_size=1, max_size=2),
    )
    layers = draw(st.lists(convolutions() | pools() | larger() | joined | plain | moves, min_size=1, max_size=5))
    if draw(st.booleans()):
        layers.append(layers[0])  # used again
    return nn.Sequential(nn.Conv2d(2, CHANNELS, 1), *layers)


@settings(max_examples=80, deadline=None)
@given(networks(), st.data())
def test_the_set_is_that_of_a_backward_pass_and_the_window_holds_it(network, data):
    shape = (2, 23, 26)
    try:
        found = trace(network, shape)
    except ShapeError:  # torch refuses it as well
        with pytest.raises(RuntimeError):
            network.eval()(torch.zeros(1, *shape))
        return
    assume(
        all(math.prod(each) for operation in found.operations for each in operation.outputs)
    )  # torch is of two minds
    last = found.recording.find("")
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        output = network.eval()(torch.zeros(1, *shape))
    assert (found.operations[last].outputs[0], 2 * found.macs) == (output.shape, flops.get_total_flops())
    at = tuple(data.draw(st.integers(0, extent - 1)) for extent in output.shape[1:])
    set_of_unit = support(found.recording, last, at)
    assert set_of_unit.status == "exact"
    assert torch.equal(set_of_unit.mask, seen_by_backward(network, shape, at))
    pixel = tuple(data.draw(st.integers(0, side - 1)) for side in shape[1:])
    assert reach(found.recording, pixel, last).mask[at] == set_of_unit.mask[pixel]


def last_of(network, shape):
    recording = record(network, shape)
    return recording, recording.find("")


def picture(mask):
    return ["".join(".x"[pixel] for pixel in row) for row in mask.int().tolist()]


def test_dilation_leaves_holes_that_a_window_does_not_show():
    recording, last = last_of(nn.Conv2d(1, 1, 3, dilation=2, padding=2), (1, 6, 6))
    assert picture(support(recording, last, (0, 2, 3)).mask) == ["." * 6 if row % 2 else ".x.x.x" for row in range(6)]
    assert picture(reach(recording, (0, 0), last).mask[0]) == [
        "x.x..." if row in (0, 2) else "." * 6 for row in range(6)
    ]


class Halves(nn.Module):
    """Channels 0 and 1 see 1x1, channels 2 and 3 see 3x3; shuffled, taken apart again, and the first half kept."""

    def __init__(self, groups):
        super().__init__()
        self.near, self.far = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 3, padding=1)
        self.mix = nn.Conv2d(4, 4, 1, groups=groups)

    def forward(self, x):
        joined = functional.channel_shuffle(torch.cat([self.near(x), self.far(x)], 1), 2)
        return self.mix(joined)[:, :2]


@pytest.mark.parametrize(("groups", "sizes"), [(4, (1, 9)), (2, (9, 9)), (1, (9, 9))])
def test_channels_are_followed_one_by_one(groups, sizes):
    recording, last = last_of(Halves(groups), (3, 8, 8))
    masks = [support(recording, last, (channel, 4, 4)).mask for channel in (0, 1)]
    assert tuple(mask.sum().item() for mask in masks) == sizes
    assert torch.equal(support(recording, last, (4, 4)).mask, masks[0] | masks[1])
    reached = reach(recording, (4, 4), last)
    assert (reached.status, tuple(channel.sum().item() for channel in reached.mask)) == ("exact", sizes)


def test_deep_networks_overflow_nothing():
    with torch.device("meta"):
        network = nn.Sequential(*(nn.Conv2d(8, 8, 3, padding=1) for _ in range(300)))
    recording, last = last_of(network, (8, 20, 700))
    found = support(recording, last, (0, 10, 350))
    assert found.status == "exact"
    assert found.mask.any(0).nonzero().flatten().tolist() == list(range(50, 651))


def test_a_resnets_last_unit_sees_its_window_cut_at_the_border():
    with torch.device("meta"):
        network = build_network("resnet18", num_classes=10, in_channels=3, image_size=(224, 224))
    found = trace(network, (3, 224, 224))
    mask = support(found.recording, found.last_map, (0, 0, 6)).mask
    rows, columns = (mask.any(1 - axis).nonzero().flatten().tolist() for axis in (0, 1))
    fields = [field.field for field in found.fields[found.last_map]]
    assert (rows, columns) == (list(fields[0].clipped(0, 224)), list(fields[1].clipped(6, 224)))
    everywhere = support(found.recording, found.recording.find(""), (3,))
    assert (everywhere.status, bool(everywhere.mask.all())) == ("exact", True)


def test_what_is_not_followed_is_taken_whole_and_named():
    recording, last = last_of(nn.Sequential(nn.Conv2d(3, 4, 3), Lambda(lambda x: x.cumsum(2)), nn.ReLU()), (3, 8, 8))
    found = support(recording, last, (0, 0, 0))
    assert (found.status, found.not_followed, bool(found.mask.all())) == ("bound", (2,), True)
    reached = reach(recording, (7, 7), last)
    assert (reached.status, reached.not_followed, bool(reached.mask.all())) == ("bound", (2,), True)
    assert support(recording, 1, (0, 0, 0)).status == "exact"  # what comes later has no part in it


def test_what_left_torch_is_taken_whole():
    recording, last = last_of(Lambda(lambda x: x * x.mean().item()), (3, 8, 8))
    assert support(recording, last, (0, 0, 0)).status == reach(recording, (0, 0), last).status == "bound"
    assert support(recording, last, (0, 0, 0)).mask.all()


def test_weights_made_from_weights_are_constants():
    class Standardized(nn.Conv2d):
        def forward(self, x):
            return functional.conv2d(x, self.weight - self.weight.mean((1, 2, 3), keepdim=True))

    recording, last = last_of(Standardized(3, 4, 3), (3, 8, 8))
    found = support(recording, last, (0, 0, 0))
    assert (found.status, found.mask.sum()) == ("exact", 9)


def test_what_the_image_has_no_part_in_sees_nothing():
    recording, last = last_of(Lambda(lambda x: torch.ones(1, 3, 4, device=x.device) * 2), (3, 8, 8))
    assert (support(recording, last, (0, 0)).mask.any(), support(recording, last, (0, 0)).status) == (False, "exact")


@pytest.mark.parametrize("at", [(0, 6, 0), (4, 0, 0), (-1, 0, 0), (0,), (0, 0, 0, 0)])
def test_a_unit_that_does_not_exist_is_refused(at):
    recording, last = last_of(nn.Conv2d(3, 4, 3), (3, 8, 8))
    with pytest.raises(ShapeError, match=r"has no unit at .*: its output is 4x6x6, from 0 on"):
        support(recording, last, at)
    with pytest.raises(ShapeError, match="there is no operation 2; the forward has 2, from 0 on"):
        support(recording, 2, (0, 0, 0))


def test_one_axis_and_three():
    recording, last = last_of(nn.Conv1d(2, 2, 3, stride=2), (2, 9))
    assert support(recording, last, (0, 1)).mask.nonzero().flatten().tolist() == [2, 3, 4]
    recording, last = last_of(nn.MaxPool3d(2), (1, 4, 6, 8))
    assert support(recording, last, (0, 1, 1, 1)).mask.sum() == 8


FILTERS, FILTERS_2, WEIGHTS = torch.ones(6, 2, 3, 2), torch.ones(3, 2, 2, 1), torch.ones(3, 4)
FUNCTIONS = [
    lambda x: functional.softmax(x, 1),
    lambda x: functional.normalize(x, dim=-1),
    lambda x: functional.layer_norm(x, [4]),
    lambda x: functional.group_norm(x, 2),
    lambda x: functional.instance_norm(x),
    lambda x: functional.batch_norm(x, None, None, training=True),
    lambda x: x.std((2, 3), keepdim=True) * x,
    lambda x: x.mean(1),
    lambda x: x.norm(dim=(1, 2)),
    lambda x: x.sum(),
    lambda x: x.logsumexp(2),
    lambda x: x[:, :3] @ x[:, 3:].transpose(2, 3),
    lambda x: x @ x.new_ones(4, 2),
    lambda x: torch.ones(2, 4, dtype=x.dtype, device=x.device) @ x,
    lambda x: torch.einsum("nchw,ndhw->ncd", x[:, :2], x[:, 2:]),
    lambda x: functional.scaled_dot_product_attention(x[:, :2], x[:, 2:4], x[:, 4:]),
    lambda x: x[:, 1:2, None, ::2] * x[:, :1, None, 1:2],
    lambda x: torch.stack([x, x.flip(1)], 1)[:, 1].unbind(1)[2],
    lambda x: torch.cat(x.split([2, 4], 1)[::-1], 1)[:, 1:3],
    lambda x: functional.unfold(x, 2, dilation=2, padding=1, stride=2),
    lambda x: x.unfold(2, 2, 1),
    lambda x: functional.pad(x, (1, 1, 2, 0), mode="circular"),
    lambda x: functional.interpolate(x, (5, 7), mode="area"),
    lambda x: functional.interpolate(x, scale_factor=(1.5, 0.5), mode="bicubic"),
    lambda x: functional.interpolate(x[..., 0], 7, mode="linear"),
    lambda x: functional.interpolate(x, (2, 3), mode="bilinear", antialias=True),
    lambda x: functional.conv_transpose2d(x, FILTERS, stride=(2, 3), padding=1, groups=3, dilation=2),
    lambda x: functional.conv2d(x, FILTERS_2, stride=(1, 2), groups=3, padding="valid"),
    lambda x: functional.avg_pool2d(x, 2, ceil_mode=True, padding=1, stride=3),
    lambda x: functional.adaptive_avg_pool2d(x, (2, 3)),
    lambda x: functional.linear(x, WEIGHTS).transpose(1, 3).reshape(3, -1),
    lambda x: functional.pixel_shuffle(x[:, :4], 2) - functional.pixel_shuffle(x[:, :4], 2).mT.mT * 2,
    lambda x: x.repeat(1, 1, 2, 1).roll(1, 2).permute(0, 3, 1, 2),
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_one_by_one_have_the_support_of_their_jacobian(function):
    recording = record(Lambda(function), (6, 4, 4))
    result = recording.modules[-1].outputs[0]
    image = torch.rand(1, 6, 4, 4, generator=torch.Generator().manual_seed(0))
    jacobian = torch.autograd.functional.jacobian(function, image) != 0
    outs = result.shape
    for unit in range(0, math.prod(outs), 5):
        wanted = torch.zeros(outs, dtype=torch.bool)
        wanted.view(-1)[unit] = True
        seen = back_to_the_image(recording, result, wanted)
        assert torch.equal(seen.expand(1, 6, 4, 4), jacobian.reshape(-1, 1, 6, 4, 4)[unit])


def back_to_the_image(recording, result, wanted):
    """As ``support`` goes, with the image's channels kept apart and units of a batch allowed."""
    masks = {(result.operation, result.output): wanted}
    for number in range(result.operation, 0, -1):
        for output, _ in enumerate(recording.operations[number].outputs):
            mask = masks.pop((number, output), None)
            for ref, link in links_of(recording.operations[number], output) if mask is not None else []:
                assert not isinstance(link, Everything), recording.operations[number].name
                key, found = (ref.operation, ref.output), link.back(mask)
                masks[key] = masks[key] | found if key in masks else found
    return masks.get((0, 0), torch.zeros(1, 1, 1, 1, dtype=torch.bool))

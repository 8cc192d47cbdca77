"""Receptive fields against what a backward pass finds, and, case by case, against what one knows."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import avg_pool2d, max_pool2d, pad
from torch.utils.flop_counter import FlopCounterMode

from vitreous.errors import ShapeError
from vitreous.geometry import ReceptiveField
from vitreous.trace import receptive_field_json, trace

CHANNELS = 4


class Pad(nn.Module):
    def __init__(self, *ends):
        super().__init__()
        self.ends = ends

    def forward(self, x):
        return pad(x, self.ends)


class Pool(nn.Module):
    """Max pooling; average pooling where gradients shall reach every pixel of a window."""

    def __init__(self, kernel, stride, padding, ceil_mode):
        super().__init__()
        self.settings = (kernel, stride, padding)
        self.ceil_mode = ceil_mode
        self.is_average = False

    def forward(self, x):
        return (avg_pool2d if self.is_average else max_pool2d)(x, *self.settings, ceil_mode=self.ceil_mode)


class Branches(nn.Module):
    def __init__(self, merging, *branches):
        super().__init__()
        self.merging = merging
        self.branches = nn.ModuleList(branches)
        self.mix = nn.Conv2d(len(branches) * CHANNELS, CHANNELS, 1) if merging == "cat" else nn.Identity()

    def forward(self, x):
        outputs = [branch(x) for branch in self.branches]
        return self.mix(torch.cat(outputs, 1) if self.merging == "cat" else sum(outputs[1:], outputs[0]))


def pairs(low, high):
    return st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def convolutions(draw):
    groups = draw(st.sampled_from([1, 2, CHANNELS]))
    settings = {"stride": pairs(1, 2), "padding": pairs(0, 2), "dilation": pairs(1, 2)}
    return nn.Conv2d(
        CHANNELS, CHANNELS, draw(pairs(1, 4)), groups=groups, **{key: draw(each) for key, each in settings.items()}
    )


@st.composite
def pools(draw):
    kernel = draw(pairs(1, 3))
    padding = tuple(draw(st.integers(0, side // 2)) for side in kernel)
    return Pool(kernel, draw(pairs(1, 3)), padding, draw(st.booleans()))


@st.composite
def same_size(draw, stride):
    """A convolution and the zeros around it, which leave ceil(size / stride), however they lie."""
    kernel, dilation = draw(pairs(1, 4)), draw(pairs(1, 2))
    ends = []
    for k, d in reversed(list(zip(kernel, dilation, strict=True))):
        near = draw(st.integers(0, d * (k - 1)))
        ends += [near, d * (k - 1) - near]
    return nn.Sequential(Pad(*ends), nn.Conv2d(CHANNELS, CHANNELS, kernel, stride, dilation=dilation))


@st.composite
def branches(draw):
    stride = draw(pairs(1, 2))
    paths = [
        nn.Sequential(*draw(st.lists(same_size(1), max_size=2)), draw(same_size(stride)))
        for _ in range(draw(st.integers(2, 3)))
    ]
    if stride == (1, 1):
        paths[0] = nn.Identity()
    return Branches(draw(st.sampled_from(["add", "cat"])), *paths)


@st.composite
def networks(draw):
    plain = st.builds(lambda: nn.Sequential(nn.BatchNorm2d(CHANNELS), nn.ReLU()))
    zeros = st.builds(Pad, *[st.integers(0, 2)] * 4)
    layers = draw(st.lists(convolutions() | pools() | branches() | zeros | plain, min_size=1, max_size=5))
    return nn.Sequential(nn.Conv2d(1, CHANNELS, 1), *layers)


def support(network, image_size, row, column):
    """The pixels whose gradient is not nought, for all channels of one place: booleans H,W."""
    for module in network.modules():
        if isinstance(module, Pool):
            module.is_average = True
    network.double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.1)
    image = torch.ones(1, 1, *image_size, dtype=torch.float64, requires_grad=True)
    network(image)[0, :, row, column].sum().backward()
    return image.grad[0, 0] != 0


@settings(max_examples=150, deadline=None)
@given(networks(), st.data())
def test_the_window_is_that_of_a_backward_pass(network, data):
    image_size = (61, 64)
    try:
        found = trace(network, (1, *image_size))
    except ShapeError:  # torch refuses it as well
        with pytest.raises(RuntimeError):
            network.eval()(torch.zeros(1, 1, *image_size))
        return
    with FlopCounterMode(display=False) as flops:
        output = network.eval()(torch.zeros(1, 1, *image_size))
    assert (found.operations[-1].outputs[0], 2 * found.macs) == (output.shape, flops.get_total_flops())
    height, width = output.shape[2:]
    unit = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    seen = support(network, image_size, *unit)
    windows = []
    for place, fields in zip(unit, found.fields[-1], strict=True):
        assert fields.status == "exact"
        windows.append(fields.field.window(place))
    # beside the image, one axis has a say in the other: a branch that sees only zeros above adds nothing to the right
    is_inside = all(window.start >= 0 and window.stop <= size for window, size in zip(windows, image_size, strict=True))
    for axis, window in enumerate(windows):
        pixels = seen.any(1 - axis).nonzero().flatten().tolist()
        assert all(pixel in window for pixel in pixels)
        if is_inside:
            assert (pixels[0], pixels[-1]) == (window[0], window[-1])


def last(network, shape=(3, 32, 32)):
    fields = trace(network, shape).fields[-1]
    return [(field.size, field.jump, field.start, field.status) for field in fields]


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def after(function, *layers):
    return nn.Sequential(*layers, Lambda(function))


CONV = nn.Conv2d(3, 8, 3, stride=2, padding=1)  # 16x16 units: size 3, jump 2, start -1
SAME = (3, 2, -1, "exact")
ALL = (33, None, -1, "exact")  # from the first unit's first pixel to the last unit's last


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x.mean((2, 3)), [ALL, ALL]),
        (lambda x: x.mean(3), [(3, 2, -1, "exact"), ALL]),
        (lambda x: x.amax(dim=(-2, -1), keepdim=True), [ALL, ALL]),
        (lambda x: nn.functional.adaptive_avg_pool2d(x, 1), [ALL, ALL]),
        (lambda x: nn.functional.adaptive_avg_pool2d(x, (16, 8)), [(3, 2, -1, "exact"), (5, 4, -1, "exact")]),
        (lambda x: nn.functional.adaptive_avg_pool2d(x, 7), [(9, Fraction(32, 7), Fraction(-19, 7), "bound")] * 2),
        (lambda x: nn.functional.adaptive_avg_pool2d(x, 7).mean((2, 3)), [ALL, ALL]),
        (lambda x: x.flatten(1), [(33, None, -1, "bound")] * 2),
        (lambda x: x.flatten(1) @ torch.ones(2048, 2, device=x.device), [ALL, ALL]),
        (lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(), [ALL, ALL]),
        (lambda x: x[:, :, ::2, :], [(3, 4, -1, "exact"), (3, 2, -1, "exact")]),
        (lambda x: x[:, :4, 3:], [(3, 2, 5, "bound"), (3, 2, -1, "exact")]),
        (lambda x: x[..., 0], [(3, 2, -1, "exact"), (33, None, -1, "bound")]),
        (lambda x: x.permute(0, 2, 3, 1).softmax(-1), [(3, 2, -1, "exact")] * 2),
        (lambda x: x.flatten(2).transpose(1, 2).softmax(1), [ALL, ALL]),
        (lambda x: x.view(1, 2, 4, 16, 16).transpose(1, 2).reshape(1, 8, 16, 16), [(3, 2, -1, "exact")] * 2),
        (lambda x: torch.stack([x, x], 1), [(3, 2, -1, "exact")] * 2),
        (lambda x: torch.cat(x.chunk(2, 1), 1), [(3, 2, -1, "exact")] * 2),
        (lambda x: x + torch.zeros_like(x).mean((2, 3), keepdim=True), [(3, 2, -1, "exact")] * 2),
        (lambda x: x + x[:, :, :1, :1], [(33, None, -1, "bound")] * 2),
        (lambda x: pad(x, (1, 1, 1, 1), mode="reflect"), [(3, 2, -3, "exact")] * 2),
        (lambda x: nn.functional.interpolate(x, scale_factor=2), [(4, 1, -2, "bound")] * 2),
        (lambda x: nn.functional.interpolate(x, scale_factor=2, mode="bilinear"), [(6, 1, -3, "bound")] * 2),
        (lambda x: nn.functional.interpolate(x, (8, 8), mode="bilinear"), [(5, 4, -1, "exact")] * 2),
        (
            lambda x: nn.functional.interpolate(x, (31, 16), mode="bilinear", align_corners=True),
            [(5, 1, -2, "bound"), SAME],
        ),
        (lambda x: nn.functional.pixel_shuffle(x, 2), [(4, 1, -2, "bound")] * 2),
        (lambda x: nn.functional.pixel_unshuffle(x, 2), [(5, 4, -1, "exact")] * 2),
        (lambda x: nn.functional.pixel_unshuffle(x, 2)[:, :1], [(5, 4, -1, "bound")] * 2),
        (lambda x: nn.functional.channel_shuffle(x, 2), [SAME, SAME]),
        (lambda x: nn.functional.unfold(x, 3), [(33, None, -1, "bound")] * 2),
        (lambda x: x.unfold(2, 3, 1), [(7, 2, -1, "bound"), SAME]),
        (lambda x: x.repeat_interleave(2, 3), [SAME, (4, 1, -2, "bound")]),
        (lambda x: x.repeat(1, 1, 2, 1), [(33, None, -1, "bound"), SAME]),
        (lambda x: x.flip(2), [(33, None, -1, "bound"), SAME]),
        (lambda x: torch.roll(x, 1, 3), [SAME, (33, None, -1, "bound")]),
        (lambda x: torch.roll(x, 1, 1), [SAME, SAME]),
        (lambda x: torch.einsum("nchw,kc->nkhw", x, torch.ones(2, 8, device=x.device)), [SAME, SAME]),
        (lambda x: torch.einsum("nchw,nchw->nc", x, x), [ALL, ALL]),
        (lambda x: x.norm(dim=1), [SAME, SAME]),
        (lambda x: x.cumsum(2), [(None, None, None, "unknown")] * 2),
        (lambda x: nn.functional.group_norm(x, 2), [ALL, ALL]),
        (lambda x: nn.functional.normalize(x, dim=-1), [(3, 2, -1, "exact"), ALL]),
        (lambda x: nn.functional.layer_norm(x, [16]), [(3, 2, -1, "exact"), ALL]),
    ],
)
def test_functions_one_by_one(function, expected):
    assert last(after(function, CONV)) == expected


def test_branches_of_different_jumps_are_held_by_one_window():
    def joined(x):
        return x[:, :, ::2] + x[:, :, :8]

    assert last(after(joined, CONV)) == [(17, 2, -1, "bound"), (3, 2, -1, "exact")]  # unit 7 at 13 and at 27


def test_unknown_stays_unknown():
    network = after(lambda x: x.cumsum(2), CONV)
    network.append(nn.AdaptiveAvgPool2d(1))
    assert [field[3] for field in last(network)] == ["unknown"] * 2


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"kernel_size": 2, "stride": 2}, (4, 1, -2, "bound")),
        ({"kernel_size": 4, "stride": 2, "padding": 1}, (6, 1, -3, "bound")),
        ({"kernel_size": 3, "padding": 1, "groups": 4}, (7, 2, -3, "exact")),
        ({"kernel_size": 3, "dilation": 2}, (11, 2, -9, "exact")),
        ({"kernel_size": 1, "stride": 3}, (3, Fraction(2, 3), -1, "bound")),  # two of three units see nothing
    ],
)
def test_transposed_convolutions(settings, expected):
    assert last(nn.Sequential(CONV, nn.ConvTranspose2d(8, 8, **settings))) == [expected] * 2


def test_down_and_up_again_comes_out_in_whole_pixels():
    network = nn.Sequential(CONV, nn.ConvTranspose2d(8, 8, 2, stride=2), nn.Conv2d(8, 8, 3, stride=2))
    assert last(network) == [(6, 2, -2, "bound")] * 2
    found = trace(nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(3, 4, 3)), (3, 8, 8)).fields[-1]
    assert receptive_field_json(found) == {"size": [2.5] * 2, "jump": [0.5] * 2, "start": [-0.5] * 2, "status": "bound"}
    assert [list(found[0].field.window(unit)) for unit in range(3)] == [[0, 1], [0, 1], [1, 2]]


def test_a_rule_that_meets_what_it_does_not_foresee_says_unknown():
    def odd(x):
        return torch.einsum("n...->...n", x) + torch.where(x.flatten() > 0, 1.0, 0.0).sum()

    assert {field[3] for field in last(after(odd, CONV))} == {"unknown"}


def test_what_left_torch_may_be_in_all_that_comes_after():
    found = trace(after(lambda x: (x * 2) * x.mean().item() + x.sigmoid(), CONV), (3, 32, 32))
    statuses = [{field.status for field in fields} for fields in found.fields]
    assert statuses == [{"exact"}] * 4 + [{"unknown"}] * 3


def test_what_the_image_has_no_part_in_has_no_field():
    found = trace(after(lambda x: torch.ones(3, 3, device=x.device) * 2), (3, 8, 8))
    assert found.fields[-1] == ()


def test_one_and_three_axes():
    assert last(nn.Conv1d(2, 2, 3, padding=1), (2, 9)) == [(3, 1, -1, "exact")]
    assert last(nn.MaxPool3d(2), (1, 4, 6, 8)) == [(2, 2, 0, "exact")] * 3


class TwoViews(nn.Module):
    """Channels 0 to 3 see one pixel, channels 4 to 7 see 7x7; then ``after``."""

    def __init__(self, after):
        super().__init__()
        self.near, self.far = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 7, padding=3)
        self.after = after

    def forward(self, x):
        return self.after(torch.cat([self.near(x), self.far(x)], 1))


@pytest.mark.parametrize(
    ("after", "status"),
    [
        (lambda x: x, "exact"),  # what the channels see together
        (lambda x: x.chunk(2, 1)[0], "bound"),
        (lambda x: x[:, :4], "bound"),
        (lambda x: x.mean((2, 3))[:, :4], "bound"),
        (lambda x: (x + x.mean((2, 3), keepdim=True))[:, :4], "bound"),
        (nn.Conv2d(8, 8, 3, padding=1), "exact"),
        (nn.Conv2d(8, 8, 3, padding=1, groups=8), "bound"),
        (nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8)), "exact"),
        (lambda x: pad(x, (0, 0, 0, 0, 0, 2))[:, 8:], "bound"),
    ],
)
def test_channels_that_see_different_things_are_not_taken_apart_as_if_they_did_not(after, status):
    assert {field[3] for field in last(TwoViews(after))} == {status}


def test_a_shortcut_with_empty_channels_is_covered_by_what_is_added():
    class Shortcut(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 6, 3, padding=1)

        def forward(self, x):
            return (self.conv(x) + pad(x, (0, 0, 0, 0, 0, 3)))[:, 3:]

    assert last(Shortcut()) == [(3, 1, -1, "exact")] * 2


# --- where units stand ------------------------------------------------------------------------------------------------


class SqueezeExcite(nn.Module):
    """x times what two dense layers make of its means."""

    def __init__(self, channels):
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(channels, 2, 1), nn.Conv2d(2, channels, 1)

    def forward(self, x):
        return x * self.excite(self.squeeze(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


def test_behind_a_gate_all_units_see_the_image_and_stand_where_they_stood():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),  # size 3, jump 2, start -1
        SqueezeExcite(8),
        nn.Conv2d(8, 8, 5, stride=2, padding=1),  # size 11, jump 4, start -3
        SqueezeExcite(8),
        nn.AdaptiveAvgPool2d(1),
    )
    found = trace(network, (3, 32, 32))
    assert found.recording.names[found.last_map] == "3:mul"
    assert last(network) == [ALL, ALL]
    for name, place in (("1:mul", ReceptiveField(3, 2, -1)), ("2", ReceptiveField(11, 4, -3))):
        number = found.recording.find(name)
        assert {(field.size, field.jump, field.start, field.status) for field in found.fields[number]} == {ALL}
        assert [field.place for field in found.fields[number]] == [place, place]
        assert found.map_dims(number) == (2, 3)
    assert [list(field.clipped(unit, 32)) for unit in (0, 6) for field in found.fields[found.last_map]] == [
        list(range(32))
    ] * 4
    assert not any(field.has_places for field in found.fields[-1])


GATES = {
    "squeeze and excite": lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(),
    "context": lambda x: x + (x * x.flatten(2).softmax(-1).view_as(x)).sum((2, 3), keepdim=True),
    "one axis": lambda x: x * x.amax(3, keepdim=True),
    "normalized": lambda x: nn.functional.group_norm(x, 2),
    "not followed": lambda x: x * x.cumsum(2),
    "with itself": lambda x: x + nn.functional.instance_norm(x),
    "attention": lambda x: x + attended(x.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, x.shape[2:]),
    "weights": lambda x: nn.functional.conv2d(x, x.mean((0, 2, 3))[:, None, None, None].expand(-1, CHANNELS, 1, 1)),
}


def attended(tokens_NLC):
    return nn.functional.scaled_dot_product_attention(tokens_NLC, tokens_NLC, tokens_NLC)


@settings(max_examples=60, deadline=None)
@given(networks(), st.sampled_from(sorted(GATES)), st.data())
def test_a_gate_moves_no_unit(network, gate, data):
    shape = (1, 61, 64)
    layers = list(network)
    try:
        plain = trace(network, shape)
    except ShapeError:
        return
    at = data.draw(st.integers(1, len(layers)))
    gated = trace(nn.Sequential(*layers[:at], Lambda(GATES[gate]), *layers[at:]), shape)
    assert gated.map_dims(len(gated.operations) - 1) == plain.map_dims(len(plain.operations) - 1) == (2, 3)
    assert [field.place for field in gated.fields[-1]] == [field.field for field in plain.fields[-1]]


@pytest.mark.parametrize(
    ("function", "dims"),
    [
        (lambda x: x, (2, 3)),
        (lambda x: x.permute(0, 2, 3, 1), (1, 2)),
        (lambda x: GATES["squeeze and excite"](x).transpose(2, 3), (3, 2)),
        (lambda x: x.mean((2, 3), keepdim=True), None),
        (lambda x: x.flatten(2), None),
        (lambda x: x.flip(2), None),
        (lambda x: attended(x.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, x.shape[2:]), None),
        (lambda x: x.unflatten(1, (2, 4)), None),  # no map: more than channels besides
        (lambda x: x.permute(2, 0, 1, 3), None),
        (lambda x: torch.ones(1, 8, 16, 16, device=x.device), None),
    ],
)
def test_the_dimensions_along_which_units_lie(function, dims):
    found = trace(after(function, CONV), (3, 32, 32))
    assert found.map_dims(len(found.operations) - 1) == dims

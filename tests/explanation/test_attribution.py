"""Maps of what speaks for a class: closed forms where there are some, and geometry for where a unit stands."""

import copy
from itertools import product
from math import ceil, floor

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import assume, given, settings
from hypothesis.strategies import integers
from torch import nn

from vitreous.errors import UserError
from vitreous.explanation.attribution import grad_cam, integrated_gradients, occlusion, placed
from vitreous.geometry import ReceptiveField
from vitreous.models import build_network
from vitreous.trace import SeenField, trace

METHODS = (grad_cam, integrated_gradients, occlusion)


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def image(side=16, channels=3):
    return torch.randn(1, channels, side, side)


class Pooled(nn.Module):
    """Convolution, global average, linear: the network of which the class activation map is a closed form."""

    def __init__(self, stride=1, in_place=False):
        super().__init__()
        self.features = nn.Conv2d(3, 6, 3, stride, padding=1)
        self.classifier = nn.Linear(6, 4)
        self.in_place = in_place

    def forward(self, x):
        return self.classifier(F.relu(self.features(x), inplace=self.in_place).mean(dim=(2, 3)))


class ChannelsLast(Pooled):
    def forward(self, x):
        map_NHWC = self.features(x).permute(0, 2, 3, 1)
        return self.classifier(map_NHWC.relu().mean(dim=(1, 2)))


# --- places -----------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(*[integers(0, 4)] * 2, *[integers(1, 5)] * 3, *[integers(1, 6)] * 2)
def test_a_single_hot_unit_peaks_at_the_centre_that_geometry_gives_it(top, left, kernel, width, stride, row, column):
    network = nn.Sequential(nn.ZeroPad2d((left, 0, top, 0)), nn.Conv2d(1, 1, (kernel, width), stride))
    hot_HW = torch.zeros(network(torch.zeros(1, 1, 40, 40)).shape[2:])
    hot_HW[row, column] = 1
    drawn_HW = placed(hot_HW, trace(network, (1, 40, 40)).fields[-1], (40, 40))
    centres = (
        ReceptiveField().through(kernel, stride, top).centre(row),
        ReceptiveField().through(width, stride, left).centre(column),
    )
    assume(min(centres) >= 0)  # a unit in the padding is not seen
    nearest = product(*(sorted({floor(centre), ceil(centre)}) for centre in centres))
    peaks = (drawn_HW == drawn_HW.max()).nonzero().tolist()
    assert peaks == [list(each) for each in nearest]
    assert drawn_HW.max() == 1 or any(centre % 1 for centre in centres)


def test_the_last_map_of_a_resnet_is_drawn_from_pixel_0_on():
    network = build_network("resnet18", num_classes=5, in_channels=3, image_size=(224, 224))
    seen = trace(network, (3, 224, 224))
    ramp_HW = torch.arange(7.0).expand(7, 7)
    drawn_HW = placed(ramp_HW, seen.fields[seen.last_map], (224, 224))
    assert drawn_HW[100, :193:32].tolist() == list(range(7))
    assert drawn_HW[5, 16] == 0.5
    assert (drawn_HW[:, 192:] == 6).all()


def test_between_centres_the_map_is_that_of_torch_where_centres_are_those_of_torch():
    field = SeenField(
        4, 4, 0, "exact", ReceptiveField(4, 4, 0)
    )  # windows side by side, as interpolate takes them to be
    map_HW = torch.randn(5, 3)
    expected = F.interpolate(map_HW[None, None], (20, 12), mode="bilinear", align_corners=False)[0, 0]
    torch.testing.assert_close(placed(map_HW, [field] * 2, (20, 12)), expected)


def test_an_axis_of_one_unit_is_constant():
    fields = [SeenField(9, None, -2, "exact"), SeenField(1, 1, 0, "exact", ReceptiveField())]
    assert placed(torch.tensor([[1.0, 2, 3]]), fields, (5, 3)).tolist() == [[1, 2, 3]] * 5


def test_units_without_places_are_not_placed():
    lost = SeenField(None, None, None, "unknown")
    with pytest.raises(UserError, match="no places"):
        placed(torch.zeros(2, 2), [lost] * 2, (8, 8))


# --- Grad-CAM ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Pooled, ChannelsLast, lambda: Pooled(in_place=True)])
@pytest.mark.parametrize("target", range(4))
def test_with_global_average_and_linear_it_is_the_class_activation_map(kind, target):
    network, x = kind(), image()
    units_CHW = network.features(x)[0].relu()
    expected = torch.einsum("c,chw->hw", network.classifier.weight[target], units_CHW) / units_CHW[0].numel()
    found = grad_cam(network, x, target)
    torch.testing.assert_close(found.map_HW, expected.relu().detach())
    assert not found.is_signed


def test_frozen_parameters_change_nothing():
    network, x = Pooled(stride=2), image()
    expected = grad_cam(network, x, 1)
    found = grad_cam(network.requires_grad_(False), x, 1)
    assert torch.equal(found.map_HW, expected.map_HW)
    assert (found.grain, found.layer) == (2, "relu")


def test_a_layer_is_found_by_its_name_or_number():
    network, x = Pooled(), image()
    found = grad_cam(network, x, 2, layer="features")
    assert found.layer == "features"
    assert torch.equal(found.map_HW, grad_cam(network, x, 2, layer=1).map_HW)
    assert not torch.equal(found.map_HW, grad_cam(network, x, 2).map_HW)


def test_an_empty_map_says_so():
    network = Pooled()
    nn.init.constant_(network.classifier.weight, -1)
    found = grad_cam(network, image(), 0)
    assert not found.map_HW.any()
    assert "empty" in found.note


class Gated(nn.Module):
    """Scales the channels by their means, after which every unit has seen the whole image."""

    def forward(self, x):
        return x * x.mean(dim=(2, 3), keepdim=True).sigmoid()


def test_behind_gates_the_last_map_is_still_the_last_and_drawn_where_its_units_stand():
    def network(*gate):
        return nn.Sequential(nn.Conv2d(3, 8, 3, 2, padding=1), *gate, nn.Conv2d(8, 3, 3, 2), *gate, Pooled(stride=2))

    x = image(64)
    gated, plain = network(Gated()), network()
    found = grad_cam(gated, x, 0)
    assert (found.layer, found.grain, found.note) == ("4:relu", 8, "")
    map_HW = torch.randn(8, 8)
    fields, expected = (trace(each, (3, 64, 64)).fields for each in (gated, plain))
    assert [field.jump for field in fields[-3]] == [None, None]
    assert torch.equal(placed(map_HW, fields[-3], (64, 64)), placed(map_HW, expected[-3], (64, 64)))


def test_where_the_last_layers_have_no_places_the_map_says_that_it_is_an_earlier_one():
    class Turned(nn.Module):
        def forward(self, x):
            return x.flip(2, 3)

    network = nn.Sequential(nn.Conv2d(3, 3, 3), Turned(), Pooled())
    found = grad_cam(network, image(), 0)
    assert (found.layer, found.note) == (
        "0",
        "layers with maps come after this one, but their units have no places on the image",
    )
    assert grad_cam(network, image(), 0, "0").note == grad_cam(Pooled(), image(), 0).note == ""


def one_unit():
    return nn.Sequential(nn.Conv2d(3, 4, 5), nn.ReLU(), nn.Conv2d(4, 5, 12), nn.Flatten())


class Aside(Pooled):
    def forward(self, x):
        self.features(x).sum()
        return self.classifier(x.repeat(1, 2, 1, 1).mean(dim=(2, 3)))


@pytest.mark.parametrize(
    ("network", "layer", "message"),
    [
        (one_unit(), None, "2 has a single unit, .* give layer='1', which has 12x12"),
        (one_unit(), "3", "3 has no units that lie on the image; give layer='1'"),
        (nn.Sequential(nn.Flatten(), nn.Linear(768, 4)), None, "no layer whose units lie on the image; use integr"),
        (nn.Sequential(nn.Flatten(), nn.Linear(768, 4)), "1", "1 has no units .*; use integrated_gradients or occl"),
        (Pooled(), "feature", "no layer 'feature'; did you mean 'features'"),
        (Pooled(), 17, "no operation 17; this network runs 5"),
        (Aside(), "features", "features has no part in the logit of class 1"),
    ],
)
def test_what_has_no_map_is_refused_with_a_way_out(network, layer, message):
    with pytest.raises(UserError, match=message):
        grad_cam(network, image(), 1, layer)


# --- integrated gradients ---------------------------------------------------------------------------------------------


def test_of_a_linear_network_it_is_gradient_times_input():
    network, x = nn.Sequential(nn.Flatten(), nn.Linear(768, 4)), image()
    found = integrated_gradients(network, x, 3, steps=1)
    expected = (network[1].weight[3].reshape(3, 16, 16) * x[0]).sum(dim=0).detach()
    torch.testing.assert_close(found.map_HW, expected)
    assert abs(found.completeness_error) < 1e-5
    assert found.is_signed


def test_of_a_polynomial_it_is_exact_pixel_by_pixel():
    class Cubic(nn.Module):
        def forward(self, x):
            return (x**3).flatten(2).sum(dim=2)

    x, blank = image(4).double(), image(4).double()
    found = integrated_gradients(Cubic(), x, 1, steps=2, baseline=blank)
    torch.testing.assert_close(found.map_HW, (x**3 - blank**3)[0, 1])


def smooth():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.Softplus(), nn.Conv2d(6, 8, 3, 2), nn.Tanh(), nn.Flatten(), nn.LazyLinear(4)
    )


@settings(max_examples=10, deadline=None)
@given(integers(0, 3), integers(-1, 1))
def test_of_a_smooth_network_it_is_complete(target, baseline):
    torch.manual_seed(target)
    network, x = smooth(), image()
    network(x)
    found = integrated_gradients(network, x, target, baseline=baseline)
    change = (network(x) - network(torch.full_like(x, baseline)))[0, target].item()
    assert abs(found.map_HW.sum().item() - change) < 1e-3
    assert abs(found.completeness_error) < 1e-3


def test_its_error_is_told_where_there_are_too_few_steps():
    class Step(nn.Module):
        def forward(self, x):
            return (x.mean(dim=(1, 2, 3)) - 0.8).relu()[:, None]

    found = integrated_gradients(Step(), torch.ones(1, 3, 4, 4), 0, steps=2)
    assert found.completeness_error == pytest.approx(0.5 - 0.2 - 0.5)  # seen at 0.21 and 0.79: it never rises
    assert abs(integrated_gradients(Step(), torch.ones(1, 3, 4, 4), 0, steps=200).completeness_error) < 0.01


def test_batches_change_nothing(monkeypatch):
    network, x = Pooled(), image()
    expected = integrated_gradients(network, x, 1).map_HW, occlusion(network, x, 1).logit.map_HW
    monkeypatch.setattr("vitreous.explanation.attribution.PIXELS_AT_ONCE", 5 * 256)
    found = integrated_gradients(network, x, 1).map_HW, occlusion(network, x, 1).logit.map_HW
    torch.testing.assert_close(found, expected)


def test_without_gradients_the_way_out_is_occlusion():
    class Counting(nn.Module):
        def forward(self, x):
            return (x > 0).float().mean(dim=(2, 3))

    with pytest.raises(UserError, match="use occlusion"):
        integrated_gradients(Counting(), image(), 0)
    assert occlusion(Counting(), image(), 0).logit.map_HW.abs().max() > 0


# --- occlusion --------------------------------------------------------------------------------------------------------


class OneBlock(nn.Module):
    """Class 0 is the sum of the block at rows 4 to 7, columns 8 to 11; class 1 its opposite; class 2 nothing."""

    def forward(self, x):
        total_N = x[:, 0, 4:8, 8:12].sum(dim=(1, 2))
        return torch.stack([total_N, -total_N, 0 * total_N], dim=1)


@pytest.mark.parametrize(("target", "fall"), [(0, 8.0), (1, -8.0), (2, 0.0)])
def test_a_network_that_reads_one_block_falls_there_and_nowhere_else(target, fall):
    x = torch.full((1, 3, 16, 16), 0.5)
    expected = torch.zeros(16, 16)
    expected[4:8, 8:12] = fall
    found = occlusion(OneBlock(), x, target, window=4, stride=4)
    assert torch.equal(found.logit.map_HW, expected)
    assert (found.probability.map_HW != 0).sum() == 16 or target == 2
    before = OneBlock()(x).softmax(dim=1)[0, target]
    assert found.probability.map_HW[5, 9].item() == pytest.approx(before.item() - 1 / 3)


def test_squares_that_overlap_are_averaged_over_the_squares():
    class OnePixel(nn.Module):
        def forward(self, x):
            return x[:, 0, 0, 3:4]

    found = occlusion(OnePixel(), torch.ones(1, 1, 2, 7), 0, window=2, stride=1).logit.map_HW
    assert found[0].tolist() == found[1].tolist() == [0, 0, 0.5, 1, 0.5, 0, 0]


def test_the_far_end_is_covered():
    class Last(nn.Module):
        def forward(self, x):
            return x[:, :, -1, -1]

    found = occlusion(Last(), torch.ones(1, 3, 10, 11), 0, window=4, stride=4, baseline=-1).logit
    assert found.map_HW[-1, -1] == 2
    assert found.map_HW[:6].abs().max() == found.map_HW[:, :7].abs().max() == 0


@pytest.mark.parametrize(("window", "stride"), [(17, 1), (0, 1), (4, 5), (4, 0)])
def test_squares_that_leave_pixels_out_are_refused(window, stride):
    with pytest.raises(UserError, match="do not cover an image of 16x16"):
        occlusion(OneBlock(), image(), 0, window, stride)


# --- all of them ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_the_network_is_left_as_it_was_found(method):
    network = build_network("resnet18", num_classes=4, in_channels=3, image_size=(32, 32))
    network.layer1.eval()
    network.conv1.requires_grad_(False)
    network(image(64)).sum().backward()
    network.register_forward_hook(lambda *_: None)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    gradients = {n: copy.deepcopy(p.grad) for n, p in network.named_parameters()}
    flags = [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for m in network.modules()]
    asking = [p.requires_grad for p in network.parameters()]
    x, random = image(32), torch.get_rng_state()
    kept = x.clone()
    method(network, x, 1, **({"layer": "layer2"} if method is grad_cam else {}))
    assert flags == [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for m in network.modules()]
    assert asking == [p.requires_grad for p in network.parameters()]
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(
        p.grad is gradients[n] is None or torch.equal(p.grad, gradients[n]) for n, p in network.named_parameters()
    )
    assert torch.equal(x, kept)
    assert not x.requires_grad
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("method", METHODS)
def test_a_network_may_write_into_its_input(method):
    network = nn.Sequential(nn.ReLU(inplace=True), Pooled())
    pure = nn.Sequential(nn.ReLU(), network[1])
    found, expected = method(network, image(), 1), method(pure, image(), 1)
    assert type(found) is type(expected)
    torch.manual_seed(1)
    x = image()
    kept = x.clone()
    maps = [method(each, x, 1) for each in (network, pure)]
    maps = [(each if isinstance(each, tuple) else (each,))[0].map_HW for each in maps]
    torch.testing.assert_close(*maps)
    assert torch.equal(x, kept)


@pytest.mark.parametrize("method", METHODS)
def test_a_class_that_does_not_exist_is_refused(method):
    with pytest.raises(UserError, match="no class 4; the network's 4 logits are counted from 0"):
        method(Pooled(), image(), 4)


@pytest.mark.parametrize("method", METHODS)
def test_a_network_without_a_row_of_logits_is_refused(method):
    with pytest.raises(UserError, match=r"the network gives a tensor of \(\d+, 4, 16, 16\)"):
        method(nn.Conv2d(3, 4, 3, padding=1), image(), 0)

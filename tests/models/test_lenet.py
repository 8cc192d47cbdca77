"""LeNet-5: the paper's counts, its sparse third layer, its codes; and that both forms learn."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vitreous.models import build_network
from vitreous.models.lenet import C3_INPUTS, RadialBasis, ScaledTanh, SparseConv, Subsampling, class_codes

DIGIT_NAMES = list("0123456789")


def lenet(name, classes=None, num_classes=10, in_channels=1):
    return build_network(name, num_classes=num_classes, in_channels=in_channels, image_size=(32, 32), classes=classes)


def num_parameters(module):
    return sum(weights.numel() for weights in module.parameters())


def test_todays_form_has_the_known_counts():
    network = lenet("lenet5")
    with FlopCounterMode(display=False) as flops:
        network(torch.zeros(1, 1, 32, 32))
    assert num_parameters(network) == 61_706
    assert flops.get_total_flops() == 2 * 416_520


def test_the_published_form_has_the_papers_counts():
    network = lenet("lenet5-1998")
    counts = {name: num_parameters(module) for name, module in network.named_children() if num_parameters(module)}
    assert counts == {"c1": 156, "s2": 12, "c3": 1_516, "s4": 32, "c5": 48_120, "f6": 10_164}
    assert sum(counts.values()) == 60_000


@pytest.mark.parametrize("name", ["lenet5", "lenet5-1998"])
def test_maps_have_the_papers_sizes(name):
    network, shapes = lenet(name), {}
    for layer in ("c1", "s2", "c3", "s4", "c5", "f6"):
        network.get_submodule(layer).register_forward_hook(
            lambda _module, _inputs, output, layer=layer: shapes.update({layer: tuple(output.shape[1:])})
        )
    assert network(torch.zeros(2, 1, 32, 32)).shape == (2, 10)
    assert shapes == {
        "c1": (6, 28, 28),
        "s2": (6, 14, 14),
        "c3": (16, 10, 10),
        "s4": (16, 5, 5),
        "c5": (120, 1, 1),
        "f6": (84,),
    }


def test_table_1_of_the_paper():
    """Rows are maps of S2, columns maps of C3."""
    table = [
        "X...XXX..XXXX.XX",
        "XX...XXX..XXXX.X",
        "XXX...XXX..X.XXX",
        ".XXX..XXXX..X.XX",
        "..XXX..XXXX.XX.X",
        "...XXX..XXXX.XXX",
    ]
    assert [tuple(s2 for s2 in range(6) if table[s2][c3] == "X") for c3 in range(16)] == list(C3_INPUTS)


def test_sparse_convolution_is_a_small_convolution_per_output_map():
    conv, x = SparseConv(C3_INPUTS), torch.randn(2, 6, 14, 14)
    nn.init.normal_(conv.weight)
    nn.init.normal_(conv.bias)
    y = conv(x)
    kernels = conv.weight.split([len(seen) for seen in C3_INPUTS])
    for out, (seen, kernel) in enumerate(zip(C3_INPUTS, kernels, strict=True)):
        assert y[:, [out]].allclose(F.conv2d(x[:, list(seen)], kernel[None], conv.bias[[out]]), atol=1e-4)


def test_sparse_convolution_trains_only_its_connections():
    conv = SparseConv(C3_INPUTS)
    nn.init.ones_(conv.weight)
    assert conv.dense_weight().sum() == 60 * 25
    assert set(conv.state_dict()) == {"weight", "bias"}


def test_subsampling_adds_four_inputs():
    layer = Subsampling(1)
    nn.init.constant_(layer.coefficient, 0.5)
    nn.init.constant_(layer.bias, -1)
    assert layer(torch.tensor([[[[1.0, 3.0], [2.0, 4.0]]]])).item() == 0.5 * 10 - 1


def test_scaled_tanh_maps_one_to_one():
    assert ScaledTanh()(torch.tensor([-1.0, 0.0, 1.0])).tolist() == pytest.approx([-1, 0, 1], abs=1e-4)


def test_first_weights_stay_within_the_papers_bounds():
    network = lenet("lenet5-1998")
    assert 0.09 < network.c1.weight.abs().max() <= 2.4 / 25
    first_kernels = network.c3.weight[:3].abs().max()  # C3's map 0 has fan-in 3 * 25
    assert 0.025 < first_kernels <= 2.4 / 75
    assert 0.2 < network.s2.coefficient.abs().max() <= 2.4 / 4


# --- the output ---


def test_digits_have_the_papers_pictures_in_the_order_of_the_classes():
    codes = class_codes(10, DIGIT_NAMES)
    assert codes.shape == (10, 84)
    assert codes.abs().eq(1).all()
    one = ["".join("#" if dot > 0 else "." for dot in row) for row in codes[1].view(12, 7)]
    assert one[:3] == ["...##..", "..###..", ".####.."]
    assert class_codes(2, ["7", "1"]).equal(codes[[7, 1]])


def test_the_ten_pictures_differ_in_many_dots():
    codes = class_codes(10, DIGIT_NAMES)
    distances = (codes[:, None] != codes).sum(dim=-1)
    assert distances[~torch.eye(10, dtype=torch.bool)].min() >= 5


def test_other_classes_have_codes_that_follow_from_the_seed():
    one, same = (lenet("lenet5-1998", classes=["cat", "dog", "owl"], num_classes=3) for _ in range(2))
    assert one.output.codes.shape == (3, 84)
    assert one.output.codes.abs().eq(1).all()
    assert one.output.codes.equal(same.output.codes)


def test_codes_are_saved_but_not_trained():
    network = lenet("lenet5-1998", classes=DIGIT_NAMES)
    assert "output.codes" in network.state_dict()
    assert not list(network.output.parameters())


def test_logits_are_minus_the_squared_distance():
    codes = torch.tensor([[1.0, 1.0], [-1.0, 1.0]])
    assert RadialBasis(codes)(torch.tensor([[1.0, 0.0]])).tolist() == [[-1.0, -5.0]]


@pytest.mark.parametrize("name", ["lenet5", "lenet5-1998"])
def test_it_learns_to_read_digits(name):
    digits = load_digits()
    images = F.interpolate(torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1, (32, 32))
    labels = torch.tensor(digits.target)
    network = lenet(name, classes=DIGIT_NAMES)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.003)
    for start in 10 * list(range(0, 1200, 60)):
        loss = F.cross_entropy(network(images[start : start + 60]), labels[start : start + 60])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        accuracy = (network(images[1200:]).argmax(dim=1) == labels[1200:]).float().mean().item()
    assert accuracy > 0.85

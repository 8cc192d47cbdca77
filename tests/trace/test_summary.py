"""Rows, totals and formulas of a summary, beside torch and numbers worked out by hand."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import nn

from vitreous.trace import trace
from vitreous.trace.formulas import reasons
from vitreous.trace.summary import COLUMNS, Summary, rows_of
from vitreous.trace.windows import padding_share, windows_of
from vitreous.workflow.networks import summary


def summary_of(network, shape):
    return Summary("network", shape, trace(network, shape))


def test_rows_are_those_of_the_article_s_second_example():
    found = summary("conv64 pool conv128 gap fc")
    conv1, relu, pool, conv2 = found.layers[:4]
    assert (conv1.path, conv1.op, conv1.output_shape, conv1.params) == ("conv1.conv", "conv2d", (64, 224, 224), 1792)
    assert (relu.op, pool.output_shape, conv2.params) == ("relu", (64, 112, 112), 73_856)


def test_the_document_has_the_keys_that_others_rely_on():
    document = summary("resnet50").to_json()
    assert (document["model"], document["input"]) == ("resnet50", [3, 224, 224])
    assert (document["params"], document["macs"], document["flops"]) == (25_557_032, 4_089_184_256, 8_178_368_512)
    assert document["receptive_field"]["size"] == [427, 427]
    conv1 = document["layers"][0]
    assert (conv1["path"], conv1["op"], conv1["output_shape"]) == ("conv1", "conv2d", [64, 112, 112])
    assert conv1["receptive_field"] == {
        "size": [7, 7],
        "jump": [2, 2],
        "start": [-3, -3],
        "status": "exact",
        "centre": [0, 0],
        "clipped": {"start": [0, 0], "size": [4, 4]},
    }
    pooled = next(layer for layer in document["layers"] if layer["path"] == "avgpool")["receptive_field"]
    assert (pooled["size"], pooled["jump"]) == ([427 + 6 * 32] * 2, None)  # r + (n - 1) j
    assert sum(layer["params"] for layer in document["layers"]) == document["params"]
    assert sum(layer["macs"] for layer in document["layers"]) == document["macs"]


def test_folded_rows_sum_up_to_the_whole():
    found = summary("resnet18")
    rows = found.folded(1)
    assert [row.path for row in rows] == [
        *("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "flatten", "fc"),
    ]
    assert sum(row.params for row in rows) == found.trace.parameters
    assert sum(row.macs for row in rows) == found.trace.macs
    assert rows[7].output_shape == (512, 7, 7)
    assert [field.size for field in rows[7].fields] == [435, 435]
    assert len(found.folded(2)) > len(rows)


def test_a_row_of_csv_has_a_value_for_each_column():
    rows = list(rows_of(summary("lenet5").layers))
    assert {len(row) for row in rows} == {len(COLUMNS)}
    first = dict(zip(COLUMNS, rows[0], strict=True))
    assert (first["params"], first["field_height"], first["status"]) == (156, 5, "exact")


def test_the_first_layer_whose_field_is_wider_than_the_image_is_named():
    assert summary("resnet50").outgrown == "layer3.4.conv2"
    assert summary("alexnet").outgrown is None


@settings(max_examples=60, deadline=None)
@given(
    size=some.integers(1, 20),
    kernel=some.integers(1, 5),
    stride=some.integers(1, 4),
    padding=some.integers(0, 3),
    dilation=some.integers(1, 3),
)
def test_taps_on_padding_are_those_that_meet_zeros(size, kernel, stride, padding, dilation):
    import torch

    network = nn.Conv2d(1, 1, kernel, stride=stride, padding=padding, dilation=dilation, bias=False)
    if dilation * (kernel - 1) + 1 > size + 2 * padding:
        return
    nn.init.ones_(network.weight)
    inside = int(network(torch.ones(1, 1, size, size)).sum())  # each tap on the input counts one
    windows = windows_of(trace(network, (1, size, size)).operations[1])
    units = windows[0].units
    assert padding_share(windows) == pytest.approx(1 - inside / (units * kernel) ** 2)


class Gate(nn.Module):
    def __init__(self, gate):
        super().__init__()
        self.gate = gate

    def forward(self, x):
        return x * self.gate(x)


def gated(gate):
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), Gate(gate), nn.Conv2d(8, 8, 5, 2, 1), nn.Flatten())


def test_behind_a_gate_a_unit_sees_all_and_its_centre_is_where_it_stands():
    found = summary_of(gated(lambda x: x.mean((2, 3), keepdim=True)), (3, 32, 32))
    assert found.to_json()["receptive_field"] == {
        **{"size": [33, 33], "jump": None, "start": [-1, -1], "status": "exact", "centre": [2, 2]},
        "clipped": {"start": [0, 0], "size": [32, 32]},
    }
    assert found.outgrown is None
    assert dict(reasons(found.trace, 4))["receptive field"].startswith("33 x 33, as before")
    found = summary_of(gated(lambda x: x.cumsum(2)), (3, 32, 32))
    assert found.to_json()["receptive_field"] == {
        **dict.fromkeys(("size", "jump", "start", "clipped")),
        **{"status": "unknown", "centre": [2, 2]},
    }


# --- formulas ---------------------------------------------------------------------------------------------------------


def told(network, shape, number=1):
    return dict(reasons(trace(network, shape), number))


def test_a_formula_has_its_numbers_in_it():
    lines = told(nn.Conv2d(3, 64, 7, stride=2, padding=3), (3, 224, 224))
    assert lines["height and width"].startswith("(224 - 7 + 2*3)/2 + 1 = 112")
    assert lines["receptive field"] == "r = 1 + (7 - 1)*1 = 7; jump = 1*2 = 2; first unit starts at 0 - 3*1 = -3"
    assert lines["parameters"] == "64*3*7*7 + 64 = 9,472"
    assert lines["MACs"] == "64 * 112 * 112 * (3 * 7 * 7) = 118,013,952; 236,027,904 FLOPs"


@settings(max_examples=80, deadline=None)
@given(
    size=some.integers(3, 30),
    kernel=some.integers(1, 5),
    stride=some.integers(1, 4),
    padding=some.integers(0, 2),
    dilation=some.integers(1, 2),
)
def test_the_formula_of_the_size_is_right_when_it_is_worked_out(size, kernel, stride, padding, dilation):
    if dilation * (kernel - 1) + 1 > size + 2 * padding:
        return
    network = nn.Conv2d(1, 1, kernel, stride=stride, padding=padding, dilation=dilation)
    formula, _, rest = told(network, (1, size, size))["height and width"].partition(" = ")
    units = trace(network, (1, size, size)).operations[1].outputs[0][2]
    assert rest.split(",")[0] == str(units)
    quotient, _, one = formula.rpartition(" + ")
    assert one == "1"
    numerator, _, divisor = quotient.rpartition("/")
    worked_out = _value(numerator.removeprefix("(").removesuffix(")"))
    assert math.floor(worked_out / int(divisor)) + 1 == units


def _value(text):
    """Sums and products of whole numbers, with one level of brackets."""
    if "(" in text:
        before, _, rest = text.partition("(")
        inner, after, depth = "", "", 1
        for place, character in enumerate(rest):
            depth += (character == "(") - (character == ")")
            if depth == 0:
                inner, after = rest[:place], rest[place + 1 :]
                break
        return _value(f"{before}{_value(inner)}{after}")
    total = 0
    for term in text.replace(" - ", " + -").split(" + "):
        total += math.prod(int(factor) for factor in term.replace("--", "").split("*"))
    return total


def test_what_is_unknown_says_where_it_began():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3)
            self.last = nn.Conv2d(4, 2, 3)

        def forward(self, x):
            y = self.conv(x)
            return self.last(y.cumsum(dim=2))

    found = trace(Odd(), (1, 12, 12))
    assert "cumsum" in dict(reasons(found, len(found.operations) - 1))["receptive field"]


def test_the_set_of_pixels_is_told_beside_its_hull():
    network = nn.Sequential(nn.Conv2d(1, 1, 3, dilation=2), nn.ReLU(), nn.Conv2d(1, 2, (1, 3)))
    lines = reasons(trace(network, (1, 16, 16)), 1)
    told_by = dict(lines)
    assert "sees 9 of the image: rows 6-10, columns 6-10, 16 holes" in told_by["pixels"]
    assert [line for name, line in lines if name == ""] == [
        "# . # . #",
        ". . . . .",
        "# . # . #",
        ". . . . .",
        "# . # . #",
    ]
    assert told_by["reached by"] == "the image's middle pixel: 9 of 144 numbers"
    assert "no holes" in told(nn.Conv2d(1, 1, 3, padding=1), (1, 8, 8))["pixels"]

"""A sum as text; what the command needs a run for stands in tests/integration/test_explain.py."""

import math
import shlex

import pytest
import torch
from torch import nn

from vitreous.cli.explain import sum_lines
from vitreous.explanation.arithmetic import explain_number
from vitreous.trace.values import record_values


def text_of(network, image, layer, at, top=3):
    return list(
        sum_lines(explain_number(record_values(network, image), layer, at), top, "vitreous explain r 'a b.png'")
    )


def sum_of(formula):
    """The value of "a + b*c + (-d)*(-e)"."""
    terms = formula.translate(str.maketrans("", "", "()")).split(" + ")
    return sum(math.prod(map(float, term.split("*"))) for term in terms)


def test_the_formula_and_the_table_add_up_to_the_total():
    torch.manual_seed(0)
    lines = text_of(nn.Conv2d(2, 1, 3, padding=1), torch.randn(1, 2, 4, 4), "conv2d", (0, 0, 3))
    total, formula = lines[2].removesuffix(" (the other 15)").split(" = ")
    assert sum_of(formula) == pytest.approx(float(total), abs=2e-3)
    assert sum(line.startswith("    channel") for line in lines) == 2
    assert "  terms, the largest first (18 in all, 10 of them on padding, which are zeros)" in lines
    shown = [line for line in lines if "input at" in line and " * " in line]
    assert len(shown) == 3
    for line in shown:
        product, _, weight, _, activation = line.split()[:5]
        assert float(product) == pytest.approx(float(weight) * float(activation), rel=1e-6)
    (rest,) = [line for line in lines if line.startswith("    ... and 15 more")]
    products = sum(float(line.split()[0]) for line in shown) + float(rest.split()[-2])
    bias = float(next(line for line in lines if line.startswith("  bias")).split()[-1])
    assert products + bias == pytest.approx(float(total), abs=1e-4)


def test_channels_of_one_term_each_are_not_listed_twice():
    lines = text_of(nn.Conv2d(4, 1, 1), torch.randn(1, 4, 2, 2), "conv2d", (0, 0, 0))
    assert not any("by input channel" in line for line in lines)
    assert "  terms, the largest first (4 in all)" in lines


def test_the_way_on_is_quoted_for_a_shell():
    class Second(nn.Module):
        def forward(self, x):
            return x.chunk(2, 1)[1] * 2

    words = shlex.split(text_of(Second(), torch.ones(1, 4, 2, 2), "mul", (1, 0, 1))[-1])
    assert words[-8:] == ["vitreous", "explain", "r", "a b.png", "--layer", "chunk[1]", "--at", "1,0,1"]


def test_a_pixel_is_where_every_explanation_ends():
    assert text_of(nn.ReLU(), torch.full((1, 1, 2, 2), 0.5), "input", (0, 1, 1)) == [
        "input at 0,1,1 = 0.5",
        "  input: the network's input, where every explanation ends",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "image.png", "--layer", "conv1", "--class", "dog"), "leave them away"),
        (("run", "image.png", "--layer", "conv1", "--at", "1,2,3", "--out", "new"), "leave them away"),
        (("run", "image.png", "--call", "1"), "--call 1 is a run of a layer"),
        (("run", "image.png", "--layer", "conv1", "--at", "1,,2"), "no place"),
        (("run", "image.png", "--layer", "conv1", "--at", "٣,1,2"), "no place"),
    ],
)
def test_what_does_not_go_together_is_refused(cli, words, said):
    status, _, err = cli("explain", *words)
    assert status == 2
    assert said in err

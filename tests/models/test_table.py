"""Every name in the table builds; what is not in it is refused with the nearest name."""

import json
import runpy
from pathlib import Path

import pytest
import torch

from vitreous.cli import run_command
from vitreous.errors import ConfigError, PatternError, ShapeError
from vitreous.geometry import conv_output_size, pool_output_size
from vitreous.models import ARCHITECTURES, build_network, check_network, is_pattern
from vitreous.workflow.networks import list_models


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_name_builds(name):
    in_channels, height, width = ARCHITECTURES[name].input
    with torch.device("meta"):
        network = build_network(name, num_classes=7, in_channels=in_channels, image_size=(height, width))
        assert network(torch.empty(1, in_channels, height, width)).shape == (1, 7)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_row_is_filled_in_and_under_its_own_name(name):
    row = ARCHITECTURES[name]
    assert row.name == name
    assert all((row.target, row.year, row.depth, row.idea, row.source))
    row.check(row.input[1:])


@pytest.mark.parametrize("side", range(24, 44))
@pytest.mark.parametrize("name", ["lenet5", "lenet5-1998"])
def test_lenet_takes_the_sides_from_which_s4_is_5x5(name, side):
    s4 = pool_output_size(conv_output_size(pool_output_size(conv_output_size(side, 5), 2), 5), 2)
    data = {"num_classes": 2, "in_channels": 1, "image_size": (32, side)}
    if s4 == 5:
        check_network(name, **data)
    else:
        with pytest.raises(
            ShapeError, match=rf"{name} takes .* 32 to 35 px \(C5, .*\), not 32x{side}; scale .* --image-size 32"
        ):
            check_network(name, **data)


@pytest.mark.parametrize(("name", "reason"), [("lenet6", "did you mean lenet5"), ("foo", "`vitreous models` lists")])
def test_unknown_names_are_refused(name, reason):
    with pytest.raises(ConfigError, match=f"there is no network named '{name}'; {reason}"):
        build_network(name, num_classes=2, in_channels=3, image_size=(32, 32))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("lenet5-1998", False),
        ("resnet18", False),
        ("conv64", True),
        ("CONV64 pool", True),
        ("res[conv8]", True),
        ("cnv64 fc", True),
        ("fc", True),
        ("", True),
    ],
)
def test_a_line_is_told_from_a_name(model, expected):
    assert is_pattern(model) is expected


def test_patterns_are_checked_before_they_are_built():
    with pytest.raises(PatternError, match="pool at word 2"):
        build_network("pool pool fc", num_classes=2, in_channels=3, image_size=(3, 3))


# --- what was published, and what the table says of it ----------------------------------------------------------------


def test_the_page_of_the_architectures_is_what_the_code_says():
    root = Path(__file__).parent.parent.parent
    page = runpy.run_path(str(root / "scripts" / "make_architectures_page.py"))["architectures_page"]()
    written = (root / "docs" / "architectures.md").read_text(encoding="utf-8")
    assert page == written, "run python scripts/make_architectures_page.py"


# The first of each row, copied from the papers' tables once more.
ERRORS = {
    "lenet5-1998": (0.95, "top-1", "MNIST test"),
    "alexnet": (18.2, "top-5", "ImageNet 2012 validation"),
    "vgg16": (7.2, "top-5", "ImageNet 2012 validation"),
    "vgg19": (7.1, "top-5", "ImageNet 2012 validation"),
    "resnet34": (5.71, "top-5", "ImageNet 2012 validation"),
    "resnet50": (5.25, "top-5", "ImageNet 2012 validation"),
    "resnet101": (4.60, "top-5", "ImageNet 2012 validation"),
    "resnet152": (4.49, "top-5", "ImageNet 2012 validation"),
    "resnet20-cifar": (8.75, "top-1", "CIFAR-10 test"),
    "resnet56-cifar": (6.97, "top-1", "CIFAR-10 test"),
    "resnet110-cifar": (6.43, "top-1", "CIFAR-10 test"),
    "mobilenet_v2": (28.0, "top-1", "ImageNet"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_published_errors(name):
    first = ARCHITECTURES[name].published[0]
    assert (first.error_percent, first.measure, first.data) == ERRORS[name]
    assert first.num_networks == 1  # what an ensemble reached is never a network's


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_was_published_says_where(name):
    for published in ARCHITECTURES[name].published:
        assert published.where.startswith(("table", "section"))
        assert published.how
        assert published.data


def test_variants_of_the_libraries_do_not_claim_the_papers_errors():
    forms = {name: {each.is_this_form for each in row.published} for name, row in ARCHITECTURES.items()}
    assert forms["resnet50"] == forms["resnet152"] == forms["alexnet"] == forms["lenet5"] == {False}
    assert forms["resnet50-paper"] == forms["resnet34"] == forms["vgg16"] == forms["lenet5-1998"] == {True}
    assert forms["vgg16_bn"] == forms["plain20-cifar"] == set()


def test_the_list_of_models_has_what_others_rely_on():
    (row,) = list_models("resnet50")
    assert row["parameters"] == 25_557_032
    assert row["macs"] == row["computed_macs"] == 4_089_184_256
    assert row["receptive_field"] == {"size": [427, 427], "jump": [32, 32], "start": [-213, -213], "status": "exact"}
    assert row["input"] == "3x224x224"
    assert row["published"][0]["error_percent"] == 5.25
    (lenet,) = list_models("lenet5-1998")
    assert (lenet["macs"], lenet["computed_macs"]) == (326_520, 415_680)
    assert lenet["receptive_field"]["jump"] is None


def test_the_command_prints_the_table(capsys):
    assert run_command(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2 : 2 + len(ARCHITECTURES)]] == list(ARCHITECTURES)
    (resnet50,) = (line for line in lines if line.startswith("resnet50 "))
    for fact in ("2015", " 50 ", "25,557,032", "4.09 G", "427 px, jump 32", "5.25 % top-5 *", "stride on the 3x3"):
        assert fact in resnet50
    assert max(map(len, lines)) <= 160


def test_the_command_prints_one_network_in_full(capsys):
    assert run_command(["models", "lenet5-1998"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for fact in ("60,000", "326,520", "415,680", "0.95 %", "LeCun", "section III.B", "1x32x32"):
        assert fact in text
    assert run_command(["models", "plain20-cifar", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["models"]
    assert row["published"] == []


def test_a_wrong_name_is_refused_with_the_nearest(capsys):
    assert run_command(["models", "resnet51"]) == 2
    assert "did you mean resnet50" in capsys.readouterr().err

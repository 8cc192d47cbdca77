"""``vitreous summary`` and ``vitreous check`` as a person types them."""

import json
import subprocess
import sys
import time

import pytest

from vitreous.cli import run_command
from vitreous.training.recipe import default_pattern


def answer(capsys, *arguments):
    status = run_command(arguments)
    said = capsys.readouterr()
    return status, said.out, said.err


def test_summary_tells_a_row_per_layer_and_the_totals(capsys):
    status, out, _ = answer(capsys, "summary", "resnet50")
    assert status == 0
    row = next(line for line in out.splitlines() if line.startswith("layer4.2.conv2 "))
    assert row.split()[1:8] == ["conv2d", "512", "x", "7", "x", "7", "2,359,296"]
    assert row.split()[8:] == ["115,605,504", "98.0", "427", "32", "18.1%"]
    assert "25,557,032 parameters" in out
    assert "4,089,184,256 MACs = 8,178,368,512 FLOPs" in out
    assert "a unit's field is wider than the image" in out


def test_summary_says_why(capsys):
    _, out, _ = answer(capsys, "summary", "resnet50", "--why", "conv1")
    assert "(224 - 7 + 2*3)/2 + 1 = 112" in out
    _, out, _ = answer(capsys, "summary", "resnet50", "--why", "layer1.0:add")
    assert "19 x 19" in out


def test_summary_as_json_and_csv(capsys):
    _, out, _ = answer(capsys, "summary", "lenet5", "--json")
    assert json.loads(out)["params"] == 61_706
    _, out, _ = answer(capsys, "summary", "lenet5", "--csv")
    assert out.splitlines()[0].startswith("path,call,op,output_shape,params,macs")


def test_summary_of_a_pattern_a_file_and_other_sizes(capsys, tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\ndef make(num_classes, in_channels=3):\n"
        "    return nn.Sequential(nn.Conv2d(in_channels, 4, 3), nn.Flatten(), nn.LazyLinear(num_classes))\n"
        "\ndef good(num_classes, in_channels=3):\n"
        "    return nn.Sequential(nn.Conv2d(in_channels, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),"
        " nn.Linear(4, num_classes))\n"
    )
    status, out, _ = answer(capsys, "summary", f"{tmp_path}/net.py:good", "--input", "1x12x12", "--classes", "7")
    assert status == 0
    assert "7" in out
    status, out, _ = answer(capsys, "summary", "conv8 pool conv16 gap fc", "--input", "3x40x30", "--classes", "4")
    assert "8 x 40 x 30" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("resnet51",), "did you mean resnet50"),
        (("resnet50", "--why", "layer1.0.conv9"), "layer1.0.conv3"),
        (("resnet50", "--input", "224"), "3x224x224"),
        (("lenet5", "--input", "1x200x200"), "lenet5 takes images"),
        (("conv8 gap fc", "--graph", "picture.png"), ".svg"),
        (("missing.py:make",), "there is no file"),
    ],
)
def test_summary_of_wrong_input_says_what_was_wanted(capsys, arguments, said):
    status, _, err = answer(capsys, "summary", *arguments)
    assert status == 2
    assert said in err
    assert len(err.splitlines()) <= 3


def test_a_graph_is_never_written_over(capsys, tmp_path):
    path = tmp_path / "net.svg"
    assert answer(capsys, "summary", "lenet5", "--graph", str(path))[0] == 0
    before = path.read_bytes()
    assert before.startswith(b"<svg")
    status, _, _ = answer(capsys, "summary", "resnet18", "--graph", str(path))
    assert (status, path.read_bytes()) == (2, before)


def test_check_finds_a_stem_for_photographs_and_exits_1(capsys):
    status, out, _ = answer(capsys, "check", "fashion-mini", "--model", "resnet18", "--image-size", "32", "--json")
    document = json.loads(out)
    assert status == 1
    assert not document["is_good"]
    assert "mostly-padding" in [finding["code"] for finding in document["findings"]]
    assert document["epoch"]["seconds"] > 0


def test_check_of_what_train_would_choose_is_good(capsys):
    status, out, _ = answer(capsys, "check", "fashion-mini", "--model", default_pattern((28, 28)))
    assert status == 0
    assert "0 to mend" in out or "nothing to mend" in out
    assert "one epoch takes about" in out


def test_check_of_wrong_input_says_what_was_wanted(capsys):
    assert answer(capsys, "check", "nowhere/")[0] == 2
    status, _, err = answer(capsys, "check", "fashion-mini", "--model", "resnet99")
    assert (status, "there is no network named" in err) == (2, True)


def test_a_summary_takes_seconds_from_the_command_to_the_table():
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "vitreous", "summary", "resnet50"], check=True, capture_output=True)
    assert time.monotonic() - started < 20  # three on a machine with nothing else to do

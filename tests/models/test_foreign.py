"""Networks from timm and from files: what is asked of them, what is said when they do not give it, and no traces."""

import importlib.util
import re
import sys

import pytest
import torch
from torch import nn

from vitreous.errors import ConfigError, ShapeError
from vitreous.models import build_network, check_network, describe, is_factory, is_pattern, is_timm
from vitreous.models.foreign import refuse_factory, timm_name
from vitreous.models.probe import answer_to_zeros, smallest_side

SOURCE = """
from dataclasses import dataclass
import torch
from torch import nn
from layers_beside import Block

@dataclass
class Widths:
    first: "int" = 4

def make(num_classes, in_channels=3):
    import later_beside
    return nn.Sequential(Block(in_channels, Widths().first), nn.Flatten(1), nn.Linear(Widths().first, num_classes))

class Net(nn.Module):
    def __init__(self, *, num_classes, in_channels):
        super().__init__()
        self.bn = nn.BatchNorm2d(in_channels)
        self.head = nn.Linear(in_channels, num_classes)
    def forward(self, x):
        return self.head(self.bn(x).mean((2, 3)))

class Looks(Net):  # at values, which a meta tensor does not have
    def forward(self, x):
        return super().forward(x) if float(x.sum()) < 1e9 else None

class Pair(Net):
    def forward(self, x):
        return (super().forward(x),) * 2 if self.training else super().forward(x)

def fixed(num_classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 7 * 7, num_classes))

def anything(**options):
    return Net(**options)

def thousand(num_classes, in_channels):
    return Net(num_classes=1000, in_channels=in_channels)

def text(num_classes):
    return "resnet"

def lazy(num_classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))

def bare(num_classes):
    return nn.Flatten()

def tied(num_classes):
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3), nn.Linear(3, 3))
    network[3].weight = network[2].weight
    return network

def fails(num_classes):
    raise ValueError("first\\nthe reason")

def no_classes(width):
    return nn.Linear(width, 2)

def wide(num_classes, width):
    return nn.Linear(width, num_classes)

CONSTANT = 3
print("a word on stdout")
"""
BESIDE = """
from torch import nn
class Block(nn.Sequential):
    def __init__(self, i, o): super().__init__(nn.Conv2d(i, o, 1), nn.AdaptiveAvgPool2d(1))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text(SOURCE)
    (tmp_path / "layers_beside.py").write_text(BESIDE)
    (tmp_path / "later_beside.py").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def build(model, *, num_classes=3, in_channels=3, side=32, seed=0):
    return build_network(model, num_classes=num_classes, in_channels=in_channels, image_size=(side, side), seed=seed)


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("timm:resnet18", is_timm),
        ("net.py:make", is_factory),
        ("my nets/net.py:make", is_factory),
        ("/a/b.py:Net", is_factory),
        ("net.py", is_factory),
        ("conv8 gap fc", is_pattern),
        ("resnet18", None),
    ],
)
def test_the_kinds_of_networks_are_told_apart(model, kind):
    assert [each for each in (is_timm, is_factory, is_pattern) if each(model)] == [kind] * (kind is not None)


# --- file.py:factory --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factory", ["make", "Net", "anything", "Looks"])
@pytest.mark.parametrize("in_channels", [1, 3, 4])
def test_functions_and_classes_build_networks_from_a_seed(folder, factory, in_channels):
    one, same, other = (build(f"net.py:{factory}", in_channels=in_channels, seed=seed) for seed in (1, 1, 2))
    states = [torch.cat([tensor.flatten() for tensor in each.state_dict().values()]) for each in (one, same, other)]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
    assert one(torch.zeros(2, in_channels, 9, 7)).shape == (2, 3)


def test_a_network_can_be_built_without_numbers(folder):
    with torch.device("meta"):
        network = build("net.py:make")
    assert all(tensor.is_meta for tensor in network.state_dict().values())


def test_building_leaves_no_trace_but_the_file_under_a_name_of_its_own(folder, capsys):
    modules, path, random = set(sys.modules), list(sys.path), torch.get_rng_state()
    check_network(str(folder / "net.py:make"), num_classes=2, in_channels=3, image_size=(8, 8))
    (new,) = set(sys.modules) - modules
    assert re.fullmatch("vitreous_factory_[0-9a-f]{16}", new)
    assert sys.path == path
    assert torch.equal(torch.get_rng_state(), random)
    assert {file.name for file in folder.iterdir()} == {"net.py", "layers_beside.py", "later_beside.py"}
    assert capsys.readouterr().out == ""


def test_a_file_is_run_anew_each_time_with_what_lies_beside_it(folder):
    assert build("net.py:make")[0][0].out_channels == 4
    (folder / "net.py").write_text(SOURCE.replace("= 4", "= 6"))
    (folder / "layers_beside.py").write_text(BESIDE.replace("nn.Conv2d(i, o, 1)", "nn.Conv2d(i, o, 3)"))
    conv = build("net.py:make")[0][0]
    assert (conv.out_channels, conv.kernel_size) == (6, (3, 3))


def test_the_manifest_keeps_the_files_name_and_hash(folder):
    described = describe(str(folder / "net.py:make"))
    assert described["name"] == "net.py:make"
    assert len(described["source_sha256"]) == 64
    (folder / "net.py").write_text(SOURCE + "\n")
    assert describe("net.py:make")["source_sha256"] != described["source_sha256"]
    assert describe("timm:resnet18") == {"name": "timm:resnet18"}


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("absent.py:make", "there is no file absent.py"),
        ("net.py", "names a file but no function in it; .* net.py:make"),
        ("net.py:", "names a file but no function"),
        ("net.py:maek", r"no function maek in net.py; it has make\."),
        ("net.py:xyzzy", "it has Widths, make"),
        ("net.py:CONSTANT", "CONSTANT is a int, not a function"),
        ("net.py:text", "returned a str; wanted a torch.nn.Module"),
        ("net.py:lazy", "lazy layers"),
        ("net.py:bare", "no parameters to train"),
        ("net.py:tied", "uses one tensor as 2.weight and as 3.weight"),
        ("net.py:fails", r"fails when called with num_classes=3, in line \d+: the reason"),
        ("net.py:no_classes", r"must accept num_classes, .* it is no_classes\(width\)"),
        ("net.py:wide", "missing 1 required positional argument: 'width'"),
        ("net.py:thousand", r"gives \(2, 1000\) for 2 images, wanted \(2, 3\)"),
        ("net.py:Pair", r"in training mode gives a tuple for 2 images, wanted \(2, 3\)"),
    ],
)
def test_what_is_wrong_with_a_factory_is_said(folder, model, words):
    with pytest.raises(ConfigError, match=words):
        build(model)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import torch\ndef make(:", r"other.py, line 2, is not Python: .*: def make\(:"),
        ("x = 1\n1 / 0", "other.py fails when it is loaded, in line 2: ZeroDivisionError: division by zero"),
        ("import absent_xyzzy", "in line 1: ModuleNotFoundError: No module named 'absent_xyzzy'"),
        ("import sys; sys.exit(3)", "in line 1: SystemExit: 3"),
        ("make = 1\0", "is not Python"),
        ("", "it defines none"),
    ],
)
def test_files_that_do_not_run_are_one_error_and_leave_nothing(folder, source, words):
    (folder / "other.py").write_text(source)
    modules, path = set(sys.modules), list(sys.path)
    with pytest.raises(ConfigError, match=words):
        build("other.py:make")
    assert {name for name in set(sys.modules) - modules if source} == set()
    assert sys.path == path


def test_a_factory_without_in_channels_is_for_colours(folder):
    assert build("net.py:fixed", side=16)(torch.zeros(1, 3, 16, 16)).shape == (1, 3)
    with pytest.raises(ConfigError, match=r"does not accept in_channels, .* have 1 channel; .* data.channels=3"):
        build("net.py:fixed", in_channels=1, side=16)


def test_a_size_that_does_not_fit_is_refused_with_the_layer_the_shapes_and_the_smallest_that_does(folder):
    with pytest.raises(ShapeError) as raised:
        build("net.py:fixed")
    assert "3 x 32 x 32 at 3 (Linear), given (2, 900)" in str(raised.value)
    assert "it wants 196 features and is given 900" in str(raised.value)
    assert "--image-size 16" in str(raised.value)


def test_settings_that_name_a_file_are_refused():
    refuse_factory("resnet18", "config.toml")
    refuse_factory(None, "config.toml")
    with pytest.raises(ConfigError, match=r"config\.toml wants the network of net.py:make, .* --model net.py:make"):
        refuse_factory("net.py:make", "config.toml")


# --- zeros through a network ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "pools"), [(1, 0), (2, 1), (8, 3), (11, 0), (50, 0), (64, 6)])
def test_the_smallest_side_is_found(side, pools):
    if side == 11:
        network = nn.Sequential(nn.Conv2d(1, 2, 11), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    elif side == 50:
        network = nn.Sequential(nn.Conv2d(1, 2, 50), nn.Flatten(), nn.Linear(2, 2))  # takes no other
    else:
        network = nn.Sequential(*[nn.MaxPool2d(2)] * pools, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    assert smallest_side(network, num_classes=2, in_channels=1) == side
    assert smallest_side(network, num_classes=3, in_channels=1) is None


@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("factory", ["Net", "Looks"])
def test_zeros_leave_the_network_as_it_was(folder, factory, is_training):
    network = build(f"net.py:{factory}")
    network.train(is_training).bn.eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for mode in (True, False):
        assert answer_to_zeros(network, 3, (5, 6), is_training=mode).shape == (2, 3)
    assert network.training is is_training
    assert network.bn.training is False
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


# --- timm -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "hf-hub:timm/resnet18", "local-dir:x", "a/b", "../x", "resnet18.a.b", "résnet"])
def test_only_plain_names_are_taken_for_timm(name):
    with pytest.raises(ConfigError, match="plain name of timm's registry"):
        timm_name(f"timm:{name}")


def test_that_timm_is_missing_is_said_with_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"pip install 'vitreous\[timm\]'"):
        build("timm:resnet18")


def test_a_broken_timm_is_said(monkeypatch, tmp_path):
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    assert importlib.util.find_spec("timm").origin == str(tmp_path / "timm.py")
    with pytest.raises(ConfigError, match="cannot be imported: RuntimeError: operator torchvision::nms"):
        build("timm:resnet18")

import argparse
import io
import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError

from vitreous import storage
from vitreous.errors import ConfigError, MachineError
from vitreous.models import build_network
from vitreous.weights import conversion, conversion_worker
from vitreous.weights.conversion import convert
from vitreous.weights.conversion_worker import Job, report_of
from vitreous.weights.foreign import open_weights
from vitreous.weights.header import read_header
from vitreous.weights.preprocessing import PRESETS, torchvision_preprocessing

STATE = {"fc.weight": torch.arange(6.0).reshape(2, 3), "fc.bias": torch.zeros(2), "n": torch.tensor(7)}


class Call:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.fixture
def saved(tmp_path):
    def save(value, name="x.pth", **options):
        torch.save(value, tmp_path / name, **options)
        return tmp_path / name

    return save


@pytest.fixture
def report(tmp_path):
    """What the worker says of a file; here, without its limits, since starting it takes a second or two."""

    def read(path):
        made = tmp_path / "made.safetensors"
        job = Job(str(path), str(made), str(tmp_path / "report.json"), 10, {"format": "pt"})
        values = json.loads(json.dumps(report_of(job)))
        if "error" in values:
            assert not made.exists()
            return values["error"]
        return values, open_weights(made).tensors if not values["not_finite"] else None

    return read


@pytest.fixture
def target(tmp_path):
    return tmp_path / "out" / "x.safetensors"


@pytest.fixture(autouse=True)
def nothing_is_left_behind(target):
    target.parent.mkdir()
    yield
    assert {file.name for file in target.parent.iterdir()} <= {target.name}


# --- through the child process ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_zip", [True, False])
def test_weights_come_out_as_they_went_in(is_zip, saved, target):
    network = build_network("resnet20-cifar", num_classes=10, in_channels=3, image_size=(32, 32))
    source = saved({"epoch": 3, "state_dict": network.state_dict()}, _use_new_zipfile_serialization=is_zip)
    done = convert(source, target)
    file = open_weights(target)
    assert all(torch.equal(file.tensors[name], tensor) for name, tensor in network.state_dict().items())
    assert (done.sha256, done.source_sha256) == (storage.sha256_file(target), storage.sha256_file(source))
    assert (done.num_tensors, done.num_parameters) == (116, 269_722)
    assert done.looks_like == "resnet20-cifar or plain20-cifar (116 of 116 tensors fit)"
    assert (done.preprocessing, done.origin) == (None, None)
    assert done.remarks == ("the weights stood in the checkpoint's state_dict", "left out: epoch (int)")
    assert json.dumps(done.to_json())


def test_equal_files_become_equal_files(saved, target):
    source = saved({'é\n"': torch.ones(2), "\U0001f642": torch.zeros(1)}, "resnet50-0676ba61.pth")
    made = set()
    for _ in range(4):  # the library orders the notes in the header by chance
        metadata = {"format": "pt", "a": 'é\n"', "b": "\U0001f642\t", "c": "3", "d": "4"}
        report_of(Job(str(source), str(target), "", 10, metadata))
        made.add(target.read_bytes())
        assert read_header(target).metadata == metadata
        assert open_weights(target).tensors.keys() == {'é\n"', "\U0001f642"}
    assert len(made) == 1


@pytest.mark.parametrize("is_zip", [True, False])
def test_code_is_named_and_not_run(is_zip, saved, target, tmp_path):
    mark = tmp_path / "was run"
    harm = Call(os.system, f"touch '{mark}'")
    source = saved({"state_dict": STATE, "x": harm}, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(ConfigError, match=r"x\.pth holds code, .* would call os\.system\. Nothing of it was run"):
        convert(source, target)
    assert not mark.exists()


def test_a_small_file_that_asks_for_all_memory_is_stopped(saved, target):
    with pytest.raises(ConfigError, match="much more memory"):
        convert(saved({**STATE, "x": Call(bytearray, 10**11)}), target)


def test_what_takes_too_long_is_stopped(saved, target, monkeypatch):
    monkeypatch.setattr(conversion, "_GRACE_SECONDS", 0)
    with pytest.raises(ConfigError, match="--seconds allows more"):
        convert(saved(STATE), target, seconds=0)


def test_a_full_disk_is_the_machines_error(saved, report, target, monkeypatch):
    def full(*_args, **_kwargs):
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(conversion_worker, "save_file", full)
    assert report(saved(STATE)) == "the converted weights cannot be written: No space left on device."
    monkeypatch.setattr(json, "loads", lambda _: {"error": "full", "is_machines": True})
    with pytest.raises(MachineError, match="full"):
        convert(saved(STATE), target)


def test_a_worker_that_dies_is_reported(saved, target, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ConfigError, match="ended with status 1"):
        convert(saved(STATE), target)


@pytest.mark.parametrize(("status", "words"), [(-24, "processor time"), (-11, "SIGSEGV"), (3, "status 3")])
def test_how_a_worker_died_is_said(status, words):
    assert words in conversion._cause(status, 5)


def test_a_torch_in_the_working_folder_is_not_taken_for_torch(saved, target, tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("open('was run', 'w')")
    monkeypatch.chdir(tmp_path)
    convert(saved(STATE), target)
    assert not (tmp_path / "was run").exists()


def test_the_limits_hold_in_the_worker(tmp_path):
    code = (
        "import resource; from vitreous.weights import conversion_worker as worker; worker._limit(1000, 5)\n"
        "print(resource.getrlimit(resource.RLIMIT_CPU)[0] < 60, resource.getrlimit(resource.RLIMIT_CORE)[0])\n"
        "try: bytearray(4 << 30)\n"
        "except MemoryError: print('stopped')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["True", "0", "stopped"]


# --- preprocessing ----------------------------------------------------------------------------------------------------


def test_the_preset_travels_in_the_header_whatever_the_new_name(saved, target):
    done = convert(saved(STATE, "resnet50-11ad3fa6.pth"), target)
    assert "is a name of torchvision's, but its SHA-256 begins" in done.remarks[-1]
    assert open_weights(target).preprocessing == torchvision_preprocessing("resnet50-11ad3fa6") == done.preprocessing


def test_a_config_beside_the_pickle_is_kept(saved, target, tmp_path):
    mean, std = PRESETS["inception"]
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": {"mean": mean, "std": std}}))
    assert convert(saved(STATE, "pytorch_model.bin"), target).origin == f"timm's {tmp_path / 'config.json'}"
    assert open_weights(target).preprocessing.mean == mean


# --- what is found in a checkpoint ------------------------------------------------------------------------------------


def test_the_state_is_found_where_checkpoints_keep_it(saved, report):
    values, tensors = report(saved({"best": torch.ones(1), "model": {"state_dict": {**STATE, 5: torch.ones(1)}}}))
    assert values["place"] == "model.state_dict"
    assert values["left_out"] == ["best (tensor)", "5 (tensor whose name is not text)"]
    assert tensors.keys() == STATE.keys()


def test_wrappers_prefixes_are_taken_away(saved, report):
    values, tensors = report(saved({f"module._orig_mod.{name}": tensor for name, tensor in STATE.items()}))
    assert values["prefix"] == "module._orig_mod."
    assert tensors.keys() == STATE.keys()


def test_tensors_that_share_memory_or_lie_crosswise_are_written_apart(saved, report):
    row = torch.arange(100.0)
    odd = {"a": row, "b": row, "part": row[10:20], "turned": torch.arange(6.0).reshape(2, 3).t()}
    odd |= {"none": torch.zeros(0), "nothing": torch.zeros(0), "parameter": torch.nn.Parameter(torch.ones(2))}
    _, tensors = report(saved(odd))
    assert tensors.keys() == odd.keys()
    assert all(torch.equal(tensor, odd[name]) for name, tensor in tensors.items())


def test_what_safetensors_cannot_hold_is_left_out_and_said(saved, report):
    odd = {"sparse": torch.eye(3).to_sparse(), "complex": torch.ones(1, dtype=torch.complex64), "text": "x"}
    values, tensors = report(saved({**STATE, **odd, "__metadata__": torch.ones(1)}))
    assert tensors.keys() == STATE.keys()
    assert values["left_out"] == [
        "sparse (tensor that is sparse, quantized or without values)",
        "complex (tensor of torch.complex64)",
        "text (str)",
        "__metadata__ (tensor whose name is not text)",
    ]
    values, _ = report(saved({**STATE, **{f"x{number}": number for number in range(20)}}))
    assert (len(values["left_out"]), values["left_out"][-1]) == (9, "and 12 more")


def test_numbers_that_are_not_finite_are_said(saved, report):
    values, _ = report(saved({**STATE, "bad": torch.tensor([float("nan")])}))
    assert values["not_finite"] == ["bad"]


def test_a_checkpoint_that_holds_itself_ends(saved, report):
    loop = dict(STATE)
    loop["state_dict"] = loop
    assert report(saved(loop))[1].keys() == STATE.keys()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({}, "no tensors"),
        ({"epoch": 1}, "no tensors"),
        ([1, 2], "holds a list"),
        (torch.ones(2), "holds a tensor"),
        ({**STATE, "args": argparse.Namespace(lr=1)}, "would call argparse.Namespace"),
        ({**STATE, "best": np.float64(1)}, "multiarray.scalar"),
        (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        ({**STATE, "x": Call(eval, "1")}, "eval"),
        ({"a": torch.ones(1).expand(10**9)}, "would take 4,000,000,000"),
    ],
)
def test_what_is_not_only_tensors_is_refused(value, words, saved, report):
    assert words in report(saved(value))


# --- archives ---------------------------------------------------------------------------------------------------------


def rewritten(path, change=lambda name, data: data, **options):
    """The same archive, with other contents."""
    content = io.BytesIO(path.read_bytes())
    with zipfile.ZipFile(content) as old, zipfile.ZipFile(path, "w", **options) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return path


def test_torchscript_is_refused_by_name(tmp_path, report):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # as torch.jit.save lays it out; making one warns
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"x/{name}", b"")
    (tmp_path / "x.pt").write_bytes(buffer.getvalue())
    assert "is a TorchScript archive" in report(tmp_path / "x.pt")


def test_a_compressed_archive_is_refused_before_it_is_unpacked(saved, report):
    path = saved({"a": torch.zeros(10**6)})
    rewritten(path, compression=zipfile.ZIP_DEFLATED)
    assert "would unpack to" in report(path)


def test_any_other_zip_is_refused(tmp_path, report):
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("photo.jpg", b"x")
    assert "not one that torch.save wrote" in report(tmp_path / "x.pth")


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_file_that_was_cut_off_is_refused(is_zip, saved, report):
    path = saved({"a": torch.zeros(1000)}, _use_new_zipfile_serialization=is_zip)
    path.write_bytes(path.read_bytes()[:-1500])
    assert "damaged, cut off" in report(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data(), is_zip=st.booleans())
def test_whatever_is_changed_in_a_pickle_it_is_refused_or_read(data, is_zip, saved, report, tmp_path):
    (tmp_path / "made.safetensors").unlink(missing_ok=True)
    path = saved(STATE, _use_new_zipfile_serialization=is_zip)
    content = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        said = report(path)
    except ConfigError as error:  # changed numbers that are no longer finite, or nothing but counters
        said = str(error)
    assert said


# --- what is not converted --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.pth", b"", "is empty"),
        ("x.h5", b"\x89HDF\r\n\x1a\n", "Keras"),
        ("x.pth", b"\x89HDF\r\n\x1a\n", "HDF5"),
        ("x.onnx", b"\x08\x07", "ONNX"),
        ("x.pth", b"<!DOCTYPE html>", "web page"),
        ("x.pth", b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        ("x.safetensors", b"anything", "already"),
        ("x.pth", b'\x10\0\0\0\0\0\0\0{"a":', "already"),
    ],
)
def test_other_files_are_refused_by_what_they_are(name, content, words, tmp_path, target):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        convert(tmp_path / name, target)


def test_folders_and_absent_files_are_refused(tmp_path, saved, target):
    saved(STATE)
    with pytest.raises(ConfigError, match=r"is a folder; convert takes one file, e\.g\. .*x\.pth"):
        convert(tmp_path, target)
    with pytest.raises(ConfigError, match="does not exist"):
        convert(tmp_path / "absent.pth", target)


def test_the_target_is_never_written_over(saved, target, tmp_path):
    source = saved(STATE)
    target.write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        convert(source, target)
    assert target.read_text() == "mine"
    with pytest.raises(ConfigError, match=r"must end in \.safetensors"):
        convert(source, tmp_path / "out" / "x.pth")
    with pytest.raises(ConfigError, match="does not exist"):
        convert(source, tmp_path / "absent" / "x.safetensors")


@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_the_machines_error(saved, target):
    target.parent.chmod(0o500)
    with pytest.raises(MachineError, match="cannot be written"):
        convert(saved(STATE), target)
    target.parent.chmod(0o700)

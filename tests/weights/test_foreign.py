import json
import os

import pytest
import torch
from safetensors.torch import save_file

from vitreous import storage
from vitreous.errors import ConfigError, RunError
from vitreous.run import Run
from vitreous.weights import encode_weights
from vitreous.weights.foreign import open_weights
from vitreous.weights.preprocessing import METADATA_KEY, PRESETS, WeightPreprocessing, torchvision_preprocessing

MEAN, STD = PRESETS["imagenet"]
TIMM = {"architecture": "resnet18", "pretrained_cfg": {"mean": MEAN, "std": STD, "crop_pct": 0.95}}


@pytest.fixture
def saved(tmp_path):
    def save(name="x.safetensors", metadata=None, **tensors):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors or {"fc.weight": torch.ones(2, 3)}, path, metadata=metadata)
        return path

    return save


def test_tensors_hash_and_silence_about_pixels(saved):
    path = saved()
    file = open_weights(str(path))
    assert file.sha256 == storage.sha256_file(path)
    assert torch.equal(file.tensors["fc.weight"], torch.ones(2, 3))
    assert (file.path, file.preprocessing, file.origin) == (path, None, "nothing came with the file")
    assert file.remarks == ()


def test_every_fraction_becomes_float32_and_counters_stay(saved):
    half = torch.tensor([1.5, -2.0])
    file = open_weights(
        saved(a=half.half(), b=half.bfloat16(), c=half.double(), n=torch.tensor(7), mask=torch.tensor([True]))
    )
    assert all(torch.equal(file.tensors[name], half) for name in "abc")
    assert file.tensors["a"].dtype == torch.float32
    assert (file.tensors["n"].dtype, file.tensors["mask"].dtype) == (torch.int64, torch.bool)
    assert file.remarks == ("the file stores bfloat16 and float16 and float64; made float32",)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(value, saved):
    with pytest.raises(ConfigError, match=r"1 of its 2 tensors .* e\.g\. b"):
        open_weights(saved(a=torch.ones(2), b=torch.tensor([1.0, value])))


# --- preprocessing that came along ------------------------------------------------------------------------------------


def test_the_name_that_torchvision_gives_decides_even_after_conversion(saved):
    file = open_weights(saved("resnet50-11ad3fa6.safetensors"))
    assert file.preprocessing == torchvision_preprocessing("resnet50-11ad3fa6")
    assert file.origin == "the file name, torchvision's resnet50-11ad3fa6"
    assert open_weights(saved("resnet50-11ad3fa7.safetensors")).preprocessing is None


def test_the_files_own_note_comes_before_its_neighbours_and_its_name(saved, tmp_path):
    note = WeightPreprocessing(mean=(0.1,) * 3, std=(0.2,) * 3)
    path = saved("resnet50-11ad3fa6.safetensors", metadata={METADATA_KEY: note.to_json()})
    (tmp_path / "config.json").write_text(json.dumps(TIMM))
    file = open_weights(path)
    assert (file.preprocessing, file.origin) == (note, f"the header of {path.name}")


def test_a_config_beside_a_lone_file_is_its_own_and_beside_two_is_neithers(saved, tmp_path):
    path = saved()
    (tmp_path / "config.json").write_text(json.dumps(TIMM))
    assert open_weights(path).preprocessing.crop_fraction == 0.95
    saved("y.safetensors")
    assert open_weights(path).preprocessing is None
    assert open_weights(saved("model.safetensors")).preprocessing.crop_fraction == 0.95


# --- folders ----------------------------------------------------------------------------------------------------------


def test_a_folder_of_timms(saved, tmp_path):
    saved("folder/model.safetensors")
    (tmp_path / "folder" / "config.json").write_text(json.dumps(TIMM))
    file = open_weights(tmp_path / "folder")
    assert file.path == tmp_path / "folder" / "model.safetensors"
    assert (file.preprocessing.mean, file.preprocessing.interpolation) == (MEAN, "bicubic")


def test_a_folder_must_leave_no_doubt(saved, tmp_path):
    with pytest.raises(ConfigError, match="is no run folder"):
        open_weights(tmp_path)
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(ConfigError, match=r"vitreous convert .*pytorch_model\.bin"):
        open_weights(tmp_path)
    saved("b.safetensors")
    assert open_weights(tmp_path).path.name == "b.safetensors"
    saved("c.safetensors")
    with pytest.raises(ConfigError, match=r"2 weight files \(b\.safetensors, c\.safetensors"):
        open_weights(tmp_path)
    (tmp_path / "model.safetensors.index.json").touch()
    with pytest.raises(ConfigError, match="join them"):
        open_weights(tmp_path)


@pytest.fixture
def run(tmp_path):
    data = encode_weights({"fc.weight": torch.ones(2, 3)})
    contract = {
        **{"height": 28, "width": 20, "channels": 1, "fit": "centre", "interpolation": "box", "pad_value": 0},
        **{"mean": [0.3], "std": [0.2]},
    }
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.safetensors").write_bytes(data)
    facts = {"schema": 1, "status": "complete", "classes": ["off", "on"], "preprocessing": contract}
    run = Run(tmp_path / "run", facts)
    run.update_manifest(weights={"sha256": storage.sha256_bytes(data)})
    return run


@pytest.mark.parametrize("name", [".", "model.safetensors"])
def test_a_run_folder_brings_its_contract(name, run):
    file = open_weights(run.path / name)
    assert file.preprocessing == WeightPreprocessing(
        mean=(0.3,), std=(0.2,), size=(28, 20), fit="pad", interpolation="box"
    )
    assert file.origin == f"the run {run.path}"
    assert file.classes == ("off", "on")


def test_a_run_is_found_by_its_name_below_runs(run, tmp_path, monkeypatch):
    run.path.rename(tmp_path / "lamps")
    (tmp_path / "runs").mkdir()
    (tmp_path / "lamps").rename(tmp_path / "runs" / "lamps")
    monkeypatch.chdir(tmp_path)
    assert open_weights("lamps").origin == "the run runs/lamps"


def test_a_run_folder_with_other_weights_or_none_is_refused(run):
    with run.weights_path.open("ab") as file:
        file.write(b"x")
    with pytest.raises(RunError, match="not what training wrote"):
        open_weights(run.path)
    run.update_manifest(weights=None, status="running")
    with pytest.raises(RunError, match="no weights yet"):
        open_weights(run.path)


# --- what is not read -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.pth", "x.PT", "x.bin", "x.ckpt", "x.pth.tar"])
def test_pickles_are_sent_to_convert(name, tmp_path):
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(ConfigError, match=rf"vitreous convert .*{name}"):
        open_weights(tmp_path / name)


@pytest.mark.parametrize(("name", "words"), [("x.h5", "Keras"), ("x.onnx", "ONNX"), ("x.npz", "NumPy")])
def test_other_libraries_files_are_named(name, words, tmp_path):
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(ConfigError, match=words):
        open_weights(tmp_path / name)


@pytest.mark.parametrize("name", ["absent.safetensors", "absent/x.safetensors", "x" * 300, "nul\0l"])
def test_what_is_not_there_is_said_to_be_so(name, tmp_path):
    with pytest.raises(ConfigError, match=r"does not exist|cannot be read"):
        open_weights(tmp_path / name)


def test_what_is_no_plain_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(ConfigError, match="no plain file"):
        open_weights(tmp_path / "pipe.safetensors")

"""A network from a file of the user's, from training to the report; the run folder never runs that file."""

import json
import signal
from contextlib import nullcontext
from pathlib import Path

import pytest

import vitreous
from vitreous.errors import ConfigError, Interrupted, RunError

SOURCE = """
from pathlib import Path
from torch import nn
Path(__file__).with_suffix(".ran").touch()
def make(num_classes, in_channels):
    return nn.Sequential(
        nn.Conv2d(in_channels, 4, 3, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes)
    )
def resnet18(num_classes, in_channels):
    return make(num_classes, in_channels)
"""
QUICK = {"epochs": 1, "engine.precision": "fp32", "engine.threads": 1}  # measured, another run may choose otherwise


@pytest.fixture
def net(tmp_path):
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "net.py").write_text(SOURCE)
    return tmp_path / "nets" / "net.py"


@pytest.fixture
def run(photos, net, tmp_path):
    run = vitreous.train(photos, run=tmp_path / "run", model=f"{net}:make", **QUICK)
    net.with_suffix(".ran").unlink()
    return run


def test_the_manifest_has_the_name_and_the_hash_and_not_the_place(run, net):
    model = json.loads((run.path / "manifest.json").read_text())["model"]
    assert model["name"] == "net.py:make"
    assert len(model["source_sha256"]) == 64
    assert model["head"] == "4"
    assert str(net.parent) not in (run.path / "manifest.json").read_text()


def test_the_command_line_needs_the_file_again(cli, run, net, photos):
    image = photos / "dark" / "0.jpg"
    for command in (["predict", run.path, image], ["evaluate", run.path], ["report", run.path]):
        status, out, err = cli(*command)
        assert (status, out) == (2, "")
        assert "net.py:make" in err
        assert run.manifest["model"]["source_sha256"][:12] in err
        assert "--model PATH/net.py:make" in err
        assert not net.with_suffix(".ran").exists()
        assert cli(*command, "--model", f"{net}:make")[0] == 0
        assert net.with_suffix(".ran").exists()
        net.with_suffix(".ran").unlink()


def test_a_moved_file_is_the_same_and_a_changed_one_is_not(run, net, photos, cli):
    image = photos / "dark" / "0.jpg"
    said = vitreous.load_run(run.path, model=f"{net}:make").predict(image)
    moved = net.rename(net.with_name("moved.py"))
    assert vitreous.load_run(run.path, model=f"{moved}:make").predict(image) == said
    moved.write_text(SOURCE + "# a word\n")
    moved.with_suffix(".ran").unlink()
    with pytest.raises(RunError, match=r"not what built this run's network: SHA-256 .*--accept-changed-code"):
        vitreous.load_run(run.path, model=f"{moved}:make")
    assert not moved.with_suffix(".ran").exists()
    assert vitreous.load_run(run.path, model=f"{moved}:make", accept_changed_code=True).predict(image) == said
    status, out, _ = cli("predict", run.path, image, "--model", f"{moved}:make", "--accept-changed-code", "--json")
    assert (status, json.loads(out)["predictions"][0]["label"]) == (0, said.label)
    moved.write_text(SOURCE.replace("in_channels, 4, 3", "in_channels, 4, 5"))
    with pytest.raises(RunError, match="does not fit the network"):
        vitreous.evaluate(run.path, model=f"{moved}:make", accept_changed_code=True)


@pytest.mark.parametrize("model", ["resnet18", "timm:resnet18", "NET:resnet18"])
def test_another_network_than_the_runs_is_refused(run, net, model):
    with pytest.raises(RunError, match=r"built by net.py:make \(SHA-256 .*\), not by"):
        vitreous.load_run(run.path, model=model.replace("NET", str(net)))


def test_a_run_that_pretends_is_refused(run, net):
    """What a manifest says is never enough, whatever it says."""
    for name in (f"{net}:make", f"{net}:resnet18", str(net)):
        run.update_manifest(model={**run.manifest["model"], "name": name, "source_sha256": None})
        for model in (None, f"{net}:make"):
            with pytest.raises(RunError):
                vitreous.load_run(run.path, model=model)
    assert not net.with_suffix(".ran").exists()


def test_settings_of_a_run_do_not_run_the_file_either(run, net, photos, tmp_path, cli):
    settings = run.path / "config.toml"
    with pytest.raises(ConfigError, match="never causes code to be loaded"):
        vitreous.train(photos, run=tmp_path / "again", config=settings)
    assert cli("train", photos, "--config", settings, "--run", tmp_path / "again")[0] == 2
    assert not net.with_suffix(".ran").exists()
    again = vitreous.train(photos, run=tmp_path / "again", config=settings, model=f"{net}:make")
    assert again.manifest["weights"]["sha256"] == run.manifest["weights"]["sha256"]


def test_a_named_network_needs_no_model(photos, tmp_path, net):
    run = vitreous.train(photos, run=tmp_path / "named", model="conv4s4 gap fc", **QUICK)
    with pytest.raises(RunError, match="'conv4s4 gap fc', which needs no --model"):
        vitreous.load_run(run.path, model=f"{net}:make")


def test_resuming_needs_the_file_and_gives_the_same_bits(photos, net, tmp_path):
    model, settings = f"{net}:make", {**QUICK, "epochs": 3}
    whole = vitreous.train(photos, run=tmp_path / "whole", model=model, **settings)
    with pytest.raises(Interrupted):
        vitreous.train(photos, run=tmp_path / "cut", model=model, stop=stop_after(4), **settings)
    with pytest.raises(RunError, match="never causes code to be loaded"):
        vitreous.resume(tmp_path / "cut")
    resumed = vitreous.resume(tmp_path / "cut", model=model)
    assert resumed.status == "complete"
    assert resumed.manifest["weights"]["sha256"] == whole.manifest["weights"]["sha256"]


def stop_after(num_steps):
    asked = iter([None] * num_steps)
    return nullcontext(lambda: next(asked, signal.SIGTERM))


def test_a_network_that_does_not_fit_is_refused_before_anything_is_decoded(cli, photos, tmp_path):
    (tmp_path / "big.py").write_text(
        "from torch import nn\n"
        "def make(num_classes): return nn.Sequential(nn.Conv2d(3, 2, 50), nn.Flatten(), nn.Linear(2, num_classes))\n"
    )
    status, out, err = cli("train", photos, "--model", "big.py:make", "--run", "refused")
    assert (status, out) == (2, "")
    assert "at 0 (Conv2d), given (2, 3, 40, 40)" in err
    assert "--image-size 50" in err
    assert not Path("refused").exists()

"""A run that starts from weights: its head, what is frozen, what stays the same when it is stopped."""

import json
import shutil
import signal
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import vitreous
from vitreous.errors import ConfigError, Interrupted, RunError
from vitreous.run import Run
from vitreous.weights import network_from_run

NETWORK = "conv8bn pool conv16bn gap fc"
TINY = {
    "epochs": 2,
    "training.batch_size": 16,
    "augmentation.zoom": 0.2,
    "augmentation.light": 0.1,
    "engine.precision": "fp32",
    "engine.threads": 1,
}


def stop_after(num_checks):
    """A stop request that comes when the loop asks for the ``num_checks``-th time."""
    asked = iter(range(num_checks))
    return nullcontext(lambda: None if next(asked, None) is not None else signal.SIGTERM)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("VITREOUS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A run that knows digits."""
    return vitreous.train(
        "digits",
        run=tmp_path_factory.mktemp("pretrained") / "digits",
        model=NETWORK,
        image_size=16,
        epochs=2,
        **{"engine.threads": 1, "engine.precision": "fp32", "data.channels": 3},
    )


def test_a_run_starts_from_another_runs_weights(pretrained, photos, tmp_path):
    said = Said()
    run = vitreous.train(photos, run=tmp_path / "tuned", weights=pretrained.path, progress=said, **TINY)
    assert run.status == "complete"
    assert run.manifest["model"]["name"] == NETWORK
    assert run.manifest["initial_weights"]["sha256"] == pretrained.manifest["weights"]["sha256"]
    ours, theirs = run.manifest["preprocessing"], pretrained.manifest["preprocessing"]
    assert {key: ours[key] for key in ("height", "width", "mean", "std")} == {
        key: theirs[key] for key in ("height", "width", "mean", "std")
    }
    assert [line["epoch"] for line in run.metrics()] == [0, 1, 2]
    assert "new: the file's tells 10 classes apart, this network 3" in said.text
    assert "new head on frozen features" in said.text


def test_a_frozen_backbone_stays_to_the_bit_and_its_head_is_fitted(pretrained, photos, tmp_path):
    run = vitreous.train(photos, run=tmp_path / "frozen", weights=pretrained.path, freeze="backbone", **fitted())
    before, after = load_file(pretrained.weights_path), load_file(run.weights_path)
    head = run.manifest["model"]["head"]
    assert {name for name in before if not torch.equal(before[name], after[name])} == {f"{head}.weight", f"{head}.bias"}
    (line,) = run.metrics()
    assert line["epoch"] == line["step"] == run.manifest["weights"]["epoch"] == 0
    scores = vitreous.evaluate(run.path, split="val")
    assert scores["accuracy"]["value"] == line["val_accuracy"]  # its log-loss is of calibrated confidence


def test_a_frozen_layer_stays_with_all_that_is_before_it(pretrained, photos, tmp_path):
    network = network_from_run(pretrained)
    first_norm = next(name for name, module in network.named_modules() if isinstance(module, torch.nn.BatchNorm2d))
    settings = {**TINY, "training.batch_norm": "update"}
    run = vitreous.train(photos, run=tmp_path / "part", weights=pretrained.path, freeze=first_norm, **settings)
    before, after = load_file(pretrained.weights_path), load_file(run.weights_path)
    names = list(network.state_dict())
    last = max(number for number, name in enumerate(names) if name.startswith(first_norm))
    if run.manifest["weights"]["epoch"] > 0:
        for number, name in enumerate(names):
            assert torch.equal(before[name], after[name]) == (number <= last) or name.endswith("tracked"), name


@pytest.mark.parametrize("num_checks", [0, 1, 2, 4, 6])
def test_a_stopped_run_goes_on_to_the_same_bits(pretrained, photos, tmp_path, num_checks):
    straight = vitreous.train(photos, run=tmp_path / "straight", weights=pretrained.path, **TINY)
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(Interrupted, match="vitreous resume"):
        vitreous.train(photos, run=tmp_path / "stopped", weights=pretrained.path, stop=stop_after(num_checks), **TINY)
    resumed = vitreous.resume(tmp_path / "stopped")
    assert resumed.manifest["weights"] == straight.manifest["weights"]
    timeless = [{**line, "seconds": 0, "images_per_second": 0, "spent": {}} for line in resumed.metrics()]
    assert timeless == [{**line, "seconds": 0, "images_per_second": 0, "spent": {}} for line in straight.metrics()]


def test_the_config_of_a_run_repeats_it_to_the_same_bits(pretrained, photos, tmp_path):
    first = vitreous.train(photos, run=tmp_path / "first", weights=pretrained.path, **TINY)
    again = vitreous.train(photos, run=tmp_path / "again", config=first.path / "config.toml")
    assert again.manifest["weights"] == first.manifest["weights"]


def test_weights_that_changed_before_the_first_checkpoint_are_refused(pretrained, photos, tmp_path):
    file = tmp_path / "copy.safetensors"
    shutil.copy(pretrained.weights_path, file)
    settings = {**TINY, "model": NETWORK, "data.preset": "none", "image_size": 16}
    with pytest.raises(Interrupted):
        vitreous.train(photos, run=tmp_path / "stopped", weights=file, stop=stop_after(0), **settings)
    tensors = load_file(file)
    tensors[next(iter(tensors))] += 1
    save_file(tensors, file)
    with pytest.raises(RunError, match=r"is not what .* began with"):
        vitreous.resume(tmp_path / "stopped")


@pytest.mark.parametrize(("asked", "used"), [({}, "pad"), ({"data.fit": "crop"}, "crop")])
def test_long_pictures_are_not_cut_unless_asked(pretrained, tmp_path, asked, used):
    for name, shade in (("up", 60), ("down", 190)):
        folder = tmp_path / "long" / name
        folder.mkdir(parents=True)
        for number in range(8):
            pixels = np.full((60, 20, 3), shade + number, np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    file = tmp_path / "model.safetensors"
    shutil.copy(pretrained.weights_path, file)
    preprocessing = {"mean": [0.5] * 3, "std": [0.2] * 3, "input_size": [3, 16, 16], "crop_pct": 0.875}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "own", "pretrained_cfg": preprocessing}))
    said = Said()
    run = vitreous.train(
        tmp_path / "long", run=tmp_path / "run", weights=tmp_path, model=NETWORK, progress=said, **fitted(), **asked
    )
    assert run.manifest["preprocessing"]["fit"] == used
    assert ("33% of these" in said.text) == (used == "pad")


def test_weights_without_preprocessing_are_asked_about(pretrained, photos, tmp_path):
    file = tmp_path / "copy.safetensors"
    shutil.copy(pretrained.weights_path, file)
    with pytest.raises(ConfigError, match=r"data\.preset=imagenet"):
        vitreous.train(photos, run=tmp_path / "run", weights=file, model=NETWORK, **TINY)
    assert not (tmp_path / "run").exists()
    told = {"data.mean": [0.4, 0.5, 0.6], "data.std": 0.2, "image_size": 16}
    run = vitreous.train(photos, run=tmp_path / "run", weights=file, model=NETWORK, **TINY, **told)
    assert run.manifest["preprocessing"]["mean"] == [0.4, 0.5, 0.6]
    assert run.manifest["preprocessing"]["std"] == [0.2, 0.2, 0.2]


def test_the_same_classes_keep_their_head(pretrained, photos, tmp_path):
    first = vitreous.train(photos, run=tmp_path / "first", weights=pretrained.path, **TINY)
    said = Said()
    second = vitreous.train(photos, run=tmp_path / "second", weights=first.path, progress=said, **TINY)
    assert "is the file's" in said.text
    assert [line["epoch"] for line in second.metrics()] == [1, 2]


def test_other_classes_in_the_same_number_get_a_new_head(pretrained, photos, tmp_path):
    first = vitreous.train(photos, run=tmp_path / "first", weights=pretrained.path, **TINY)
    renamed = tmp_path / "renamed"
    shutil.copytree(photos, renamed)
    for folder in sorted(renamed.iterdir()):
        folder.rename(folder.with_name(f"new {folder.name}"))
    said = Said()
    vitreous.train(renamed, run=tmp_path / "second", weights=first.path, progress=said, **TINY)
    assert "but not these" in said.text


def test_a_layer_that_does_not_exist_is_refused_before_anything_is_written(pretrained, photos, tmp_path):
    with pytest.raises(ConfigError, match="no such layer"):
        vitreous.train(photos, run=tmp_path / "run", weights=pretrained.path, freeze="layer9", **TINY)
    assert not (tmp_path / "run").exists()


def test_features_of_a_frozen_backbone_serve_the_next_run(pretrained, photos, tmp_path, monkeypatch):
    first = vitreous.train(photos, run=tmp_path / "first", weights=pretrained.path, **fitted())
    packs = sorted((tmp_path / "cache" / "packs").iterdir())
    second = vitreous.train(photos, run=tmp_path / "second", weights=pretrained.path, **fitted())
    assert sorted((tmp_path / "cache" / "packs").iterdir()) == packs
    assert second.manifest["weights"] == first.manifest["weights"]
    assert np.isfinite(second.metrics()[0]["val_loss"])
    assert Run.open(second.path).status == "complete"


def fitted():
    return {**TINY, "epochs": 0}


class Said:
    """Keeps what was said."""

    def __init__(self):
        self.text = ""

    def say(self, message):
        self.text += message + "\n"

    def task(self, *arguments):
        return vitreous.progress.SILENT.task(*arguments)

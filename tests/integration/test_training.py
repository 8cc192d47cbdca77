"""The walk, end to end, on small real runs."""

import dataclasses
import json
import signal
import subprocess
import sys
import time
from contextlib import nullcontext

import numpy as np
import pytest
from safetensors import SafetensorError

import vitreous
from vitreous import checkpoint, storage
from vitreous.config import Config
from vitreous.errors import Interrupted, MachineError, RunError
from vitreous.evaluation.scores import log_loss
from vitreous.run import Run
from vitreous.training import loop
from vitreous.training.loop import standard_error

TINY = {
    "model": "conv6s2bn dropout0.2 res[conv6bn conv6bn] pool conv8 gap fc",
    "epochs": 3,
    "training.batch_size": 16,
    "training.optimizer": "sgd",
    "augmentation.shift_px": 1,
    "augmentation.flip": True,
    "training.ema_decay": 0.9,
    "engine.precision": "fp32",
    "engine.threads": 1,
}


def train(photos, path, **changes):
    return vitreous.train(photos, run=path, **{**TINY, **changes})


def stop_after(num_steps):
    """A stop request that comes when the loop asks for the ``num_steps``-th time."""
    asked = iter(range(num_steps))
    return nullcontext(lambda: None if next(asked, None) is not None else signal.SIGTERM)


@pytest.fixture
def finished(photos, tmp_path):
    return train(photos, tmp_path / "finished")


def test_the_run_folder_holds_all_that_is_promised(finished):
    assert finished.status == "complete"
    present = {path.name for path in finished.path.iterdir() if not path.name.startswith(".")}
    assert present == {
        *("config.toml", "manifest.json", "splits.csv", "model.safetensors", "metrics.jsonl", "report.html"),
        *("predictions", "golden", "checkpoints", "calibration.json"),
    }
    reopened = Run.open(finished.path)
    assert reopened.manifest == finished.manifest
    assert len(reopened.metrics()) == 3
    counts = reopened.manifest["data"]["counts"]
    assert sum(sum(part.values()) for part in counts.values()) == 72
    assert all(min(part.values()) > 0 for part in counts.values())


def test_evaluate_gives_exactly_what_training_printed(finished, photos):
    for split in ("val", "test"):
        scores = vitreous.evaluate(finished.path, split=split)
        stored = finished.manifest["scores"][split]
        assert {key: scores[key] for key in stored} == stored
    best = finished.manifest["weights"]
    line = finished.metrics()[best["epoch"] - 1]
    assert vitreous.evaluate(finished.path, split="val")["accuracy"]["value"] == line["val_accuracy"]
    predictor, rows = vitreous.load_run(finished.path), [row for row in finished.splits() if row.split == "val"]
    logits = predictor.logits(np.stack([predictor.preprocess.pixels(photos / row.path) for row in rows]))
    assert log_loss(logits, np.array([finished.classes.index(row.label) for row in rows])) == line["val_loss"]


def test_the_last_epoch_that_is_not_clearly_worse_is_kept(finished):
    accuracies = [line["val_accuracy"] for line in finished.metrics()]
    num_images = sum(finished.manifest["data"]["counts"]["val"].values())  # too few for two halves
    least = max(accuracies) - standard_error(max(accuracies), num_images)
    kept = max(epoch for epoch, each in enumerate(accuracies, start=1) if each >= least)
    assert finished.manifest["weights"]["epoch"] == kept


@pytest.mark.parametrize(
    ("scores", "kept"),
    [
        ([0.80, 0.90, 0.89], 3),  # a standard error of 0.9 among 300 images is 0.017
        ([0.80, 0.90, 0.88], 2),
        ([0.80, 0.90, 0.89, 0.88], 3),  # the highest stays the measure
        ([1.0, 0.997, 0.9], 2),
    ],
)
def test_which_epoch_is_kept(photos, tmp_path, monkeypatch, scores, kept):
    told, asked = iter(scores), []
    monkeypatch.setattr(loop, "accuracy", lambda *_: next(told))
    monkeypatch.setattr(loop, "standard_error", lambda share, count: asked.append(count) or standard_error(share, 300))
    run = train(photos, tmp_path / "run", epochs=len(scores))
    assert run.manifest["weights"]["epoch"] == kept
    assert set(asked) == {sum(run.manifest["data"]["counts"]["val"].values())}


def test_predictions_and_golden_logits_are_what_the_run_gives(finished, photos):
    predictor = vitreous.load_run(finished.path)
    rows = list(storage.read_csv(finished.path / "predictions" / "test.csv"))
    by_hash = {row.content_hash: row for row in finished.splits()}
    assert len(rows) == finished.manifest["scores"]["test"]["num_images"]
    for row in rows:
        split_row = by_hash[row["content_hash"]]
        assert (split_row.split, split_row.label) == ("test", row["class"])
        said = predictor.predict(photos / split_row.path)
        assert np.allclose([float(row[name]) for name in predictor.classes], said.probabilities, atol=1e-5)
    for golden in json.loads((finished.path / "golden" / "expected.json").read_text()):
        pixels = predictor.preprocess.pixels((finished.path / "golden" / golden["file"]).read_bytes())
        assert np.array_equal(predictor.logits(pixels[None])[0], np.float32(golden["logits"]))


@pytest.mark.parametrize("num_steps", [0, 1, 3, 4, 7])
def test_a_stopped_run_goes_on_to_the_same_bits(finished, photos, tmp_path, num_steps):
    with pytest.raises(Interrupted, match="vitreous resume") as stopped:
        vitreous.train(photos, run=tmp_path / "stopped", stop=stop_after(num_steps), **TINY)
    assert stopped.value.exit_code == 143
    assert Run.open(tmp_path / "stopped").status == "interrupted"
    with pytest.raises(Interrupted):
        vitreous.resume(tmp_path / "stopped", stop=stop_after(1))
    resumed = vitreous.resume(tmp_path / "stopped")
    assert resumed.status == "complete"
    assert resumed.manifest["weights"] == finished.manifest["weights"]
    timeless = [{**line, "seconds": 0, "images_per_second": 0, "spent": {}} for line in resumed.metrics()]
    assert timeless == [{**line, "seconds": 0, "images_per_second": 0, "spent": {}} for line in finished.metrics()]


def test_the_config_of_a_run_repeats_it_to_the_same_bits(finished, photos, tmp_path):
    again = vitreous.train(photos, run=tmp_path / "again", config=finished.path / "config.toml")
    assert again.manifest["weights"] == finished.manifest["weights"]
    assert (again.path / "config.toml").read_bytes() == (finished.path / "config.toml").read_bytes()


def test_another_seed_is_another_run(finished, photos, tmp_path):
    other = train(photos, tmp_path / "other", seed=1)
    assert other.manifest["weights"]["sha256"] != finished.manifest["weights"]["sha256"]


def test_the_network_learns(photos, tmp_path):
    run = train(photos, tmp_path / "learned", epochs=12, **{"training.ema_decay": 0.0, "training.learning_rate": 0.1})
    assert run.manifest["scores"]["test"]["accuracy"]["value"] == 1.0
    assert run.metrics()[-1]["train_loss"] < run.metrics()[0]["train_loss"] / 2


@pytest.mark.parametrize(
    "settings",
    [
        {"training.optimizer": "adamw", "training.clip_norm": 1.0, "training.schedule": "cosine"},
        {"training.optimizer": "muon", "training.accumulate": 3, "augmentation.mixup": 0.4, "augmentation.cutmix": 1.0},
        {"training.first_side": 0.5},
    ],
)
def test_other_ways_to_train_go_on_to_the_same_bits_too(photos, tmp_path, settings):
    with pytest.raises(Interrupted):
        vitreous.train(photos, run=tmp_path / "stopped", stop=stop_after(5), **{**TINY, **settings})
    straight = train(photos, tmp_path / "straight", **settings)
    assert vitreous.resume(tmp_path / "stopped").manifest["weights"] == straight.manifest["weights"]


def test_patience_ends_a_run_that_no_longer_gains(photos, tmp_path):
    run = train(photos, tmp_path / "patient", epochs=200, **{"training.patience": 2, "training.learning_rate": 1e-9})
    assert len(run.metrics()) < 200
    accuracies = [line["val_accuracy"] for line in run.metrics()]
    assert len(accuracies) == accuracies.index(max(accuracies)) + 1 + 2


def test_a_rate_that_is_too_high_stops_with_advice_and_keeps_the_last_good_state(photos, tmp_path):
    with pytest.raises(MachineError, match=r"finite.*learning_rate"):
        train(photos, tmp_path / "wild", epochs=30, **{"training.learning_rate": 100.0, "training.momentum": 0.99})
    assert Run.open(tmp_path / "wild").status == "failed"


def test_too_little_memory_is_said_with_what_would_fit(photos, tmp_path, monkeypatch):
    def exhausted(*_args, **_kwargs):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried ...")

    monkeypatch.setattr("vitreous.training.loop.train_step", exhausted)
    with pytest.raises(MachineError, match=r"batches of 16 images of 40 x 40.*batch_size=8"):
        train(photos, tmp_path / "large")
    assert Run.open(tmp_path / "large").status == "failed"


def test_a_disk_that_fills_later_keeps_the_last_checkpoint_and_the_run_goes_on(finished, photos, tmp_path, monkeypatch):
    save, calls = checkpoint.save_file, iter(range(99))

    def full(tensors, path):
        if next(calls) == 1:
            path.write_bytes(b"half a file")
            raise SafetensorError("I/O error: No space left on device")
        save(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(MachineError, match="No space left") as error:
        train(photos, tmp_path / "full")
    assert error.value.exit_code == 3
    assert Run.open(tmp_path / "full").status == "failed"
    assert [path.name for path in (tmp_path / "full" / "checkpoints").iterdir()] == ["step-000000003"]
    assert vitreous.resume(tmp_path / "full").manifest["weights"] == finished.manifest["weights"]


def test_a_complete_run_is_left_alone_and_damaged_weights_are_restored(finished):
    before = finished.weights_path.read_bytes()
    flipped = bytearray(before)
    flipped[-1] ^= 1
    finished.weights_path.write_bytes(flipped)
    for call in (vitreous.load_run, vitreous.evaluate, vitreous.write_report):
        with pytest.raises(RunError, match="not what training wrote"):
            call(finished.path)
    vitreous.resume(finished.path)
    assert finished.weights_path.read_bytes() == before


def test_a_kill_at_any_moment_loses_nothing_but_the_epoch_under_way(photos, tmp_path):
    """kill -9 of a real process, then resume: the same bits as the run that nobody disturbed."""
    config = dataclasses.replace(Config().updated({"model": {"name": TINY["model"]}}), seed=3)
    config = config.override(
        [
            "training.epochs=60",
            "training.batch_size=16",
            "engine.threads=1",
            "engine.precision=fp32",
            "engine.device=cpu",
        ]
    )
    (tmp_path / "config.toml").write_text(config.to_toml())
    command = [sys.executable, "-m", "vitreous", "train", photos, "--config", tmp_path / "config.toml", "--run"]
    subprocess.run([*command, tmp_path / "straight"], check=True, capture_output=True)
    process = subprocess.Popen([*command, tmp_path / "killed"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: list((tmp_path / "killed" / "checkpoints").glob("step-*")))
    process.kill()
    process.wait()
    resumed = subprocess.run([sys.executable, "-m", "vitreous", "resume", tmp_path / "killed"], capture_output=True)
    assert resumed.returncode == 0, resumed.stderr
    weights = [Run.open(tmp_path / name).manifest["weights"] for name in ("straight", "killed")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_says_how_to_go_on_and_exits_with_its_status(photos, tmp_path, number, status):
    command = [sys.executable, "-m", "vitreous", "train", photos, "--epochs", "5000", "--run", tmp_path / "run"]
    command += ["--model", "conv4s2 gap fc", "--precision", "fp32", "--set", "training.batch_size=16"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: list((tmp_path / "run" / "checkpoints").glob("step-*")))
    process.send_signal(number)
    started = time.monotonic()
    _, errors = process.communicate()
    assert time.monotonic() - started < 10
    assert process.returncode == status
    assert f"vitreous resume {tmp_path / 'run'}" in errors
    assert Run.open(tmp_path / "run").status == "interrupted"
    assert vitreous.load_run(tmp_path / "run").classes == ("bright", "dark", "middle")


def test_data_that_changed_is_not_silently_scored(finished, photos):
    next((photos / "dark").iterdir()).unlink()
    with pytest.raises(RunError, match=r"1 images are gone"):
        vitreous.evaluate(finished.path)
    assert vitreous.evaluate(finished.path, photos)["num_images"] == 71


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the run did not start"
        time.sleep(0.02)


def test_rates_are_tried_and_nothing_is_kept(cli, photos, tmp_path, monkeypatch):
    quick = ("--model", "conv4bn gap fc", "--precision", "fp32", "--set", "engine.threads=1")
    status, out, _ = cli("train", photos, "--find-lr", *quick, "--set", "training.optimizer=sgd", "--json")
    found = json.loads(out)
    assert status == 0
    assert found["rates"] == sorted(found["rates"])
    assert len(found["rates"]) == len(found["losses"]) > 20
    assert found["suggested"] < 10
    assert min(found["losses"]) < found["losses"][0]
    assert "training.learning_rate=" in cli("train", photos, "--find-lr", *quick)[1]
    assert not (tmp_path / "runs").exists()
    status, _, err = cli("train", photos, "--find-lr", "--minutes", 1, *quick)
    assert (status, "training.minutes" in err) == (2, True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    status, _, err = cli("train", photos, "--find-lr", *quick)
    assert (status, "without torchrun" in err) == (2, True)


def test_a_run_whose_report_cannot_be_written_has_failed_and_is_finished_by_resuming(photos, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise MachineError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("vitreous.report.page.write_report", fail)
        with pytest.raises(MachineError):
            train(photos, tmp_path / "run")
    assert Run.open(tmp_path / "run").status == "failed"
    assert vitreous.resume(tmp_path / "run").status == "complete"

"""When numbers stop being finite: back to the last good state with a smaller rate, three times, then a clear end."""

import signal
from contextlib import nullcontext

import pytest
import torch

import vitreous
from vitreous.checkpoint import load_newest_checkpoint
from vitreous.errors import Interrupted, MachineError
from vitreous.run import Run
from vitreous.training import loop

TINY = {
    "model": "conv4bn pool gap fc",
    "epochs": 3,
    "training.batch_size": 8,
    "training.learning_rate": 0.08,
    "training.ema_decay": 0.9,
    "augmentation.shift_px": 0,
    "engine.precision": "fp32",
    "engine.threads": 1,
}


class Told:
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)

    def task(self, *_args, **_kwargs):
        return nullcontext(self)

    def advance(self, *_args):
        pass


@pytest.fixture
def breaking(monkeypatch):
    """Make steps give NaN, in loss and weights, where the number of the step and the rate say so."""

    def install(is_broken):
        whole, calls = loop.train_step, []

        def step(network, images, labels, optimizer, **options):
            rate = optimizer.param_groups[0]["lr"]
            calls.append(rate)
            loss = whole(network, images, labels, optimizer, **options)
            if is_broken(len(calls), rate):
                with torch.no_grad():
                    next(network.parameters()).fill_(float("nan"))
                return loss * float("nan")
            return loss

        monkeypatch.setattr(loop, "train_step", step)
        return calls

    return install


def test_a_fault_that_a_smaller_rate_heals_costs_one_epoch(photos, tmp_path, breaking):
    calls = breaking(lambda number, rate: number == 9)
    told = Told()
    run = vitreous.train(photos, run=tmp_path / "run", progress=told, **TINY)
    assert run.status == "complete"
    (line,) = [line for line in told.lines if "no longer finite" in line]
    assert "at step 9" in line
    assert ".jpg" in line, "the images are named"
    assert "learning_rate = 0.02 in place of 0.08" in line
    assert max(calls[-3:]) < 0.02
    assert [line["epoch"] for line in run.metrics()] == [1, 2, 3]
    checkpoint, _ = load_newest_checkpoint(run.checkpoints_path, run.identity)
    assert (checkpoint.progress["rollbacks"], checkpoint.progress["rate_share"]) == (1, 0.25)
    assert all(tensor.isfinite().all() for tensor in checkpoint.tensors.values() if tensor.is_floating_point())


def test_before_the_first_checkpoint_it_goes_back_to_the_first_weights(photos, tmp_path, breaking):
    breaking(lambda number, rate: number == 2)
    told = Told()
    run = vitreous.train(photos, run=tmp_path / "run", progress=told, **TINY)
    assert any("Back to the state after epoch 0" in line for line in told.lines)
    breaking(lambda number, rate: False)
    calm = vitreous.train(photos, run=tmp_path / "calm", **{**TINY, "training.learning_rate": 0.02})
    assert run.manifest["weights"]["sha256"] == calm.manifest["weights"]["sha256"]


def test_three_times_and_no_more(photos, tmp_path, breaking):
    breaking(lambda number, rate: number > 7)
    with pytest.raises(MachineError, match=r"finite.*\.jpg.*3 times.*learning_rate") as stopped:
        vitreous.train(photos, run=tmp_path / "run", **TINY)
    assert "after epoch 1 is kept" in str(stopped.value)
    run = Run.open(tmp_path / "run")
    assert run.status == "failed"
    checkpoint, problems = load_newest_checkpoint(run.checkpoints_path, run.identity)
    assert (checkpoint.progress["epoch"], problems) == (1, [])
    assert all(tensor.isfinite().all() for name, tensor in checkpoint.tensors.items() if name.startswith("best."))


def test_a_run_that_went_back_and_was_stopped_goes_on_to_the_same_bits(photos, tmp_path, breaking):
    def is_too_fast(number, rate):
        return 0.05 > rate > 0.03  # met once on the way down, at the first rate only

    breaking(is_too_fast)
    straight = vitreous.train(photos, run=tmp_path / "straight", **TINY)
    checkpoint, _ = load_newest_checkpoint(straight.checkpoints_path, straight.identity)
    assert checkpoint.progress["rollbacks"] == 1
    for stop_at in (4, 9, 14, 17):
        asked = iter(range(stop_at))
        stop = nullcontext(lambda asked=asked: None if next(asked, None) is not None else signal.SIGTERM)
        path = tmp_path / f"stopped {stop_at}"
        with pytest.raises(Interrupted):
            vitreous.train(photos, run=path, stop=stop, **TINY)
        assert vitreous.resume(path).manifest["weights"] == straight.manifest["weights"]

"""Whatever is done to a run folder, in whatever order, it opens and holds what was last committed."""

import json
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from vitreous.checkpoint import KEPT, load_newest_checkpoint, save_checkpoint
from vitreous.config import Config
from vitreous.errors import MachineError, RunError
from vitreous.run import Run, SplitRow
from vitreous.weights import publish_weights

TEXTS = some.text(max_size=20)
BITS = some.integers(0, 7)
RUN = "its identity"


def read_all(path):
    run = Run.open(path)
    return run.config, list(run.splits())


class RunFolder(RuleBasedStateMachine):
    """A run folder beside a model of what it must hold."""

    def __init__(self):
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.path = self.root / "run"
        self.step = 0
        self.checkpoints = {}  # step -> the number in its tensor; the damaged ones are taken out
        self.lines = []
        self.weights = None

    def teardown(self):
        shutil.rmtree(self.root)

    @initialize(classes=some.lists(TEXTS, min_size=1, max_size=3), names=some.lists(TEXTS, max_size=3))
    def create(self, classes, names):
        self.rows = [SplitRow(f"{number:064x}", name, classes[0], "train") for number, name in enumerate(names)]
        manifest = {"classes": classes, "weights": None}
        self.manifest = {**manifest, "status": "running"}
        Run.create(self.path, Config(), manifest, self.rows)

    @rule(key=some.sampled_from(("scores", "note")), value=some.dictionaries(TEXTS, some.integers() | TEXTS))
    def update_manifest(self, key, value):
        Run.open(self.path).update_manifest(**{key: value})
        self.manifest[key] = value

    @rule(status=some.sampled_from(("running", "interrupted", "failed", "complete")))
    def set_status(self, status):
        Run.open(self.path).update_manifest(status=status)
        self.manifest["status"] = status

    @rule(loss=some.floats(allow_nan=False, allow_infinity=False))
    def append_metrics(self, loss):
        line = {"epoch": len(self.lines) + 1, "train_loss": loss}
        Run.open(self.path).append_metrics(line)
        self.lines.append(line)

    @rule(last=some.integers(0, 6))
    def rewind_metrics(self, last):
        Run.open(self.path).rewind_metrics(last)
        self.lines = [line for line in self.lines if line["epoch"] <= last]

    @precondition(lambda self: self.lines)
    @rule()
    def tear_the_last_line(self):
        """As a power cut may: what was appended last is lost in part, and the epoch is done again."""
        file = self.path / "metrics.jsonl"
        file.write_bytes(file.read_bytes()[:-5])
        self.lines.pop()
        assert Run.open(self.path).metrics() == self.lines
        Run.open(self.path).rewind_metrics(len(self.lines))

    @rule(number=some.floats(-9, 9, width=32))
    def save(self, number):
        self.step += 1
        save_checkpoint(self.path / "checkpoints", self.step, {"w": torch.tensor([number])}, {"step": self.step}, RUN)
        self.checkpoints[self.step] = number
        assert len(self.on_disk()) <= KEPT
        assert max(self.on_disk()) == self.step, "what was fallen back from is gone"
        self.checkpoints = {step: kept for step, kept in self.checkpoints.items() if step in self.on_disk()}

    @rule(number=some.sampled_from((float("nan"), float("inf"))))
    def never_save_what_is_not_finite(self, number):
        with pytest.raises(MachineError, match="no longer finite"):
            save_checkpoint(self.path / "checkpoints", self.step + 1, {"w": torch.tensor([number])}, {}, RUN)

    @precondition(lambda self: self.checkpoints)
    @rule(data=some.data())
    def damage_a_checkpoint(self, data):
        step = data.draw(some.sampled_from(sorted(self.checkpoints)))
        folder = self.path / "checkpoints" / f"step-{step:09d}"
        file = data.draw(some.sampled_from(sorted(folder.iterdir())))
        content = file.read_bytes()
        if data.draw(some.booleans()):
            file.write_bytes(content[: data.draw(some.integers(0, len(content) - 3))])  # the last byte is a line's end
        else:
            at = data.draw(some.integers(0, len(content) - 1))
            file.write_bytes(content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :])
        del self.checkpoints[step]

    @precondition(lambda self: self.checkpoints)
    @rule(ahead=some.integers(0, 3))
    def copy_a_checkpoint_of_another_run(self, ahead):
        """Over one of ours, or as a later one: it is never taken for ours."""
        step, there = max(self.checkpoints) + ahead, self.root / "there"
        save_checkpoint(there, step, {"w": torch.tensor([99.0])}, {"step": step}, "another's identity")
        ours = self.path / "checkpoints" / f"step-{step:09d}"
        shutil.rmtree(ours, ignore_errors=True)
        (there / ours.name).rename(ours)
        self.checkpoints.pop(step, None)

    @rule(number=some.floats(-9, 9, width=32))
    def publish(self, number):
        publish_weights(Run.open(self.path), {"w": torch.tensor([number])}, {"epoch": 1})
        self.weights = number

    @precondition(lambda self: self.weights is not None)
    @rule(place=some.floats(0, 1, exclude_max=True))
    def damaged_weights_are_never_given_out(self, place):
        file = self.path / "model.safetensors"
        whole = file.read_bytes()
        at = int(place * len(whole))
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x01]) + whole[at + 1 :])
        with pytest.raises(RunError, match="not what training wrote"):
            Run.open(self.path).verified_weights()
        file.write_bytes(whole)

    @precondition(lambda self: hasattr(self, "rows"))
    @rule(name=some.sampled_from(("manifest.json", "config.toml", "splits.csv")), place=some.floats(0, 1), bit=BITS)
    def damage_is_found_in_what_is_written_once(self, name, place, bit):
        file = self.path / name
        whole = file.read_bytes()
        at = int(place * (len(whole) - 3))
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
        is_other_space = whole[at : at + 1].isspace() and file.read_bytes()[at : at + 1].isspace()
        if name != "manifest.json" or not is_other_space:  # which says the same in JSON
            with pytest.raises(RunError, match=r"damaged|newer|not what was written"):
                read_all(self.path)
        file.write_bytes(whole)

    def on_disk(self):
        return {int(folder.name[-9:]) for folder in (self.path / "checkpoints").glob("step-*")}

    @invariant()
    def it_holds_what_was_committed(self):
        if not self.path.exists():
            return  # before it is made
        run = Run.open(self.path)
        manifest = {key: value for key, value in run.manifest.items() if key not in ("schema", "weights", "files")}
        assert manifest == {key: value for key, value in self.manifest.items() if key != "weights"}
        assert list(run.splits()) == self.rows
        assert run.metrics() == json.loads(json.dumps(self.lines))
        assert run.config == Config()
        if self.weights is not None:
            assert run.verified_weights().is_file()
        checkpoint, _ = load_newest_checkpoint(run.checkpoints_path, RUN)
        newest = max(self.checkpoints, default=None)
        assert (checkpoint.step if checkpoint else None) == newest
        if checkpoint:
            assert float(checkpoint.tensors["w"][0]) == self.checkpoints[newest]
        assert not list(self.path.rglob("*.tmp")), "nothing half-made stays"


TestRunFolder = RunFolder.TestCase
TestRunFolder.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)

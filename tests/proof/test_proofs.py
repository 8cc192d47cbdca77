"""The promises, tried a little; and that each proof sees a promise that is broken."""

import json
import random
import shutil
from pathlib import Path

import pytest

from vitreous import checkpoint, storage
from vitreous.proof import corruption, crash_points, kills, power_loss
from vitreous.proof.power_loss import Disk
from vitreous.proof.rows import row_of
from vitreous.run import Run


def test_a_row_is_kept_only_if_all_held_and_something_was_tried():
    assert row_of("a", "b", [("1", "x"), ("2", "x")], [], 1.0).is_kept
    assert not row_of("a", "b", [("1", "x"), ("2", "x")], ["2"], 1.0).is_kept
    assert not row_of("a", "b", [], [], 1.0).is_kept


def test_kills():
    row = kills.prove(1, seed=5)
    assert row.is_kept, row.broken
    assert row.tried >= 2, "a kill, and the end of a run"


def test_crash_points():
    row = crash_points.prove(every=70)
    assert row.is_kept, row.broken
    assert row.tried >= 2


def test_power_cuts():
    row = power_loss.prove(200)
    assert row.is_kept, row.broken
    assert row.tried == 200


def test_damaged_files():
    row = corruption.prove(400)
    assert row.is_kept, row.broken
    assert row.tried == 400


# --- they can fail ----------------------------------------------------------------------------------------------------


def test_a_disk_keeps_what_was_synced_and_may_lose_the_rest():
    disk = Disk()
    log = [
        ["mkdir", "run", "", None],
        ["open", "run/a.tmp", "", None],
        ["sync", "run/a.tmp", "", b"new".hex()],
        ["rename", "run/a.tmp", "run/a", b"new".hex()],
    ]
    for number in range(len(log)):
        power_loss.replay(log, disk, number)
    seen = {tuple(sorted(disk.state(random.Random(seed)))) for seed in range(200)}
    assert ("",) in seen, "nothing is synced yet"
    assert ("", "run", "run/a") in seen
    assert ("", "run", "run/a.tmp") in seen
    for directory in ("", "run"):
        disk.sync_names(directory)
    states = [disk.state(random.Random(seed)) for seed in range(50)]
    assert all(state == {"": None, "run": None, "run/a": b"new"} for state in states)


def test_a_file_that_is_not_synced_is_torn_in_some_state():
    disk = Disk()
    log = [["open", "a", "", None], ["rename", "a", "b", b"0123456789".hex()]]
    power_loss.replay(log, disk, 0)
    disk.sync_names("")
    contents = {disk.state(random.Random(seed))["a"] for seed in range(200)}
    assert {b"", b"0123456789"} < contents
    assert any(0 < len(content) < 10 for content in contents)


@pytest.fixture
def run(tmp_path):
    return run_in(tmp_path / "run")


def run_in(path):
    import torch

    from vitreous.config import Config

    run = Run.create(path, Config(), {"classes": ["cat", "dog"], "weights": None}, [])
    for step in (1, 2):
        checkpoint.save_checkpoint(run.checkpoints_path, step, {"w": torch.ones(3)}, {"epoch": step}, run.identity)
        run.append_metrics({"epoch": step})
    return run


def test_what_a_cut_or_a_kill_may_not_do_is_seen(run):
    assert power_loss.fault_of(run.path, is_made=True, committed=2) is None
    assert "step 3 was committed" in power_loss.fault_of(run.path, is_made=True, committed=3)
    assert kills._verdict(run.path) == "whole"
    for epoch in (3, 4):
        run.append_metrics({"epoch": epoch})
    assert "4 epochs were told" in kills._verdict(run.path)
    (run.path / "splits.csv").write_text("")
    assert "splits.csv" in power_loss.fault_of(run.path, is_made=True, committed=2)
    shutil.rmtree(run.path)
    assert power_loss.fault_of(run.path, is_made=False, committed=None) is None
    assert power_loss.fault_of(run.path, is_made=True, committed=None) == "the run is gone"


def test_a_directory_whose_name_is_not_synced_is_lost(monkeypatch, tmp_path):
    """The fault that the recorder found in the program once: told by the same recorder, run by hand."""
    log = [["mkdir", "run", "", None], ["open", "run/.x.tmp", "", None], ["sync", "run/.x.tmp", "", "00"]]
    log += [["rename", "run/.x.tmp", "run/manifest.json", "00"], ["sync names", "run", "", None]]
    disk = Disk()
    for number in range(len(log)):
        power_loss.replay(log, disk, number)
    left = [disk.state(random.Random(seed)) for seed in range(50)]
    assert any("run" not in state for state in left)


def test_damage_that_nobody_notices_is_seen(run, tmp_path, monkeypatch):
    other = run_in(tmp_path / "other")
    name = "checkpoints/step-000000002/state.safetensors"
    chooser, canary = random.Random(0), tmp_path / "canary"
    assert corruption._try(run.path, other.path, name, flip_last, chooser, canary) is None
    monkeypatch.setattr(storage, "sha256_file", lambda path: json.loads(_hashes(path))["sha256"][Path(path).name])
    assert corruption._try(run.path, other.path, name, flip_last, chooser, canary) == "nobody noticed"


def flip_last(whole, *_):
    return whole[:-1] + bytes([whole[-1] ^ 1])  # a bit of a number: the file is still one that loads


def _hashes(path):
    return (Path(path).parent / "checkpoint.json").read_text()


def test_code_that_was_run_is_seen(run, tmp_path, monkeypatch):
    import pickle

    def reads_pickles(path):
        pickle.loads(Path(path, "splits.csv").read_bytes()).close()
        return "read"

    monkeypatch.setattr(corruption, "_run_fault", reads_pickles)
    canary = tmp_path / "canary"
    said = corruption._try(run.path, run.path, "splits.csv", corruption._pickled, random.Random(1), canary)
    assert said == "its code was run"


def test_other_weights_at_the_end_break_the_promise(monkeypatch):
    attempts = iter([("right", 1.0), (None, 0.5), ("wrong", 1.0)])  # as it must be, a kill, the end
    monkeypatch.setattr(kills, "_attempt", lambda *_: next(attempts))
    monkeypatch.setattr(kills.shutil, "rmtree", lambda *_args, **_named: None)
    row = kills.prove(1)
    assert not row.is_kept
    assert "other weights: wrong" in row.broken[0]


@pytest.mark.parametrize(
    ("name", "changed", "same"),
    [
        ("a.json", b'{"a": 0.32666666666666667}', True),
        ("a.json", b'{"a":\t0.32666666666666666}', True),
        ("a.json", b'{"a": 0.32666666666666766}', False),
        ("a.json", b'{"e": 0.32666666666666666}', False),
        ("a.json", b'{"a": 0.32666666666666666', False),
        ("a.csv", b'{"a": 0.32666666666666667}', False),
    ],
)
def test_which_damage_says_the_same(name, changed, same):
    assert corruption._says_the_same(Path(name), b'{"a": 0.32666666666666666}', changed) is same

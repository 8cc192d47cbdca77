"""A disk that fills up, or becomes read-only, while a run trains: the old checkpoint stays whole, and the run goes on.

That such a disk is found before the first epoch is in test_bad_input.py.
"""

import errno
import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.conftest import make_photos
from vitreous.checkpoint import load_newest_checkpoint
from vitreous.errors import MachineError, RunError
from vitreous.run import Run
from vitreous.workflow.training import resume, train

SETTINGS = {
    "model": "conv4s2 gap fc",
    "epochs": 3,
    "device": "cpu",
    "precision": "fp32",
    "engine.threads": 1,
    "training.batch_size": 16,
}

PROGRAM = """
import json, subprocess, sys
from pathlib import Path
from vitreous.checkpoint import load_newest_checkpoint
from vitreous.errors import MachineError
from vitreous.progress import SILENT
from vitreous.run import Run
from vitreous.workflow.training import resume, train

disk, data, how, settings = Path(sys.argv[1]), sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
filler = disk / "filler"

class Spoiling:
    task = staticmethod(SILENT.task)

    def say(self, text):
        if text.startswith("epoch 2/"):
            if how == "full":
                try:
                    with filler.open("wb") as file:
                        while True:
                            file.write(bytes(512))
                            file.flush()
                except OSError:
                    pass
            else:
                subprocess.run(["mount", "--bind", disk, disk], check=True)  # over the one with open files
                subprocess.run(["mount", "-o", "remount,bind,ro", disk], check=True)

told = {}
try:
    train(data, run=disk / "run", progress=Spoiling(), **settings)
except MachineError as error:
    told["error"] = str(error)
run = Run.open(disk / "run")
checkpoint, problems = load_newest_checkpoint(run.checkpoints_path, run.identity)
told |= {"epoch": checkpoint.progress["epoch"], "problems": problems}
told |= {"config": bool(run.config), "rows": len(list(run.splits()))}
if how == "full":
    filler.unlink()
else:
    subprocess.run(["mount", "-o", "remount,bind,rw", disk], check=True)
told["sha256"] = resume(disk / "run").manifest["weights"]["sha256"]
told["left"] = sorted(path.name for path in disk.rglob("*.tmp"))
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("disk") / "photos", num_per_class=12)


@pytest.fixture(scope="module")
def straight(photos):
    return train(photos, run=photos.parent / "straight", **SETTINGS).manifest["weights"]["sha256"]


@pytest.mark.skipif(sys.platform != "linux", reason="the private file system is Linux's")
@pytest.mark.parametrize(("how", "words"), [("full", "is full"), ("read-only", "Read-only file system")])
def test_a_disk_that_is_spoiled_in_the_second_epoch_costs_that_epoch_alone(tmp_path, photos, straight, how, words):
    """A real file system, in a mount namespace of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    (tmp_path / "program.py").write_text(PROGRAM)
    script = f'mount -t tmpfs -o size=4m none {disk} || exit 99; exec "$@"'
    command = [sys.executable, tmp_path / "program.py", disk, photos, how, json.dumps(SETTINGS)]
    done = subprocess.run(["unshare", "-Urm", "bash", "-c", script, "bash", *command], capture_output=True, text=True)
    assert done.returncode == 0, f"status {done.returncode} (99: cannot mount here): {done.stderr}"
    told = json.loads(done.stdout)
    assert words in told["error"]
    assert told["epoch"] == 1, "what was saved before is whole"
    assert told["problems"] == []
    assert (told["config"], told["rows"]) == (True, 36)
    assert told["sha256"] == straight
    assert told["left"] == []


def spoiled_sync(monkeypatch, number):
    """From its Nth call on, a sync finds no room; the list of calls, and the way back."""
    calls, fsync = [], os.fsync

    def spoiled(descriptor):
        calls.append(descriptor)
        if len(calls) >= number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spoiled)
    return calls, lambda: monkeypatch.setattr(os, "fsync", fsync)


@pytest.fixture(scope="module")
def num_syncs(photos):
    with pytest.MonkeyPatch.context() as patched:
        calls, _ = spoiled_sync(patched, 10**9)
        train(photos, run=photos.parent / "counted", **SETTINGS)
    return len(calls)


def fail_at(monkeypatch, photos, path, number):
    """A run whose disk is full from the Nth sync on; then mended and brought to its end. The weights' SHA-256."""
    _, mend = spoiled_sync(monkeypatch, number)
    with pytest.raises((MachineError, RunError), match=r"full|No space"):
        train(photos, run=path, **SETTINGS)
    mend()
    if not path.exists():
        return train(photos, run=path, **SETTINGS).manifest["weights"]["sha256"]
    run = Run.open(path)
    _ = run.config, list(run.splits())
    _, problems = load_newest_checkpoint(run.checkpoints_path, run.identity)
    assert problems == []
    return resume(path).manifest["weights"]["sha256"]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.99])
def test_wherever_the_disk_fills_up_the_run_ends_with_the_same_bits(
    monkeypatch, tmp_path, photos, straight, num_syncs, share
):
    number = 1 + int(share * num_syncs)
    assert fail_at(monkeypatch, photos, tmp_path / "run", number) == straight
    assert list(tmp_path.rglob("*.tmp")) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_at_every_single_sync_a_full_disk_costs_nothing(monkeypatch, tmp_path, photos, straight, num_syncs):
    for number in range(1, 1 + num_syncs):
        assert fail_at(monkeypatch, photos, tmp_path / "run", number) == straight, number
        assert list(tmp_path.rglob("*.tmp")) == [], number
        shutil.rmtree(tmp_path / "run")

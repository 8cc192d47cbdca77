"""A power cut at any moment: each state in which the disk may be left, from the recorded writes of a run.

What was synced stays. Of a file that was not, any part of the new bytes may be there, or the old ones, or none; of the
names in a directory that was not, any of the changes may be there or not. (A kill never shows this: the kernel keeps
what a dead process wrote.) ``python -m vitreous.proof.power_loss FOLDER STATES SEED`` is the worker.
"""

import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitreous.progress import SILENT, Progress
from vitreous.proof import subject
from vitreous.proof.child import child
from vitreous.proof.rows import ProofRow, row_of
from vitreous.proof.watch import watch

PROMISE = "whatever a power cut leaves of unsynced writes, a run opens and has what was committed last"


@dataclass
class _File:
    """One file's bytes, whatever its names: those on the disk, and those that may be there in part."""

    durable: bytes = b""
    volatile: bytes | None = None  # None: nothing is under way


@dataclass
class Disk:
    """Names and files, as an operating system may keep them; paths are relative to the folder above the run."""

    names: dict[str, _File | None] = field(default_factory=lambda: {"": None})  # None is a directory
    pending: list[tuple[str, ...]] = field(default_factory=list)  # changes of names that are not on the disk yet
    files: list[_File] = field(default_factory=list)
    current: dict[str, _File | None] = field(default_factory=lambda: {"": None})  # the names as the process sees them

    def change(self, *change: str) -> None:
        """A change of names that may be lost until its directory is synced."""
        self.pending.append(change)
        _apply(self.current, change, self.files)

    def sync_names(self, directory: str) -> None:
        """Keep the changes of names in one directory."""
        kept = [change for change in self.pending if any(_parent(path) == directory for path in change[1:3] if path)]
        for change in kept:
            _apply(self.names, change, self.files)
            self.pending.remove(change)

    def state(self, chooser: random.Random) -> dict[str, bytes | None]:
        """One way in which the disk may be left now: path -> bytes, or None for a directory."""
        names = dict(self.names)
        mode = chooser.choice(("none", "all", "some", "first"))
        first = chooser.randint(0, len(self.pending))
        for number, change in enumerate(self.pending):
            is_kept = {"none": False, "all": True, "some": chooser.random() < 0.5, "first": number < first}[mode]
            if is_kept:
                _apply(names, change, self.files)
        contents = {id(file): _contents(file, chooser) for file in self.files}
        whole: dict[str, bytes | None] = {}
        for path in sorted(names):
            if _parent(path) in whole or path == "":
                file = names[path]
                whole[path] = None if file is None else contents[id(file)]
        return whole


def _apply(names: dict[str, _File | None], change: tuple[str, ...], files: list[_File]) -> None:
    """A change that the names do not allow, since one before it was lost, is lost as well."""
    match change:
        case ("create", path, number) if path not in names:
            names[path] = files[int(number)]
        case ("mkdir", path, _):
            names.setdefault(path, None)
        case ("remove" | "rmdir", path, _):
            names.pop(path, None)
        case ("rename", old, new) if old in names:
            moved = [path for path in names if path == old or path.startswith(f"{old}/")]
            for path in moved:
                names[new + path.removeprefix(old)] = names.pop(path)


def _contents(file: _File, chooser: random.Random) -> bytes:
    if file.volatile is None:
        return file.durable
    kept = chooser.choice(("old", "none", "part", "all", "noughts"))
    cut = chooser.randint(0, len(file.volatile))
    torn = {"part": file.volatile[:cut], "noughts": file.volatile[:cut] + bytes(len(file.volatile) - cut)}
    return {"old": file.durable, "none": b"", "all": file.volatile, **torn}[kept]


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


# --- what was recorded ------------------------------------------------------------------------------------------------


def record(folder: Path, data: Path) -> list[list[Any]]:
    """Train in this process, which ends soon after, and list what it did to the run's files, in order."""
    from vitreous.checkpoint import save_checkpoint
    from vitreous.training import loop

    log: list[list[Any]] = []
    root = os.path.realpath(folder)

    def relative(path: str) -> str:
        return "" if path == root else os.path.relpath(path, root)

    def notice(what: str, path: str, other: str) -> None:
        kind = "sync names" if what == "sync" and Path(path).is_dir() else what
        seen = Path(path)
        holds = seen.read_bytes().hex() if kind in ("sync", "rename") and seen.is_file() else None
        log.append([kind, relative(path), relative(other) if other else "", holds])

    def noticed_save(checkpoints: Path, step: int, *arguments: Any) -> None:
        save_checkpoint(checkpoints, step, *arguments)
        log.append(["committed", "", str(step), None])

    vars(loop)["save_checkpoint"] = noticed_save
    watch(folder, notice)
    subject.begin(folder / "run", data)
    return log


def replay(log: list[list[Any]], disk: Disk, number: int) -> int | None:
    """What entry ``number`` of the log does to the disk; the step of a commit, if it is one."""
    what, path, other, holds = log[number]
    content = None if holds is None else bytes.fromhex(holds)
    file = disk.current.get(path)
    match what:
        case "open":
            if file is None:
                disk.files.append(_File(volatile=_next_content(log, number, path)))
                disk.change("create", path, str(len(disk.files) - 1))
            else:
                file.volatile = _next_content(log, number, path)
        case "sync" if content is not None:
            if file is None:  # native code made it
                file = _File()
                disk.files.append(file)
                disk.change("create", path, str(len(disk.files) - 1))
            file.durable, file.volatile = content, None
        case "sync names":
            disk.sync_names(path)
        case "mkdir" | "remove" | "rmdir":
            disk.change(what, path, "")
        case "rename":
            disk.change("rename", path, other)
        case "committed":
            return int(other)
    return None


def _next_content(log: list[list[Any]], number: int, path: str) -> bytes:
    """What the file that is opened here will hold when it is synced or renamed."""
    for what, later, _, holds in log[number + 1 :]:
        if later == path and what in ("sync", "rename") and holds is not None:
            return bytes.fromhex(holds)
    return b""


# --- what is promised -------------------------------------------------------------------------------------------------


def fault_of(run: Path, is_made: bool, committed: int | None) -> str | None:
    """What is wrong with a run as it was left; None if nothing is.

    Args:
        is_made: the run folder was complete before the cut.
        committed: the step of the newest checkpoint whose commit had returned.
    """
    from vitreous.checkpoint import load_newest_checkpoint
    from vitreous.errors import VitreousError
    from vitreous.run import Run

    if not (run / "manifest.json").exists():
        return "the run is gone" if is_made else None
    try:
        opened = Run.open(run)
        _ = opened.config, list(opened.splits()), opened.metrics()
        if opened.manifest.get("weights"):
            opened.verified_weights()
    except VitreousError as error:
        return str(error)
    checkpoint, problems = load_newest_checkpoint(run / "checkpoints", opened.identity)
    found = -1 if checkpoint is None else checkpoint.step
    if committed is not None and found < committed:
        return f"step {committed} was committed and the newest that is left is {found} ({'; '.join(problems)})"
    return None


def prove(num_states: int, seed: int = 0, progress: Progress = SILENT) -> ProofRow:
    """Rebuild so many states, at moments drawn at random, and look at each."""
    started = time.monotonic()
    verdicts: list[tuple[str, str]] = []
    broken: list[str] = []
    with tempfile.TemporaryDirectory(prefix="vitreous-power-") as folder:
        command = [sys.executable, "-m", "vitreous.proof.power_loss", folder, str(num_states), str(seed)]
        with (
            child(command, {"VITREOUS_CACHE": f"{folder}/cache"}) as worker,
            progress.task("power cuts", num_states, "states") as task,
        ):
            assert worker.stdout is not None
            for line in worker.stdout:
                name, fault = json.loads(line)
                verdicts.append((name, fault or "whole"))
                broken += [f"{name}: {fault}"] if fault else []
                task.advance(1)
    missing = num_states - len(verdicts)
    verdicts += [("a state", "was not tried")] * missing
    broken += ["a state was not tried: the worker ended"] * missing
    return row_of("power cuts", PROMISE, verdicts, broken, time.monotonic() - started)


def main() -> None:
    """The worker: record a run, then rebuild states of its disk and look at them."""
    folder, num_states, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    watched = folder / "watched"
    watched.mkdir()
    log = record(watched, subject.write_data(folder))
    chooser = random.Random(seed)
    moments = Counter(chooser.randint(0, len(log)) for _ in range(num_states))
    disk, is_made, committed = Disk(), False, None
    for moment in range(len(log) + 1):
        for number in range(moments[moment]):
            fault = _look(disk.state(chooser), folder / "left", is_made, committed)
            before = " ".join(log[moment][:2]) if moment < len(log) else "the end"
            sys.stdout.write(json.dumps([f"before {before} ({moment}), state {number}", fault]) + "\n")
        if moment < len(log):
            step = replay(log, disk, moment)
            committed = committed if step is None else step
            is_made = is_made or log[moment][:2] == ["open", "run/.lock"]  # training begins


def _look(state: dict[str, bytes | None], left: Path, is_made: bool, committed: int | None) -> str | None:
    shutil.rmtree(left, ignore_errors=True)
    for path, content in state.items():
        if content is None:
            (left / path).mkdir()
        else:
            (left / path).write_bytes(content)
    return fault_of(left / "run", is_made, committed)


if __name__ == "__main__":
    main()

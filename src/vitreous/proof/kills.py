"""kill -9 at random moments of a training run, and again while it is resumed, until it comes to its end."""

import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vitreous.checkpoint import load_newest_checkpoint
from vitreous.errors import VitreousError
from vitreous.progress import SILENT, Progress
from vitreous.proof import subject
from vitreous.proof.child import child
from vitreous.proof.rows import ProofRow, row_of
from vitreous.run import Run

_WHOLE, _BEFORE, _SAME = "whole", "not a run yet", "the same weights"
PROMISE = "killed at any moment, a run opens, has lost no finished epoch, and ends with the same weights, bit for bit"


def prove(num_kills: int, seed: int = 0, progress: Progress = SILENT) -> ProofRow:
    """Kill so many times; each run is killed until its last attempt outlives the patience of the killer."""
    started = time.monotonic()
    chooser = random.Random(seed)
    verdicts: list[tuple[str, str]] = []
    with (
        tempfile.TemporaryDirectory(prefix="vitreous-kills-") as name,
        progress.task("kills", num_kills, "kills") as task,
    ):
        folder = Path(name)
        data = subject.write_data(folder)
        wanted, whole_seconds = _attempt("train", folder / "whole", data, None)
        run, kills, kills_of_run = folder / "run", 0, 0
        while kills < num_kills:
            seen, _ = _attempt(_next(run), run, data, chooser.uniform(0, whole_seconds))
            if seen is None:
                kills, kills_of_run = kills + 1, kills_of_run + 1
                verdicts.append((f"kill {kills}", _verdict(run)))
                task.advance(1)
            if seen is not None or kills == num_kills:
                seen = seen or _attempt(_next(run), run, data, None)[0]
                said = _SAME if seen == wanted else f"other weights: {seen}"
                verdicts.append((f"the end of a run that was killed {kills_of_run} times", said))
                shutil.rmtree(run)
                kills_of_run = 0
    broken = [f"{trial}: {said}" for trial, said in verdicts if said not in (_WHOLE, _BEFORE, _SAME)]
    return row_of("kills", PROMISE, verdicts, broken, time.monotonic() - started)


def _attempt(what: str, run: Path, data: Path, seconds: float | None) -> tuple[str | None, float]:
    """Begin or go on, and kill it so long after it is ready; the weights' SHA-256, None if it was killed first."""
    command = [sys.executable, "-m", "vitreous.proof.subject", what, str(run), str(data)]
    with child(command, {"VITREOUS_CACHE": str(run.parent / "cache")}) as process:
        assert process.stdout is not None
        process.stdout.readline()
        started = time.monotonic()
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            return None, time.monotonic() - started
        return process.stdout.read().strip() or "it ended in an error", time.monotonic() - started


def _next(run: Path) -> str:
    """What is to be done with what a kill has left."""
    if (run / "manifest.json").exists():
        return "resume"
    shutil.rmtree(run, ignore_errors=True)
    return "train"


def _verdict(path: Path) -> str:
    """Whether a run that was killed opens, and has all epochs but the one under way."""
    if not (path / "manifest.json").exists():
        return _BEFORE
    try:
        run = Run.open(path)
        _ = run.config, list(run.splits())
        if run.manifest.get("weights"):
            run.verified_weights()
    except VitreousError as error:
        return str(error)
    checkpoint, _ = load_newest_checkpoint(run.checkpoints_path, run.identity)
    told = [line["epoch"] for line in run.metrics()]
    kept = checkpoint.progress["epoch"] if checkpoint else 0
    if told and kept < max(told) - 1:
        return f"{max(told)} epochs were told, and {kept} are left"
    return _WHOLE

"""An end at every single write: the process is gone before the Nth open, sync, rename or removal, for each N.

``python -m vitreous.proof.crash_points FOLDER EVERY`` imports everything once, and forks a child for each attempt; it
prints the number of points and then a JSON line for each that was tried.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from vitreous.progress import SILENT, Progress
from vitreous.proof import subject
from vitreous.proof.child import child
from vitreous.proof.rows import ProofRow, row_of
from vitreous.proof.watch import watch
from vitreous.run import Run

PROMISE = "ended before any of its writes, a run opens and resumes to the same weights, bit for bit"

_LOADED_ONCE = ("vitreous.workflow.training", "sklearn.metrics", "scipy.stats", "scipy.ndimage", "imagehash")
_CRASHED = 77  # the child's exit status at the point
_NEVER = -1


def prove(every: int = 1, progress: Progress = SILENT) -> ProofRow:
    """Try each point, or only one in ``every``."""
    started = time.monotonic()
    verdicts, broken = [], []
    with tempfile.TemporaryDirectory(prefix="vitreous-crash-") as folder:
        command = [sys.executable, "-m", "vitreous.proof.crash_points", folder, str(every)]
        with child(command, {"VITREOUS_CACHE": f"{folder}/cache"}) as worker:
            assert worker.stdout is not None
            num_points = int(worker.stdout.readline() or 0)
            wanted = range(0, num_points, every)
            with progress.task("crash points", len(wanted), "ends") as task:
                for line in worker.stdout:
                    point = json.loads(line)
                    name = f"before {point['what']} of {point['path']} (number {point['number']})"
                    verdicts.append((name, point["verdict"]))
                    if not point["is_kept"]:
                        broken.append(f"{name}: {point['verdict']}")
                    task.advance(1)
    missing = len(wanted) - len(verdicts)
    if missing:
        verdicts += [("a point", "was not tried")] * missing
        broken += ["a point was not tried: the worker ended"] * missing
    return row_of("crash points", PROMISE, verdicts, broken, time.monotonic() - started)


def main() -> None:
    """The worker."""
    import torch

    for name in _LOADED_ONCE:
        import_module(name)

    torch.set_num_threads(1)  # a pool of threads would not survive the fork
    folder, every = Path(sys.argv[1]), int(sys.argv[2])
    data = subject.write_data(folder)
    told = folder / "told.json"
    _in_child(partial(_attempt, folder / "whole", data, _NEVER, told))
    whole = json.loads(told.read_text())
    _say(whole["num_points"])
    for number in range(0, whole["num_points"], every):
        run = folder / "run"
        shutil.rmtree(run, ignore_errors=True)
        told.unlink()
        status = _in_child(partial(_attempt, run, data, number, told))
        point = json.loads(told.read_text()) if told.exists() else {"what": "nothing", "path": ""}
        verdict = folder / "verdict.txt"
        verdict.unlink(missing_ok=True)
        if status == _CRASHED:
            _in_child(partial(_judge, run, data, whole["sha256"], verdict))
            said = verdict.read_text() if verdict.exists() else "going on ended in an error"
        else:
            said = "the point was not met: the run is not the same each time"
        is_kept = said in (_SAME, _BEFORE)
        _say(json.dumps({"number": number, **point, "verdict": said, "is_kept": is_kept}))


_SAME = "resumed to the same weights"
_BEFORE = "not a run yet; begun again, to the same weights"


def _judge(run: Path, data: Path, wanted: str, verdict: Path) -> None:
    """Open the run as it was left, go on to its end, and write down what came of it."""
    is_run = (run / "manifest.json").exists()
    if is_run:
        Run.open(run)
        seen = subject.go_on(run)
    else:
        shutil.rmtree(run, ignore_errors=True)
        seen = subject.begin(run, data)
    same = _SAME if is_run else _BEFORE
    verdict.write_text(same if seen == wanted else f"other weights: {seen[:12]}, not {wanted[:12]}")


def _attempt(run: Path, data: Path, last: int, told: Path) -> None:
    """Train, and be gone before point ``last``; what that was, or how many there are, is told in a file."""
    passed = 0

    def notice(what: str, path: str, _other: str) -> None:
        nonlocal passed
        if passed == last:
            _write(told, {"what": what, "path": _shown(path, run)})
            os._exit(_CRASHED)
        passed += 1

    watch(run, notice)
    weights = subject.begin(run, data)
    _write(told, {"num_points": passed, "sha256": weights})


def _shown(path: str, run: Path) -> str:
    """Below the run, and without the number of the process in temporary names."""
    inside = os.path.relpath(path, run)
    return inside.replace(f".{os.getpid()}.", ".PID.")


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document))


def _in_child(do: Callable[[], object]) -> int:
    """Fork, do it there, and wait; the child's exit status."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            do()
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _say(text: object) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

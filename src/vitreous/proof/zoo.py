"""Hostile and odd image files: each gets the verdict that it must get, quickly and in little memory, on every path."""

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.progress import SILENT, Progress
from vitreous.proof.child import child
from vitreous.proof.rows import ProofRow, row_of
from vitreous.proof.specimens import Specimen, specimens

MOST_SECONDS = 1.0  # of the processor, for one file
MOST_BYTES = 300 * 2**20  # that the memory may grow by while all of them are read

_READER = [sys.executable, "-m", "vitreous.proof.zoo_reader"]


def prove(progress: Progress = SILENT) -> ProofRow:
    """Have every specimen read by a process of its own, and judge what it saw."""
    started = time.monotonic()
    zoo = specimens()
    with tempfile.TemporaryDirectory(prefix="vitreous-zoo-") as folder:
        files, seen = Path(folder, "files"), Path(folder, "seen")
        for made in (files, seen):
            made.mkdir()
        for specimen in zoo:
            (files / specimen.name).write_bytes(specimen.data)
        told = _read(files, seen, Path(folder, "cache"), len(zoo), progress)
        verdicts, broken = [], []
        for specimen in zoo:
            verdict = told["seen"].get(specimen.name, {"reason": "the process that read it ended"})
            verdicts.append((specimen.name, verdict.get("reason") or f"read, {verdict['shape']}"))
            if fault := fault_of(specimen, verdict, seen):
                broken.append(f"{specimen.name}: {fault}")
    verdicts.append(("memory for all of them", f"within {MOST_BYTES} bytes"))
    if not 0 <= told["growth"] <= MOST_BYTES:
        broken.append(f"memory for all of them: {told['growth'] / 2**20:.0f} MiB more")
    promise = "read right or refused with its reason; the same pixels in training, evaluation and prediction"
    return row_of("hostile images", promise, verdicts, broken, time.monotonic() - started)


def fault_of(specimen: Specimen, verdict: dict[str, Any], seen: Path) -> str | None:
    """What is wrong with what a file was taken for; None if nothing is.

    Args:
        verdict: shape or reason, and seconds, as the reader told them.
        seen: where the reader left the pixels, by the file's name.
    """
    reason = verdict.get("reason")
    if verdict.get("seconds", 0.0) > MOST_SECONDS:
        return f"took {verdict['seconds']:.1f} s"
    if specimen.refused is not None:
        if reason is None:
            return f"was read; {specimen.refused!r} was expected"
        return None if specimen.refused in reason else f"{reason!r}; {specimen.refused!r} was expected"
    if reason is not None or specimen.pixels is None:
        return f"was refused: {reason}"
    pixels = np.load(seen / f"{specimen.name}.npy")
    if pixels.shape != specimen.pixels.shape:
        return f"has the shape {pixels.shape}; {specimen.pixels.shape} was expected"
    difference = float(np.abs(pixels.astype(np.int64) - specimen.pixels).mean())
    if difference > specimen.tolerance:
        return f"differs by {difference:.2f} levels"
    return None if verdict.get("is_same_everywhere") else "is not the same in training, evaluation and prediction"


def _read(files: Path, seen: Path, cache: Path, num_files: int, progress: Progress) -> dict[str, Any]:
    """What the reader tells, a line a file; a crash, or a bomb that goes off, takes it alone with it."""
    told: dict[str, Any] = {"seen": {}, "growth": -1}
    command: Sequence[str] = [*_READER, str(files), str(seen)]
    with (
        progress.task("hostile images", num_files, "files") as task,
        child(command, {"VITREOUS_CACHE": str(cache)}) as reader,
    ):
        assert reader.stdout is not None
        for line in reader.stdout:
            document = json.loads(line)
            if "growth" in document:
                told["growth"] = document["growth"]
            elif "is_same_everywhere" in document:
                told["seen"][document["name"]]["is_same_everywhere"] = document["is_same_everywhere"]
            else:
                told["seen"][document["name"]] = document
                task.advance(1)
    return told

"""The promises of Vitreous, tried on this machine; nothing of the user's is touched but read."""

import os
import platform
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vitreous.checkpoint import load_newest_checkpoint
from vitreous.errors import VitreousError
from vitreous.progress import SILENT, Progress
from vitreous.proof import archives, corruption, crash_points, kills, power_loss, traps, zoo
from vitreous.proof.rows import ProofRow, row_of
from vitreous.run import Run, run_path


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is tried."""

    kills: int
    every_crash_point: int  # 1: all of them
    power_cuts: int
    damages: int
    mutations: int  # of archives and weights


QUICK = Effort(kills=4, every_crash_point=40, power_cuts=300, damages=500, mutations=100)
FULL = Effort(kills=200, every_crash_point=1, power_cuts=10_000, damages=10_000, mutations=10_000)


@dataclass(frozen=True)
class Proof:
    """What became of each promise, and where and with what it was tried."""

    rows: tuple[ProofRow, ...]
    not_tried: tuple[str, ...]  # which this system does not let be tried
    machine: str
    versions: dict[str, str]
    started: str

    @property
    def is_kept(self) -> bool:
        """Whether every promise that was tried held every time."""
        return all(row.is_kept for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """The document of ``vitreous prove --json``."""
        return {
            "is_kept": self.is_kept,
            "started": self.started,
            "machine": self.machine,
            "versions": self.versions,
            "rows": [row.to_json() for row in self.rows],
            "not_tried": list(self.not_tried),
        }


def prove(run: str | Path | None = None, *, full: bool = False, seed: int = 0, progress: Progress = SILENT) -> Proof:
    """Try every promise on a small run of our own, in a temporary folder.

    Args:
        run: also read a run of the user's, which stays as it is: is all of it whole?
        full: hundreds of kills and all crash points, which takes the better part of an hour; else some minutes.
        seed: of the moments and damages that are drawn.

    Raises:
        UserError: no run there.
    """
    effort = FULL if full else QUICK
    started = datetime.now(UTC).isoformat(timespec="seconds")
    rows = [] if run is None else [_whole(run_path(str(run)))]
    rows.append(zoo.prove(progress))
    rows.append(traps.prove(progress))
    rows.append(archives.prove(effort.mutations, seed, progress))
    rows.append(corruption.prove(effort.damages, seed, progress))
    not_tried: tuple[str, ...] = ("power cuts", "crash points")
    if hasattr(os, "fork") and Path("/proc/self/fd").exists():  # elsewhere a process cannot be watched so closely
        rows.append(power_loss.prove(effort.power_cuts, seed, progress))
        rows.append(crash_points.prove(effort.every_crash_point, progress))
        not_tried = ()
    rows.append(kills.prove(effort.kills, seed, progress))
    machine = (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    )
    return Proof(tuple(rows), not_tried, machine, versions(), started)


def versions() -> dict[str, str]:
    """Of what a proof depends on."""
    return {name: version(name) for name in ("vitreous", "torch", "numpy", "pillow", "safetensors")}


def _whole(path: Path) -> ProofRow:
    """Each part of a run, and whether it is what was written."""
    begun = time.monotonic()
    run = Run.open(path)
    verdicts, broken = [("manifest.json", "whole")], []
    parts = {
        "config.toml": lambda: run.config,
        "splits.csv": lambda: list(run.splits()),
        "model.safetensors": run.verified_weights,
    }
    for name, read in parts.items():
        try:
            read()
            verdicts.append((name, "whole"))
        except VitreousError as error:
            verdicts.append((name, str(error)))
            broken.append(f"{name}: {error}")
    _, problems = load_newest_checkpoint(run.checkpoints_path, run.identity)
    verdicts.append(("checkpoints", "; ".join(problems) or "whole"))
    broken += problems
    return row_of(f"the run {path}", "all of it is what was written", verdicts, broken, time.monotonic() - begun)

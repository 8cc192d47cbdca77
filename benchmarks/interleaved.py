"""Arms that take turns: every measurement a process of its own and a line of its own in benchmarks/results/.

A round asks every arm once, so that a machine that changes its speed does so for all. Beside the arms each round
measures what the machine itself can do (``benchmarks.ceilings``). A script that was stopped goes on where it stood: a
line that exists for these sources is not measured again; one that tells of a failure is.
"""

import argparse
import json
import os
import sys
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.accuracy import machine, sources_version
from benchmarks.environments import ENVIRONMENTS, SCRIPTS, PeerError, default_folder
from benchmarks.frozen import clocked
from benchmarks.lines import append_line, read_lines

Figures = dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """What was asked on the command line."""

    results: str
    work: Path
    environments: Path
    rounds: int
    only: tuple[str, ...]  # questions
    peers: tuple[str, ...]
    device: str
    is_smoke: bool


@dataclass(frozen=True)
class Measurement:
    """One question to one arm; ``peer`` names the row of SCRIPTS, None is us or the machine."""

    question: str
    arm: str
    ask: Callable[[int], Figures]  # of the number of the round
    peer: str | None = None


def asked(description: str, results: str, questions: Sequence[str], rounds: int, *, has_gpu: bool = False) -> Bench:
    """The command line that all of them share; the work folder is there afterwards."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{results}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("work", type=Path, help="where data and run folders lie")
    parser.add_argument("--rounds", type=int, default=rounds, help=f"{rounds} if not said; a round has its own seed")
    parser.add_argument("--only", nargs="+", choices=questions, default=list(questions), help="these questions")
    parser.add_argument("--peers", nargs="*", choices=list(SCRIPTS), default=list(SCRIPTS), help="these, or none")
    parser.add_argument("--environments", type=Path, default=default_folder(), help="where those of the peers lie")
    parser.add_argument("--smoke", action="store_true", help="a few images, one round, nothing kept: does it run?")
    if has_gpu:
        parser.add_argument("--gpu", action="store_true", help="on the first CUDA device")
    arguments = parser.parse_args()
    work = arguments.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    arguments.environments.mkdir(parents=True, exist_ok=True)
    device = "cuda" if has_gpu and arguments.gpu else "cpu"
    if device == "cuda":
        _require_gpu()
    return Bench(
        results=results,
        work=work,
        environments=arguments.environments.absolute(),
        rounds=1 if arguments.smoke else arguments.rounds,
        only=tuple(arguments.only),
        peers=tuple(arguments.peers),
        device=device,
        is_smoke=arguments.smoke,
    )


def measure(bench: Bench, plan: Sequence[Measurement]) -> None:
    """All of the plan that is asked for and has no line yet, round after round."""
    with tempfile.TemporaryDirectory() as folder:
        # Of an absolute name append_line keeps all, so that a trial leaves nothing among the results.
        results = f"{folder}/{bench.results}" if bench.is_smoke else bench.results
        started, sources = datetime.now(UTC).isoformat(timespec="seconds"), sources_version()
        known = {_key(line) for line in read_lines(results) if "error" not in line}
        for number in range(bench.rounds):
            of_round = {"round": number, "device": bench.device, "sources": sources}
            todo = [each for each in plan if _is_asked(bench, each)]
            todo = [each for each in todo if _key(of_round | {"question": each.question, "arm": each.arm}) not in known]
            ceilings = [Measurement("ceilings", "machine", partial(ask_ceilings, bench))] if todo else []
            for each in [*ceilings, *todo]:
                line = {"question": each.question, "arm": each.arm, **of_round, "started": started}
                line |= {**answer(bench, each, number), "machine": machine()}
                append_line(results, line)
                print(json.dumps(_short(line)), flush=True)


def answer(bench: Bench, each: Measurement, number: int) -> Figures:
    """The figures, or why there are none."""
    try:
        figures = each.ask(number)
        peer = {} if each.peer is None else ENVIRONMENTS[SCRIPTS[each.peer][0]].versions(bench.environments)
    except PeerError as error:
        return {"error": without_folders(bench, str(error))}
    return figures | {"versions": peer or {"python": sys.version.split()[0], "torch": version("torch")}}


def ask_peer(bench: Bench, peer: str, *options: str) -> Figures:
    """What a peer's script prints as its last line, and the command; its seconds are those of the whole process.

    Raises:
        PeerError: its environment cannot be made, or it failed.
    """
    environment, script = SCRIPTS[peer]
    python = ENVIRONMENTS[environment].python(bench.environments)
    taken, _, said = clocked_or_failed([str(python), str(Path(__file__).parent / "peers" / script), *options])
    return {
        "command": without_folders(bench, " ".join(("python", f"benchmarks/peers/{script}", *options))),
        "wall_seconds": taken,
    } | said


def train(
    bench: Bench,
    data: str,
    *options: str,
    environment: dict[str, str] | None = None,
    beside: Callable[[Path], AbstractContextManager[object]] = nullcontext,
) -> "Trained":
    """``vitreous train DATA ...`` in a process of its own; what its run folder tells outlives the folder.

    Args:
        beside: what happens meanwhile; it is given the file that is there once the first epoch is over.

    Raises:
        PeerError: it failed.
    """
    with tempfile.TemporaryDirectory(dir=bench.work) as folder:
        run = Path(folder, "run")
        command = [sys.executable, "-m", "vitreous", "train", data, *options, "--run", str(run), "--json"]
        with beside(run / "metrics.jsonl"):
            taken, said, _ = clocked_or_failed(command, environment, is_document=True)
        said = [(when, without_folders(bench, text)) for when, text in said]
        epochs = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        manifest = json.loads((run / "manifest.json").read_text())
        return Trained(taken, said, manifest, tomllib.loads((run / "config.toml").read_text()), epochs)


@dataclass(frozen=True)
class Trained:
    """A run of ours that ended."""

    wall_seconds: float  # from the command to the report
    said: list[tuple[float, str]]  # when, and what
    manifest: Figures
    config: Figures
    epochs: list[Figures]  # metrics.jsonl

    def figures(self) -> Figures:
        """What every line about a run of ours tells."""
        counts, speed, scores = self.manifest["data"]["counts"], self.manifest.get("speed") or {}, self.scores
        spent = [each["spent"] for each in self.epochs if each.get("spent")]
        seconds = [each["seconds"] for each in self.epochs]
        return {
            "accuracy": scores["accuracy"]["value"],
            "num_test": scores["num_images"],
            "num_train": sum(counts["train"].values()),
            "n": len(self.epochs),
            "spread": [min(seconds), max(seconds)],  # of an epoch's seconds
            "training_seconds": round(sum(seconds), 3),
            "spent": {part: round(sum(each[part] for each in spent), 3) for part in (spent[0] if spent else ())},
            "run_seconds": self.manifest["seconds"],  # with validation and checkpoints
            "wall_seconds": self.wall_seconds,
            "engine": self.config["engine"],
            "why": next((text for _, text in self.said if text.startswith("engine")), ""),
            "parameters": self.manifest["model"]["parameters"],
            "macs": speed.get("macs"),
        }

    @property
    def scores(self) -> Figures:
        """Of the test images."""
        return self.manifest["scores"]["test"]


def ask_ceilings(bench: Bench, _: int) -> Figures:
    """What the machine can do in this minute, whoever asks."""
    options = ["--device", bench.device, *(["--smoke"] if bench.is_smoke else [])]
    return clocked_or_failed([sys.executable, "-m", "benchmarks.ceilings", *options])[2]


def clocked_or_failed(
    command: list[str], environment: dict[str, str] | None = None, *, is_document: bool = False
) -> tuple[float, list[Any], Figures]:
    """``clocked``, whose failure is an answer, too; the JSON is all of stdout, or its last line.

    Raises:
        PeerError: the process failed, or printed no JSON.
    """
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "YOLO_OFFLINE": "true", "PYTHONWARNINGS": "ignore"}
    try:
        taken, said, printed = clocked(command, quiet | (environment or {}))
        return round(taken, 3), said, json.loads(printed if is_document else printed.splitlines()[-1])
    except (SystemExit, ValueError, IndexError) as error:
        told = [line for line in str(error).splitlines() if line.strip()] or ["it printed nothing"]
        name = command[2] if command[1] == "-m" else Path(command[1]).name
        raise PeerError(f"{name} failed: {told[-1].strip()[:300]}") from None


def _is_asked(bench: Bench, each: Measurement) -> bool:
    return each.question in bench.only and (each.peer is None or each.peer in bench.peers)


def without_folders(bench: Bench, text: str) -> str:
    """What was said, or a command, without the places of this machine."""
    return text.replace(f"{bench.work}{os.sep}", "")


def _key(line: Figures) -> tuple[Any, ...]:
    return tuple(line.get(name) for name in ("question", "arm", "round", "device", "sources"))


def _short(line: Figures) -> Figures:
    """What is printed of a line: what it is about, and its single figures."""
    left_out = {"machine", "versions", "started", "sources", "command", "device"}
    return {name: value for name, value in line.items() if name not in left_out and not isinstance(value, list | dict)}


def _require_gpu() -> None:
    import torch

    if not torch.cuda.is_available():
        sys.exit("--gpu: this machine has no CUDA device, so nothing is measured and the rows stay empty.")

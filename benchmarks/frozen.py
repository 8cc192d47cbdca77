"""A new head on a frozen MobileNetV2: 1,000 images at 224 px, beside timm and fastai doing the same in the same run.

    python -m venv PEERS && PEERS/bin/pip install torch==2.13.0
    PEERS/bin/pip install --no-deps -r benchmarks/peers/requirements.txt
    python -m benchmarks.frozen WORK --peers-python PEERS/bin/python

Each run is a process of its own, from its start to its end, imports and scores included. The arms take turns, round
after round, each from empty caches of its own, but for the one that begins with the features that the round's first
run kept. One line a run goes to benchmarks/results/frozen.jsonl, and the table is printed at the end.

What each does: ours looks at each image once and solves for the head; the others make five passes, which is usual for
a head, and their seconds for each pass are in the lines. The images are X-rays of chests, enlarged to JPEGs of 256 px:
in how they are read, photographs like any other.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import registry
from benchmarks.accuracy import machine, sources_version
from benchmarks.gain import weights_of
from benchmarks.lines import append_line

PEERS = Path(__file__).parent / "peers"
NUM_TRAIN, SIDE = 1000, 256
PEER_PACKAGES = ("timm", "fastai", "torch", "torchvision")


@dataclass(frozen=True)
class Arm:
    """One way to fit a head: the script of a peer with its options, or our command."""

    name: str
    script: str | None = None
    options: tuple[str, ...] = ()


ARMS = (
    Arm("vitreous"),
    Arm("vitreous, features kept"),  # right after the run that keeps them
    Arm("timm", "timm_head.py"),
    Arm("timm, bf16", "timm_head.py", ("--bf16",)),
    Arm("fastai", "fastai_head.py"),
    Arm("fastai, defaults", "fastai_head.py", ("--defaults",)),
)


@dataclass(frozen=True)
class Bench:
    """Where everything lies, and who runs the peers."""

    work: Path
    data: Path
    weights: Path
    peers_python: Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="where images and weights lie; 100 MiB")
    parser.add_argument("--peers-python", type=Path, required=True, help="the interpreter that has timm and fastai")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=NUM_TRAIN, help="fewer to try it out; nothing is written then")
    arguments = parser.parse_args()
    work = arguments.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    data = x_rays(work, arguments.images)
    bench = Bench(work, data, weights_of("mobilenet_v2", work), arguments.peers_python.absolute())
    versions = peer_versions(bench.peers_python)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    lines = []
    for number in range(arguments.rounds):
        for outcome in one_round(bench):
            line = {"started": started, "round": number, **outcome, "num_train": arguments.images}
            line |= {"peers": versions, "sources": sources_version(), "machine": machine()}
            print(
                json.dumps({key: line[key] for key in ("arm", "seconds", "images_per_second", "accuracy")}), flush=True
            )
            lines.append(line)
            if arguments.images == NUM_TRAIN:
                append_line("frozen", line)
    print(frozen_table(lines))


def one_round(bench: Bench) -> Iterator[dict[str, object]]:
    """Every arm once."""
    with tempfile.TemporaryDirectory(dir=bench.work) as folder:
        for arm in ARMS:
            outcome = peer(bench, arm) if arm.script else ours(bench, arm, Path(folder))
            yield {"arm": arm.name, **outcome}


def ours(bench: Bench, arm: Arm, folder: Path) -> dict[str, object]:
    """Train as a user would; caches and run lie in ``folder``, so that the second time finds what the first kept."""
    run = folder / arm.name
    options = ["--model", "mobilenet_v2", "--weights", str(bench.weights), "--freeze", "backbone"]
    command = [sys.executable, "-m", "vitreous", "train", str(bench.data), *options, "--run", str(run)]
    keeps_features = (folder / "cache").exists()
    seconds, said, _ = clocked(command, {"VITREOUS_CACHE": str(folder / "cache")})
    head = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    read = next(number for number, (_, text) in enumerate(said) if " images of " in text)
    reading_seconds = said[read][0] - (said[read - 1][0] if read else 0.0)
    scores = json.loads((run / "manifest.json").read_text())["scores"]["test"]
    num_seen = round(head["seconds"] * head["images_per_second"])
    return {
        "seconds": seconds,
        "passes": 0 if keeps_features else 1,
        "images_per_second": None if keeps_features else num_seen / (reading_seconds + head["seconds"]),
        "reading_seconds": reading_seconds,  # of all files, those of the test images among them
        "head_seconds": head["seconds"],  # features and the head's solution
        "said": [(when, text.replace(f"{bench.work}/", "")) for when, text in said],
        "accuracy": scores["accuracy"]["value"],
        "num_test": scores["num_images"],
        "command": f"vitreous train {bench.data.name} {' '.join(options)}".replace(f"{bench.work}/", ""),
    }


def peer(bench: Bench, arm: Arm) -> dict[str, object]:
    """Run a peer's script; a pass is counted with the reading of its images."""
    assert arm.script is not None
    script = [str(PEERS / arm.script), str(bench.data), str(bench.weights), *arm.options]
    seconds, _, outcome = clocked([str(bench.peers_python), *script], {})
    told = json.loads(outcome.splitlines()[-1])
    return {
        "seconds": seconds,
        "passes": len(told["epoch_seconds"]),
        "images_per_second": told["num_seen"] / sum(told["epoch_seconds"]),
        "epoch_seconds": told["epoch_seconds"],
        "accuracy": told["accuracy"],
        "num_test": told["num_test"],
        "command": " ".join(
            ["python", f"benchmarks/peers/{arm.script}", bench.data.name, bench.weights.name, *arm.options]
        ),
    }


def clocked(command: list[str], environment: dict[str, str]) -> tuple[float, list[tuple[float, str]], str]:
    """Run a process: its seconds from start to end, what it said on stderr and when, and its stdout.

    Everyone may use all cores: ours does whatever the shell says, and OMP_NUM_THREADS would slow the peers alone.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    with tempfile.TemporaryFile("w+") as stdout:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=inherited | environment
        )
        assert process.stderr is not None
        said = [(round(time.perf_counter() - started, 2), line.rstrip()) for line in process.stderr]
        if process.wait() != 0:
            sys.exit(f"{' '.join(command)} failed:\n" + "\n".join(text for _, text in said))
        seconds = time.perf_counter() - started
        stdout.seek(0)
        return seconds, said, stdout.read()


def x_rays(work: Path, num_train: int) -> Path:
    """Folders train and test (a fifth as many) of two class folders each, half of the images in either."""
    target = work / f"x-rays-{num_train}"
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(dir=work) as folder:
        made = Path(folder, target.name)
        for part, count in (("train", num_train), ("test", num_train // 5)):
            for kind in ("NORMAL", "PNEUMONIA"):
                write_enlarged(registry.chest_x_rays() / part / kind, made / part / kind, count // 2)
        made.rename(target)
    return target


def write_enlarged(source: Path, target: Path, count: int) -> None:
    """``count`` of a folder's images, in three channels, as photographs have them."""
    target.mkdir(parents=True)
    files = sorted(source.iterdir())
    for number in np.random.default_rng(0).permutation(len(files))[:count]:
        with Image.open(files[number]) as image:
            enlarged = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        enlarged.save(target / f"{files[number].stem}.jpg", quality=90)


def peer_versions(python: Path) -> dict[str, str]:
    """What the peers' environment holds, told by itself."""
    code = f"import importlib.metadata as m, json; print(json.dumps({{n: m.version(n) for n in {PEER_PACKAGES}}}))"
    return json.loads(subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True).stdout)


def frozen_table(lines: list[dict]) -> str:
    """Medians over the rounds of the newest run, from the least to the most where they differ."""
    newest = [line for line in lines if line["started"] == lines[-1]["started"]]
    by_arm = {arm.name: [line for line in newest if line["arm"] == arm.name] for arm in ARMS}
    base = statistics.median(line["seconds"] for line in by_arm[ARMS[0].name])
    rows = [
        "| | from start to end | beside ours | passes | images/s in training | test accuracy |",
        "|---|---|---|---|---|---|",
    ]
    for name, runs in by_arm.items():
        seconds = [run["seconds"] for run in runs]
        speeds = [run["images_per_second"] for run in runs if run["images_per_second"]]
        rows.append(
            f"| {name} | {spread(seconds)} s | {statistics.median(seconds) / base:.2f} x | {runs[0]['passes']} "
            f"| {spread(speeds) if speeds else '–'} | {statistics.median(run['accuracy'] for run in runs):.1%} |"
        )
    return "\n".join(rows) + "\n"


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    main()

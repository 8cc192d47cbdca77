"""How long from the command to the first step, when the data is cached? And where does the time go?

    python -m benchmarks.start WORK [--rounds N]

Ours is the command ``vitreous train`` itself, stopped right after its first step: on Fashion-MNIST, and on 3,166 JPEG
files at 224 px whose pixels an earlier run has cached. Its seconds are told apart by what it says on the way: import,
reading, the probe of the engine, the recipe, the first step. Peers train a ResNet-18 on a batch that is there already,
so theirs are import, network and first step; plain PyTorch also with ImageFolder on the files.

One line a measurement goes to benchmarks/results/start.jsonl; a first run of ours, which fills
the cache, is not kept.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from benchmarks import input as reading
from benchmarks.interleaved import (
    Bench,
    Figures,
    Measurement,
    ask_peer,
    asked,
    clocked_or_failed,
    measure,
    without_folders,
)

OF_FOLDER = ("--image-size", "224", "--set", "data.channels=3", "--model", "resnet18")
OF_FOLDER += ("--set", "training.batch_size=32")


@dataclass(frozen=True)
class Arm:
    """A peer with its options."""

    name: str
    peer: str
    options: tuple[str, ...] = ()
    reads: bool = False


ARMS = (
    Arm("pytorch, one batch", "pytorch"),
    Arm("pytorch, ImageFolder", "pytorch", reads=True),
    Arm("pytorch, ImageFolder, best", "pytorch", ("--best",), reads=True),
    Arm("timm, one batch", "timm"),
    Arm("lightning, one batch", "lightning"),
    Arm("fastai, one batch", "fastai"),
    Arm("keras, one batch", "keras"),
)


def main() -> None:
    bench = asked(__doc__, "start", ["fashion-mnist", "folder"], rounds=5)
    measure(bench, list(plan(bench)))


def plan(bench: Bench) -> Iterator[Measurement]:
    yield Measurement("fashion-mnist", "vitreous", partial(ours, bench, "fashion-mnist", ()))
    yield Measurement("folder", "vitreous", partial(ours, bench, str(reading.folder(bench, "folder")), OF_FOLDER))
    for arm in ARMS:
        yield Measurement("folder", arm.name, partial(peers, bench, arm), arm.peer)


def ours(bench: Bench, data: str, options: tuple[str, ...], number: int) -> Figures:
    """Seconds from the start of the process to each mark, and between them."""
    cache = {"VITREOUS_CACHE": str(bench.work / "start-cache")}
    for _ in range(2 if number == 0 else 1):  # the first fills the cache
        with tempfile.TemporaryDirectory(dir=bench.work) as folder:
            command = [sys.executable, "-m", "benchmarks.peers.first_step", data, *options, "--run", f"{folder}/run"]
            started = time.monotonic()
            _, _, told = clocked_or_failed(command, cache)
    marks = {name: round(at - started, 3) for name, at in told["marks"].items()}
    ends = list(marks.values())
    parts = {name: round(end - begin, 3) for name, begin, end in zip(marks, [0.0, *ends], ends, strict=False)}
    name = "fashion-mnist" if data == "fashion-mnist" else "folder"
    return {
        "command": " ".join(("vitreous train", name, *options)),
        "seconds": ends[-1],
        "parts": parts,
        "said": [(round(at - started, 3), without_folders(bench, text)) for at, text in told["said"]],
        "n": 1,
        "spread": [ends[-1], ends[-1]],
    }


def peers(bench: Bench, arm: Arm, _: int) -> Figures:
    options = ("--steps", "1", "--batch", "32", "--side", "224", *arm.options)
    if arm.reads:
        data = bench.work / "start-data"
        data.mkdir(exist_ok=True)
        if not (data / "train").exists():
            (data / "train").symlink_to(reading.folder(bench, "folder"))
        options += ("--data", str(data))
    started = time.monotonic()
    told = ask_peer(bench, arm.peer, "steps", *options)
    seconds = round(told.pop("step_ends")[0] - started, 3)
    return {"seconds": seconds, "n": 1, "spread": [seconds, seconds]} | told


if __name__ == "__main__":
    main()

"""How much slower is training while another process keeps one core busy? Ours and plain PyTorch.

    python -m benchmarks.neighbour WORK [--rounds N]

ResNet-18 on images of 224 px, and of 32 px, where a step is short and its threads meet often. Quiet; with a neighbour
from before the first measurement of the run, so that whoever chooses can choose with it; and with one that comes after
the first epoch (ours) or the first third of the steps (PyTorch), when all is chosen. The neighbour does nothing but
count, on the first core. Ours is ``vitreous train`` as it is, each of its epochs after the first; PyTorch trains on one
batch that is ready.

One line a measurement goes to benchmarks/results/neighbour.jsonl.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import pairwise
from pathlib import Path

from benchmarks.interleaved import Bench, Figures, Measurement, ask_peer, asked, measure, train
from benchmarks.throughput import enlarged, rates, resnet18_options

SIDES = {"resnet18 at 224 px": 224, "resnet18 at 32 px": 32}
EPOCHS = {224: 3, 32: 12}
STEPS = {224: 30, 32: 300}
BATCH = 32
WHEN = ("quiet", "from the start", "comes later")
PEERS = {"pytorch": (), "pytorch, best": ("--best",)}
COUNT = """
import os, sys, time
parent = os.getppid()
while len(sys.argv) > 2 and not os.path.exists(sys.argv[2]) and os.getppid() == parent:
    time.sleep(0.02)
os.sched_setaffinity(0, {int(sys.argv[1])})
while os.getppid() == parent:  # nobody stays behind
    pass
"""


def main() -> None:
    bench = asked(__doc__, "neighbour", list(SIDES), rounds=3)
    measure(bench, list(plan(bench)))


def plan(bench: Bench) -> Iterator[Measurement]:
    for question, side in SIDES.items():
        for when in WHEN:
            yield Measurement(question, f"vitreous, {when}", partial(ours, bench, side, when))
            for name, options in PEERS.items():
                asks = partial(peers, bench, side, when, options)
                yield Measurement(question, f"{name}, {when}", asks, "pytorch")


def ours(bench: Bench, side: int, when: str, _: int) -> Figures:
    epochs = 2 if bench.is_smoke else EPOCHS[side]
    side = 32 if bench.is_smoke else side
    data = enlarged(bench, side)
    options = resnet18_options(side, 8 if bench.is_smoke else BATCH, epochs)
    trained = train(bench, str(data), *options, beside=partial(neighbour, when))
    told = {"command": " ".join(("vitreous train", data.name, *options)), "when": when}
    return trained.figures() | rates([each["images_per_second"] for each in trained.epochs[1:]]) | told


def peers(bench: Bench, side: int, when: str, settings: tuple[str, ...], _: int) -> Figures:
    """The last two thirds of the steps."""
    steps, batch, side = (6, 8, 32) if bench.is_smoke else (STEPS[side], BATCH, side)
    mark = bench.work / "steps-were-done"
    mark.unlink(missing_ok=True)
    options = ("--side", str(side), "--batch", str(batch), "--steps", str(steps))
    options += ("--mark", str(mark), "--mark-after", str(steps // 3), *settings)
    with neighbour(when, mark):
        told = ask_peer(bench, "pytorch", "steps", *options)
    ends = told.pop("step_ends")[steps // 3 :]
    return rates([batch / (end - start) for start, end in pairwise(ends)]) | told | {"when": when}


def neighbour(when: str, mark: Path) -> AbstractContextManager[object]:
    """Nobody, or a process that counts from now on, or once there is a file ``mark``."""
    if when == "quiet":
        return nullcontext()
    return counting(*([str(mark)] if when == "comes later" else []))


@contextmanager
def counting(*arguments: str) -> Iterator[None]:
    core = str(min(os.sched_getaffinity(0)))
    process = subprocess.Popen([sys.executable, "-c", COUNT, core, *arguments])
    try:
        yield
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()

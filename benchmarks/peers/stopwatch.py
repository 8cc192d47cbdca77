"""What the peers' scripts share: the questions, what they are asked of, and the clock that answers.

    python with_NAME.py steps                                steady training steps on one batch that is there already
    python with_NAME.py curve DATA.npz --epochs N --seed S   test accuracy after each epoch, and the seconds to it
    python with_NAME.py input FOLDER --epochs N              a folder's images as batches for a network, nothing else

DATA.npz holds x_train, y_train, x_test and y_test, uint8 images N,H,W,C. With --best as the peer's documents say that
it is fastest on a processor (in bf16 only where that has instructions for it); without, as it comes. The last line
printed is JSON: of steps when each one ended, by the clock that all processes share; of a curve its points, with the
seconds of training alone; of input the epochs' seconds.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

NUM_CLASSES = 10
Arguments = argparse.Namespace


def asked(description: str, recipes: tuple[str, ...] = ("",), best: str = "bf16") -> Arguments:
    """The command line that all of them share.

    Args:
        recipes: the names that --recipe takes.
        best: the precision that --best stands for, where the machine computes in it; ``precision`` says what it is.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    questions = parser.add_subparsers(dest="do", required=True)
    steps, curve, reading = (questions.add_parser(name) for name in ("steps", "curve", "input"))
    for each in (steps, curve, reading):
        each.add_argument("--best", action="store_true", help="the documented best settings for a processor")
        each.add_argument("--compile", action="store_true", help="torch.compile, or what stands for it")
        each.add_argument("--device", default="cpu")
        each.add_argument("--batch", type=int, help="the recipe's own if not said")
    steps.add_argument("--side", type=int, default=224)
    steps.add_argument("--steps", type=int, default=30)
    steps.add_argument("--mark", type=Path, help="a file to make after --mark-after steps, for whoever waits for it")
    steps.add_argument("--mark-after", type=int, default=10)
    steps.add_argument("--data", type=Path, help="a folder of train and test, for those who take folders")
    curve.add_argument("data", type=Path)
    curve.add_argument("--epochs", type=int, required=True)
    curve.add_argument("--seed", type=int, default=0)
    curve.add_argument("--recipe", choices=recipes, default=recipes[0])
    curve.add_argument("--optimizer", choices=("own", "sgd"), default="own", help="sgd: for the engines alone")
    reading.add_argument("data", type=Path)
    reading.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    arguments.precision = best if arguments.best and has_bf16(arguments.device) else "fp32"
    return arguments


def has_bf16(device: str) -> bool:
    """Whether there are instructions for it; a processor without them takes several times as long as in fp32."""
    return device != "cpu" or not {"avx512_bf16", "amx_bf16"}.isdisjoint(Path("/proc/cpuinfo").read_text().split())


class Stopwatch:
    """When steps ended, or what each epoch took and reached."""

    def __init__(self, arguments: Arguments) -> None:
        self.arguments = arguments
        self.step_ends: list[float] = []
        self.curve: list[dict[str, float]] = []
        self.epoch_seconds: list[float] = []
        self.started = 0.0

    def step(self) -> None:
        """A step ended."""
        self.step_ends.append(time.monotonic())
        mark = self.arguments.mark
        if mark is not None and len(self.step_ends) == self.arguments.mark_after:
            mark.touch()

    def begin(self) -> None:
        """An epoch's training begins."""
        self.started = time.monotonic()

    def end(self) -> None:
        """An epoch's training ended."""
        self.epoch_seconds.append(round(time.monotonic() - self.started, 4))

    def reached(self, accuracy: float) -> None:
        """What the epoch that ended reached."""
        seconds = round(sum(self.epoch_seconds), 3)
        self.curve.append({"epoch": len(self.curve) + 1, "seconds": seconds, "accuracy": accuracy})

    def tell(self, **more: object) -> None:
        """The last line that is printed."""
        told = {"steps": ("step_ends", self.step_ends), "curve": ("curve", self.curve)}
        name, value = told.get(self.arguments.do, ("epoch_seconds", self.epoch_seconds))
        print(json.dumps({name: value, "precision": self.arguments.precision} | more), flush=True)


def noise(batch: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """A batch of images N,3,H,W and labels: what is in them does not matter to the clock."""
    draw = np.random.default_rng(0)
    return draw.standard_normal((batch, 3, side, side), np.float32), draw.integers(0, NUM_CLASSES, batch)


def arrays(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images N,H,W,C (uint8) and labels to learn from, and those of the test."""
    with np.load(path) as file:
        train, test = ((file[f"x_{part}"], file[f"y_{part}"].astype(np.int64)) for part in ("train", "test"))
    return (*train, *test)

"""How many images a second does training learn from? ResNet-18 at 224 px beside the peers; and the engines alone.

    python -m benchmarks.throughput WORK [--only resnet18] [--rounds N]

resnet18: batches of 32 images of 224 px (CIFAR-10's, enlarged), SGD with momentum. Ours trains as a user's would:
``vitreous train`` reads its images, varies them, normalizes them; only its first epoch does not count. A peer is given
one batch that is ready, again and again, and its first steps do not count: what it would spend on input is not in it.
Not so ultralytics, which takes folders alone. "vitreous, fp32" and "vitreous, bf16" are the engine at the precision of
the peers; all have the same network and optimizer.

example: the network of PyTorch's MNIST example on Fashion-MNIST, with one optimizer, batch size, precision and number
of epochs for both: whole epochs with their input.

One line a measurement goes to benchmarks/results/throughput.jsonl: the median of the steps' (ours: the epochs') images
a second, how many there were, and the slowest and fastest.
"""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import registry, small_images
from benchmarks.interleaved import Bench, Figures, Measurement, ask_peer, asked, measure, train
from benchmarks.peers.stopwatch import has_bf16

BATCH, SIDE, STEPS, NUM_CLASSES = 32, 224, 20, 10
WARM_UP = 5  # steps
EPOCHS, NUM_TRAIN = 3, 20 * BATCH
EXAMPLE = "conv32p0 conv64p0 pool dropout0.25 flatten fc128 dropout0.5 fc"
EXAMPLE_BATCH, EXAMPLE_EPOCHS = 64, 2
SGD = ("--set", "training.optimizer=sgd")


@dataclass(frozen=True)
class Arm:
    """A peer with its options, or ours with its own."""

    name: str
    peer: str | None = None
    options: tuple[str, ...] = ()


RESNET18 = (
    Arm("vitreous"),
    Arm("vitreous, fp32", options=("--precision", "fp32")),
    Arm("vitreous, bf16", options=("--precision", "bf16")),
    Arm("pytorch", "pytorch"),
    Arm("pytorch, best", "pytorch", ("--best",)),
    Arm("pytorch, best, compiled", "pytorch", ("--best", "--compile")),
    Arm("timm", "timm"),
    Arm("timm, best", "timm", ("--best",)),
    Arm("lightning", "lightning"),
    Arm("lightning, best", "lightning", ("--best",)),
    Arm("fastai", "fastai"),
    Arm("fastai, best", "fastai", ("--best",)),
    Arm("keras", "keras"),
    Arm("keras, best", "keras", ("--best",)),
    Arm("keras, best, XLA", "keras", ("--best", "--compile")),
    Arm("ultralytics", "ultralytics"),
    Arm("ultralytics, best", "ultralytics", ("--best",)),
)
EXAMPLES = (
    Arm("vitreous, fp32", options=("--precision", "fp32")),
    Arm("vitreous, bf16", options=("--precision", "bf16")),
    Arm("pytorch", "pytorch"),
    Arm("pytorch, best", "pytorch", ("--best",)),
    Arm("lightning", "lightning"),
    Arm("lightning, best", "lightning", ("--best",)),
)


def main() -> None:
    bench = asked(__doc__, "throughput", ["resnet18", "example"], rounds=5, has_gpu=True)
    measure(bench, list(plan(bench)))


def plan(bench: Bench) -> Iterator[Measurement]:
    """Without bf16 where the machine has no instructions for it: the peers' best is fp32 there, too."""
    for question, ask, arms in (("resnet18", resnet18, RESNET18), ("example", example, EXAMPLES)):
        for arm in arms:
            if "bf16" not in arm.name or has_bf16(bench.device):
                yield Measurement(question, arm.name, partial(ask, bench, arm), arm.peer)


def resnet18(bench: Bench, arm: Arm, _: int) -> Figures:
    """Steps of ResNet-18."""
    side, batch, steps = (32, 8, 3) if bench.is_smoke else (SIDE, BATCH, STEPS)
    data = enlarged(bench, side)
    if arm.peer is None:
        return ours(bench, str(data), (*resnet18_options(side, batch, EPOCHS), "--device", bench.device, *arm.options))
    options = ("--side", str(side), "--batch", str(batch), "--steps", str(steps), "--device", bench.device)
    if arm.peer == "ultralytics":
        options += ("--data", str(pictures(data)))
    told = ask_peer(bench, arm.peer, "steps", *options, *arm.options)
    ends = told.pop("step_ends")[min(WARM_UP, steps - 2) :]
    return rates([batch / (end - start) for start, end in pairwise(ends)]) | told


def resnet18_options(side: int, batch: int, epochs: int) -> tuple[str, ...]:
    """What ours is asked for so that it is the same network, size and optimizer."""
    size = ("--image-size", str(side))
    options = ("--model", "resnet18", "--epochs", str(epochs), "--set", f"training.batch_size={batch}", *SGD)
    return (*options, *size, "--set", "data.near_duplicates=false")


def example(bench: Bench, arm: Arm, seed: int) -> Figures:
    """Whole epochs of the example's network, with the optimizer that both have."""
    most = 600 if bench.is_smoke else None
    data = small_images.arrays("fashion-mnist", bench.work, most)
    if arm.peer is None:
        options = ("--model", EXAMPLE, "--epochs", str(EXAMPLE_EPOCHS), "--set", f"training.batch_size={EXAMPLE_BATCH}")
        return ours(bench, str(data), (*options, *SGD, "--device", bench.device, *arm.options))
    options = ("--epochs", str(EXAMPLE_EPOCHS), "--optimizer", "sgd", "--batch", str(EXAMPLE_BATCH))
    told = ask_peer(bench, arm.peer, "curve", str(data), *options, "--device", bench.device, *arm.options)
    ends = [0.0, *(point["seconds"] for point in told["curve"])]
    return rates([told["num_train"] / (end - start) for start, end in pairwise(ends)][1:]) | told


def ours(bench: Bench, data: str, options: tuple[str, ...]) -> Figures:
    """The epochs after the first."""
    trained = train(bench, data, *options)
    command = {"command": " ".join(("vitreous train", Path(data).name, *options))}
    return trained.figures() | rates([each["images_per_second"] for each in trained.epochs[1:]]) | command


def rates(images_per_second: list[float]) -> Figures:
    """Their median, how many, and the slowest and fastest."""
    return {
        "images_per_second": round(statistics.median(images_per_second), 2),
        "n": len(images_per_second),
        "spread": [round(min(images_per_second), 2), round(max(images_per_second), 2)],
    }


def enlarged(bench: Bench, side: int) -> Path:
    """An .npz of a few hundred of CIFAR-10's images at another size; of noise, bf16's gradients would be noise, too."""
    target = bench.work / f"cifar10-at-{side}{'-few' if bench.is_smoke else ''}.npz"
    if not target.exists():
        num_train = 8 * NUM_CLASSES if bench.is_smoke else NUM_TRAIN
        counts = {"train": num_train, "val": 5 * NUM_CLASSES, "test": 5 * NUM_CLASSES}
        kept, start = {}, 0
        with np.load(registry.cifar10()) as whole:
            for part, count in counts.items():
                rows = slice(start, start + count)
                images = [Image.fromarray(each).resize((side, side)) for each in whole["x_train"][rows]]
                kept |= {f"x_{part}": np.stack(images), f"y_{part}": whole["y_train"][rows]}
                start += count
        partial_file = target.with_suffix(".partial.npz")
        np.savez(partial_file, **kept)
        partial_file.rename(target)
    return target


def pictures(data: Path) -> Path:
    """The same as a folder of .jpg files, for ultralytics."""
    target = data.with_suffix("")
    if not target.exists():
        partial_folder = target.with_suffix(".partial")
        with np.load(data) as kept:
            for part in ("train", "val", "test"):
                small_images.write_pictures(partial_folder / part, kept[f"x_{part}"], kept[f"y_{part}"], "jpg")
        partial_folder.rename(target)
    return target


if __name__ == "__main__":
    main()

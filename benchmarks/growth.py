"""What it costs as work grows: time for each image and peak memory, for 1,000 to 60,000 images, 10 to 1,000 classes.

    python -m benchmarks.growth WORK [--rounds N]

Folders of small JPEG files (Fashion-MNIST's images, 28 px), trained on for two epochs by ``vitreous train``, once from
an empty cache. By images: 10 classes. By classes: 20,000 images, spread evenly; what they show does not matter to the
clock. The lines tell the milliseconds for each image of reading (from the command until the images are there: hashing,
looking, decoding, near duplicates), of training (for each image and epoch) and of the rest (scores, calibration,
report), and the most memory that all processes of the command held together, of their own (anonymous) and with the
mapped files that lie in the page cache.

One line a measurement goes to benchmarks/results/growth.jsonl, the plot is docs/speed-growth.svg.
"""

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import small_images
from benchmarks.interleaved import Bench, Figures, Measurement, asked, measure, train

IMAGES = (1_000, 4_000, 16_000, 60_000)
CLASSES = (10, 100, 1_000)
NUM_IMAGES_BY_CLASSES, NUM_CLASSES_BY_IMAGES = 20_000, 10
EPOCHS, BATCH = 2, 128
SMOKE = {"images": (300, 600), "classes": (10, 30)}
SECONDS_BETWEEN_LOOKS = 0.1


def main() -> None:
    bench = asked(__doc__, "growth", ["images", "classes"], rounds=3)
    measure(bench, list(plan(bench)))


def plan(bench: Bench) -> Iterator[Measurement]:
    """The small sizes first."""
    for count in SMOKE["images"] if bench.is_smoke else IMAGES:
        asks = partial(ours, bench, count, NUM_CLASSES_BY_IMAGES)
        yield Measurement("images", f"{count:,} images", asks)
    for count in SMOKE["classes"] if bench.is_smoke else CLASSES:
        asks = partial(ours, bench, 600 if bench.is_smoke else NUM_IMAGES_BY_CLASSES, count)
        yield Measurement("classes", f"{count:,} classes", asks)


def ours(bench: Bench, num_images: int, num_classes: int, _: int) -> Figures:
    """One training from an empty cache."""
    data = folder(bench, num_images, num_classes)
    options = ("--epochs", str(EPOCHS), "--set", f"training.batch_size={BATCH}")
    with tempfile.TemporaryDirectory(dir=bench.work) as cache, watched() as memory:
        trained = train(bench, str(data), *options, environment={"VITREOUS_CACHE": cache})
    until = next(when for when, text in trained.said if " images of " in text)
    told = trained.figures()
    rest = trained.wall_seconds - until - told["training_seconds"]
    return told | {
        "command": " ".join(("vitreous train", data.name, *options)),
        "num_images": num_images,
        "num_classes": num_classes,
        "reading_ms": round(1e3 * until / num_images, 4),
        "training_ms": round(1e3 * told["training_seconds"] / (EPOCHS * told["num_train"]), 4),
        "rest_ms": round(1e3 * rest / num_images, 4),
        "own_bytes": memory["RssAnon"],
        "all_bytes": memory["VmRSS"],
        "said": trained.said,
        "n": 1,
    }


@contextmanager
def watched() -> Iterator[dict[str, int]]:
    """The most memory, by kind, that all descendants of this process held together; looked at now and then."""
    most = {"RssAnon": 0, "VmRSS": 0}
    over = threading.Event()

    def look() -> None:
        while not over.wait(SECONDS_BETWEEN_LOOKS):
            held = [kibibytes(process) for process in descendants(os.getpid())]
            for kind in most:
                most[kind] = max(most[kind], 1024 * sum(each.get(kind, 0) for each in held))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def descendants(process: int) -> Iterator[int]:
    """Children and theirs, by the kernel's tables; one that has just ended has none."""
    for file in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children = [int(word) for word in file.read_text().split()]
        except OSError:
            continue
        for child in children:
            yield child
            yield from descendants(child)


def kibibytes(process: int) -> dict[str, int]:
    """What a process holds, by kind; nothing if it has just ended."""
    try:
        rows = [line.split() for line in Path(f"/proc/{process}/status").read_text().splitlines()]
    except OSError:
        return {}
    return {row[0].rstrip(":"): int(row[1]) for row in rows if len(row) == 3 and row[2] == "kB"}


def folder(bench: Bench, num_images: int, num_classes: int) -> Path:
    """Class folders of .jpg files."""
    target = bench.work / f"{num_images}-images-of-{num_classes}-classes"
    if not target.exists():
        with np.load(small_images.arrays("fashion-mnist", bench.work)) as kept:
            pixels, labels = kept["x_train"][:num_images], kept["y_train"][:num_images]
        if num_classes > len(np.unique(labels)):
            labels = np.arange(num_images) % num_classes
        made = target.with_suffix(".partial")
        small_images.write_pictures(made, pixels, labels, "jpg")
        made.rename(target)
    return target


if __name__ == "__main__":
    main()

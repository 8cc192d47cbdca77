"""How long until a folder's images are batches for a network? The first epoch, which decodes, and the later ones.

    python -m benchmarks.input WORK [--only folder] [--rounds N]

folder: 3,166 JPEG files, X-rays of 224 px, grey. photographs: 1,000 of them, enlarged to 1,600 x 1,200 in colour, in
how they are read like any photograph. Both are shown as 3 x 224 x 224 in batches of 32, mirrored by chance, and nothing
is trained. Ours is the package's own reading and cache, from an empty one: the first epoch is listing, hashing and
decoding all images and then the first pass, the later ones are passes over the cache. "vitreous train" beside it is the
command: all that happens from its start until the images are there, with its checks and its search for near duplicates,
which no peer does, then what the steps of later epochs spend on data.

One line a measurement goes to benchmarks/results/input.jsonl; all files were read once before, so that no disk counts.
"""

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from benchmarks import registry
from benchmarks.interleaved import Bench, Figures, Measurement, ask_peer, asked, clocked_or_failed, measure, train

QUESTIONS = ("folder", "photographs")
EPOCHS = 3
SMOKE_IMAGES, MOST_PHOTOGRAPHS = 60, 1000
WIDTH, HEIGHT = 1600, 1200


@dataclass(frozen=True)
class Arm:
    """A peer with its options."""

    name: str
    peer: str
    options: tuple[str, ...] = ()


ARMS = (
    Arm("ImageFolder, DataLoader", "pytorch"),
    Arm("ImageFolder, DataLoader, best", "pytorch", ("--best",)),
    Arm("keras, from directory", "keras"),
    Arm("keras, from directory, best", "keras", ("--best",)),
)


def main() -> None:
    bench = asked(__doc__, "input", QUESTIONS, rounds=3)
    for question in bench.only:
        for file in folder(bench, question).rglob("*.jp*g"):
            file.read_bytes()
    measure(bench, list(plan(bench)))


def plan(bench: Bench) -> Iterator[Measurement]:
    for question in QUESTIONS:
        yield Measurement(question, "vitreous", partial(ours, bench, question))
        yield Measurement(question, "vitreous train", partial(command, bench, question))
        for arm in ARMS:
            yield Measurement(question, arm.name, partial(peers, bench, question, arm), arm.peer)


def ours(bench: Bench, question: str, _: int) -> Figures:
    """The package's input, without the command around it."""
    with tempfile.TemporaryDirectory(dir=bench.work) as cache:
        child = [sys.executable, "-m", "benchmarks.peers.with_vitreous", str(folder(bench, question)), str(EPOCHS)]
        _, _, told = clocked_or_failed(child, {"VITREOUS_CACHE": cache})
    return figures(told["epoch_seconds"], told["num_images"]) | told


def command(bench: Bench, question: str, _: int) -> Figures:
    """What a user waits for; the network is as small as can be, and is not in the figures."""
    data = folder(bench, question)
    options = ("--model", "conv8s4 gap fc", "--image-size", "224", "--set", "data.channels=3", "--epochs", str(EPOCHS))
    options += ("--set", "training.batch_size=32", "--set", "augmentation.flip=true")
    with tempfile.TemporaryDirectory(dir=bench.work) as cache:
        trained = train(bench, str(data), *options, environment={"VITREOUS_CACHE": cache})
    until = next(when for when, text in trained.said if " images of " in text)
    spent = [each["spent"]["data"] for each in trained.epochs]
    num_images = sum(sum(each.values()) for each in trained.manifest["data"]["counts"].values())
    passes = [seconds * num_images / trained.figures()["num_train"] for seconds in spent]  # for all images, like others
    told = {"command": " ".join(("vitreous train", data.name, *options)), "said": trained.said}
    return figures([until + passes[0], *passes[1:]], num_images) | told


def peers(bench: Bench, question: str, arm: Arm, _: int) -> Figures:
    told = ask_peer(bench, arm.peer, "input", str(folder(bench, question)), "--epochs", str(EPOCHS), *arm.options)
    return figures(told["epoch_seconds"], told["num_images"]) | told


def figures(epoch_seconds: list[float], num_images: int) -> Figures:
    """The first epoch beside the fastest of the later ones."""
    later = epoch_seconds[1:]
    return {
        "num_images": num_images,
        "first_seconds": round(epoch_seconds[0], 4),
        "later_seconds": round(min(later), 4),
        "n": len(later),
        "spread": [round(min(later), 4), round(max(later), 4)],
        "epoch_seconds": [round(each, 4) for each in epoch_seconds],
    }


def folder(bench: Bench, question: str) -> Path:
    """Two class folders; of a trial, a few of their files."""
    target = bench.work / f"{question}{'-few' if bench.is_smoke else ''}"
    if not target.exists():
        files = sorted(registry.chest_x_rays().rglob("*.jpeg"), key=lambda file: file.name)
        most = SMOKE_IMAGES if bench.is_smoke else MOST_PHOTOGRAPHS if question == "photographs" else len(files)
        made = target.with_suffix(".partial")
        for file in files[:: len(files) // most][:most]:
            place = made / file.parent.name / f"{file.parent.parent.name}-{file.stem}.jpg"
            place.parent.mkdir(parents=True, exist_ok=True)
            if question == "photographs":
                with Image.open(file) as image:
                    image.convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(place, quality=90)
            else:
                place.write_bytes(file.read_bytes())
        made.rename(target)
    return target


if __name__ == "__main__":
    main()

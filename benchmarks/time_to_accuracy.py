"""How many seconds of training until so many of the test images are named rightly? Beside the peers, in the same run.

    python -m benchmarks.time_to_accuracy WORK                                everything, five seeds; see docs/speed.md
    python -m benchmarks.time_to_accuracy WORK --only fashion-92 --rounds 1   one question, one seed

Ours is asked with a plan for each target, and answers with one figure: the accuracy that its plan reached. A peer is
asked once a data set, and tells its test accuracy after each epoch; the seconds to a target are read from that. Seconds
are of training alone, in both: no import, no reading, no test. Ours learns from nine tenths of the training images, as
the rest chooses the epoch; peers learn from all, or as their example says. A round has its own seed for everyone, and
no test image is looked at twice, mirrored or otherwise.

One line a measurement goes to benchmarks/results/time_to_accuracy.jsonl.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from benchmarks import small_images
from benchmarks.interleaved import Bench, Figures, Measurement, ask_peer, asked, measure, train
from vitreous.training.recipe import default_pattern

SMOKE_IMAGES = 600
HALF_WIDTH = default_pattern((28, 28), width=0.5)  # what --minutes takes where there is time for little more


@dataclass(frozen=True)
class Question:
    """A target on a data set, and the options with which ``vitreous train`` is to reach it."""

    name: str
    data: str
    target: float
    options: tuple[str, ...] = ()


QUESTIONS = (
    Question("fashion-92", "fashion-mnist", 0.92, ("--model", HALF_WIDTH, "--epochs", "4")),
    Question("fashion-93", "fashion-mnist", 0.93, ("--epochs", "5")),
    Question("fashion-94.5", "fashion-mnist", 0.945, ("--epochs", "20", "--set", "augmentation.flip=true")),
    Question("mnist-99", "mnist", 0.99, ("--model", HALF_WIDTH, "--epochs", "1")),
    Question("mnist-99.4", "mnist", 0.994, ("--model", HALF_WIDTH, "--epochs", "3")),
    Question("cifar10-94", "cifar10", 0.94, ("--epochs", "12", "--set", "augmentation.flip=true")),
)


@dataclass(frozen=True)
class Arm:
    """A peer with one of its settings, and how long it is given on each data set; CIFAR-10 would take them hours."""

    name: str
    peer: str
    epochs: int  # of Fashion-MNIST and MNIST: as published, or what its one cycle is told
    options: tuple[str, ...] = ()


ARMS = (
    Arm("pytorch example, as published", "pytorch", 14),
    Arm("pytorch example, best", "pytorch", 14, ("--best",)),
    Arm("pytorch example, best, compiled", "pytorch", 14, ("--best", "--compile")),
    Arm("keras example, as published", "keras", 15),
    Arm("keras example, best", "keras", 15, ("--best",)),
    Arm("keras example, best, XLA", "keras", 15, ("--best", "--compile")),
    Arm("lightning", "lightning", 14),
    Arm("lightning, best", "lightning", 14, ("--best",)),
    Arm("fastai, its book's network", "fastai", 5),
    Arm("fastai, its book's network, best", "fastai", 5, ("--best",)),
    Arm("fastai, xresnet18, best", "fastai", 5, ("--best", "--recipe", "xresnet18")),
    Arm("timm, resnet10t", "timm", 5),
    Arm("timm, resnet10t, best", "timm", 5, ("--best",)),
    Arm("ultralytics, yolo26n-cls", "ultralytics", 5),
    Arm("ultralytics, yolo26n-cls, best", "ultralytics", 5, ("--best",)),
)
RACED = ("fashion-mnist", "mnist")


def main() -> None:
    names = [question.name for question in QUESTIONS]
    bench = asked(__doc__, "time_to_accuracy", names + list(RACED), rounds=5, has_gpu=True)
    measure(bench, list(plan(bench)))


def plan(bench: Bench) -> Iterator[Measurement]:
    """Ours for each question and then the peers for each data set; the name of a data set is the peers' question."""
    for question in QUESTIONS:
        yield Measurement(question.name, "vitreous", partial(ours, bench, question))
    for data in RACED:
        for arm in ARMS:
            yield Measurement(data, arm.name, partial(peers, bench, data, arm), arm.peer)


def ours(bench: Bench, question: Question, seed: int) -> Figures:
    """Train as a user would; what took how long stands in the run."""
    data = small_images.located(question.data)
    options = (*question.options, "--device", bench.device, "--seed", str(seed))
    if bench.is_smoke:
        data = str(small_images.arrays(question.data, bench.work, SMOKE_IMAGES))
        options += ("--epochs", "1")
    trained = train(bench, data, *options)
    return {
        "command": " ".join(("vitreous train", question.data, *options)),
        "data": question.data,
        "target": question.target,
        **trained.figures(),
    }


def peers(bench: Bench, data: str, arm: Arm, seed: int) -> Figures:
    """The curve of a peer."""
    most = SMOKE_IMAGES if bench.is_smoke else None
    made = (small_images.folder if arm.peer == "ultralytics" else small_images.arrays)(data, bench.work, most)
    epochs = str(1 if bench.is_smoke else arm.epochs)
    options = ("--epochs", epochs, "--seed", str(seed), "--device", bench.device, *arm.options)
    told = ask_peer(bench, arm.peer, "curve", str(made), *options)
    return {"data": data, "n": len(told["curve"]), **told}


if __name__ == "__main__":
    main()

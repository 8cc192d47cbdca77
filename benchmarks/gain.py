"""What do pretrained weights gain? The same network, images, steps and variation, from weights and from scratch.

    python -m benchmarks.gain WORK                              every question; many hours on two cores
    python -m benchmarks.gain WORK --only cifar10-100 -n 1      one question, one seed

Run folders lie in WORK. A run that was stopped is resumed, a finished one is only scored, and a question that has its
line in benchmarks/results/gain.jsonl is not asked again. ``python -m benchmarks.tables`` writes the table and the plot
of docs/transfer.md from the lines.

Each pair is the command that a user would type, with and without ``--weights``. Both have the same number of steps; the
one from scratch has the learning rate and optimizer that the package chooses for networks without weights.
"""

import argparse
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import registry
from benchmarks.accuracy import machine, sources_version, vitreous
from benchmarks.imagenet_resnet50 import resnet50_paper
from benchmarks.lines import append_line, read_lines

BATCH_SIZE = 32


@dataclass(frozen=True)
class Question:
    """A data set, how many labels of each class are known (None: all), a network, and the steps both get."""

    data: str
    num_labels: int | None
    model: str
    num_steps: int  # at most; whole epochs
    num_seeds: int = 3

    @property
    def name(self) -> str:
        size = "" if self.num_labels is None else f"-{self.num_labels}"
        return f"{self.data}{size}{'' if self.model == 'mobilenet_v2' else f'-{self.model}'}"


QUESTIONS = (
    Question("cifar10", 10, "mobilenet_v2", 200),
    Question("cifar10", 100, "mobilenet_v2", 600),
    Question("cifar10", 1000, "mobilenet_v2", 1200),
    Question("flowers", None, "mobilenet_v2", 200),
    Question("chest-x-rays", None, "mobilenet_v2", 600),
    Question("cifar10", 100, "resnet50-paper", 600, num_seeds=1),
)
ARMS = ("fine-tuned", "from scratch")
SIZE = 128
COMMON = ("--image-size", str(SIZE), "--set", f"training.batch_size={BATCH_SIZE}")
VARIED = ("--set", "augmentation.flip=true", "--set", "augmentation.zoom=0.3", "--set", "augmentation.light=0.2")
OF_DATA = {
    "cifar10": ("--set", "data.fit=squash"),
    "flowers": ("--set", "data.test_fraction=0.3"),  # of 210: a tenth would be too few to tell anything
    "chest-x-rays": ("--set", "data.fit=squash"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="where run folders and data lie; some GiB")
    parser.add_argument("--only", choices=[question.name for question in QUESTIONS])
    parser.add_argument("-n", "--seeds", type=int)
    arguments = parser.parse_args()
    work = arguments.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("VITREOUS_CACHE", str(work / "cache"))
    done = {(line["question"], line["arm"], line["seed"]) for line in read_lines("gain")}
    for seed in range(arguments.seeds or max(question.num_seeds for question in QUESTIONS)):
        for question in QUESTIONS:
            if arguments.only not in (None, question.name) or seed >= question.num_seeds:
                continue
            for arm in ARMS:
                if (question.name, arm, seed) not in done:
                    append(ask(question, arm, seed, work))


def ask(question: Question, arm: str, seed: int, work: Path) -> dict[str, object]:
    """Train (or go on training) one network and score it on the test images; returns the line."""
    data, num_train = locate(question, seed, work)
    run = work / "runs" / f"{question.name}-{arm.replace(' ', '-')}-{seed}"
    epochs = max(1, question.num_steps // (num_train // BATCH_SIZE))
    options = ["--model", question.model, "--epochs", str(epochs), *COMMON, *VARIED, *OF_DATA[question.data]]
    if arm == "fine-tuned":
        options += ["--weights", str(weights_of(question.model, work))]
    else:
        options += ["--set", "data.channels=3", "--set", "augmentation.shift_px=0"]
    if run.exists():
        vitreous("resume", str(run), "--json")
    else:
        vitreous("train", str(data), *options, "--seed", str(seed), "--run", str(run), "--json")
    manifest = json.loads((run / "manifest.json").read_text())
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    scores, counts = manifest["scores"]["test"], manifest["data"]["counts"]
    return {
        "question": question.name,
        "data": question.data,
        "labels_per_class": question.num_labels,
        "model": question.model,
        "arm": arm,
        "seed": seed,
        "accuracy": scores["accuracy"]["value"],
        "balanced_accuracy": scores["balanced_accuracy"],
        "num_test": scores["num_images"],
        "num_train": sum(counts["train"].values()),
        "num_val": sum(counts["val"].values()),
        "steps": epochs * (sum(counts["train"].values()) // BATCH_SIZE),
        "best_epoch": manifest["weights"]["epoch"],
        "head_val_accuracy": metrics[0]["val_accuracy"] if metrics[0]["epoch"] == 0 else None,
        "command": " ".join(["vitreous train", question.name, *short(options), "--seed", str(seed)]),
        "sources": sources_version(),
        "machine": machine(),
        "versions": manifest["versions"],
    }


def locate(question: Question, seed: int, work: Path) -> tuple[Path, int]:
    """The data as ``vitreous train`` takes it, and about how many images are trained on."""
    if question.data == "cifar10":
        return some_of_cifar10(question.num_labels, seed, work), round(9 * question.num_labels)
    if question.data == "flowers":
        return registry.flowers(), round(0.6 * 210)
    return registry.chest_x_rays(), round(0.9 * 2532)


def some_of_cifar10(num_labels: int, seed: int, work: Path) -> Path:
    """CIFAR-10 with ``num_labels`` training images a class, drawn by the seed, and all test images."""
    target = work / f"cifar10-{num_labels}-{seed}.npz"
    if not target.exists():
        with np.load(registry.cifar10()) as arrays:
            whole = dict(arrays)
        draw = np.random.default_rng(seed)
        labels = whole["y_train"]
        chosen = [draw.permutation(np.flatnonzero(labels == each))[:num_labels] for each in np.unique(labels)]
        rows = np.sort(np.concatenate(chosen))
        partial = target.with_suffix(".partial.npz")
        np.savez(partial, **whole | {"x_train": whole["x_train"][rows], "y_train": labels[rows]})
        partial.rename(target)
    return target


def weights_of(model: str, work: Path) -> Path:
    """A weight file, converted where it is a pickle."""
    if model == "resnet50-paper":
        return resnet50_paper()
    pickle = registry.mobilenet_v2()
    target = work / f"{pickle.stem}.safetensors"
    if not target.exists():
        vitreous("convert", str(pickle), "--out", str(target), "--json")
    return target


def short(options: list[str]) -> list[str]:
    """The options without the paths of this machine."""
    return [Path(option).name if "/" in option else option for option in options]


def append(line: dict[str, object]) -> None:
    print(json.dumps({key: line[key] for key in ("question", "arm", "seed", "accuracy")}), flush=True)
    append_line("gain", line)


if __name__ == "__main__":
    main()

"""Does a plain network get worse with depth, and a residual one not? He et al. 2015, table 6 and figure 6, in short.

    python -m benchmarks.depth WORK                     four networks; some hours on two cores
    python -m benchmarks.depth WORK --only plain20-cifar

All of CIFAR-10, 15 epochs, one recipe, one seed; the claim is about *training* error, so both errors are told. Run
folders lie in WORK: a run that was stopped is resumed, a finished one is only scored, and a network that has its line
in benchmarks/results/depth.jsonl is left alone.
"""

import argparse
import json
from pathlib import Path

from benchmarks import registry
from benchmarks.accuracy import machine, sources_version, vitreous
from benchmarks.lines import append_line, read_lines

NETWORKS = ("plain20-cifar", "resnet20-cifar", "plain56-cifar", "resnet56-cifar")
RECIPE = {  # the paper's, section 4.2, but for the schedule: its steps need 164 epochs
    "training.epochs": 15,
    "training.batch_size": 128,
    "training.optimizer": "sgd",
    "training.learning_rate": 0.1,
    "training.weight_decay": 1e-4,
    "training.label_smoothing": 0.0,
    "augmentation.flip": "true",
    "augmentation.shift_px": 4,
    "engine.precision": "fp32",  # left to measure, bf16 would go to the residual networks alone: see docs/log.md
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="where run folders lie")
    parser.add_argument("--only", choices=NETWORKS)
    parser.add_argument("--threads", type=int, help="of the processor; by default all")
    arguments = parser.parse_args()
    done = {line["network"] for line in read_lines("depth")}
    for network in NETWORKS:
        if arguments.only in (None, network) and network not in done:
            line = ask(network, arguments.work.absolute() / network, arguments.threads)
            print(json.dumps({key: line[key] for key in ("network", "train_error", "test_error")}), flush=True)
            append_line("depth", line)


def ask(network: str, run: Path, threads: int | None) -> dict[str, object]:
    """Train, or go on training; then both errors, the training images as they are and not varied."""
    settings = RECIPE | ({"engine.threads": threads} if threads else {})
    options = [text for name, value in settings.items() for text in ("--set", f"{name}={value}")]
    if run.exists():
        vitreous("resume", str(run), "--json")
    else:
        vitreous("train", str(registry.cifar10()), "--model", network, *options, "--run", str(run), "--json")
    scores = {split: vitreous("evaluate", str(run), "--split", split, "--json") for split in ("train", "test")}
    manifest = json.loads((run / "manifest.json").read_text())
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {
        "network": network,
        "train_error": 1 - scores["train"]["accuracy"]["value"],
        "test_error": 1 - scores["test"]["accuracy"]["value"],
        "train_log_loss": scores["train"]["log_loss"],
        "num_train": scores["train"]["num_images"],
        "num_test": scores["test"]["num_images"],
        "best_epoch": manifest["weights"]["epoch"],
        "train_loss_of_epochs": [round(line["train_loss"], 4) for line in metrics],
        "val_accuracy_of_epochs": [round(line["val_accuracy"], 4) for line in metrics],
        "recipe": RECIPE,
        "seed": manifest["seed"],
        "command": " ".join(["vitreous train cifar10.npz --model", network, *options]),
        "sources": sources_version(),
        "machine": machine(),
        "versions": manifest["versions"],
    }


if __name__ == "__main__":
    main()

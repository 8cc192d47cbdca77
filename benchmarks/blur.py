"""What does a blur before units are left out change: accuracy, and how often a shifted image keeps its answer?

    python -m benchmarks.blur                                   two networks, both arms, five seeds: hours on two cores
    python -m benchmarks.blur --only residual -n 1              one network, one seed
    python -m benchmarks.blur --data fashion-mini --epochs 1    to try it out; nothing is written then

Both arms are one line of the pattern language but for the word blur, and the command that a user would type. Answers to
shifted test images are compared with those to the images as they are. One line a run goes to
benchmarks/results/blur.jsonl; a seed that has its line for this version of the sources is not run again.
``python -m benchmarks.tables`` writes the table of docs/seethrough.md from the lines.
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch

from benchmarks.accuracy import machine, sources_version, vitreous
from benchmarks.lines import append_line, read_lines
from vitreous.explanation.equivariance import shift_consistency
from vitreous.predictor.torch_backend import network_input, predictor_from_run
from vitreous.progress import SILENT
from vitreous.run import Run
from vitreous.trace import trace
from vitreous.training.recipe import default_pattern
from vitreous.workflow.run_images import images_of

DATA = "fashion-mnist"
NETWORKS = {
    "default": default_pattern((28, 28)),
    "residual": "conv16bn res[conv16bn conv16bn] res[conv32s2bn conv32bn] res[conv64s2bn conv64bn] gap fc",
}
ARMS = ("plain", "blurred")
MAX_SHIFT = 4  # px down, right, and both: half of the default network's total stride


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=NETWORKS)
    parser.add_argument("-n", "--seeds", type=int, default=5)
    parser.add_argument("--data", default=DATA)
    parser.add_argument("--epochs", type=int, help="fewer than the recipe's")
    arguments = parser.parse_args()
    is_trial = arguments.data != DATA or arguments.epochs is not None
    sources = sources_version()
    done = {(line["network"], line["arm"], line["seed"]) for line in read_lines("blur") if line["sources"] == sources}
    for seed in range(arguments.seeds):  # seed by seed and arm by arm: a machine that changes its speed does so for all
        for network in NETWORKS:
            for arm in ARMS:
                if arguments.only in (None, network) and (is_trial or (network, arm, seed) not in done):
                    line = ask(network, arm, seed, arguments.data, arguments.epochs) | {"sources": sources}
                    told = ("network", "arm", "seed", "accuracy", "same_circular", "same_edge", "seconds")
                    print(json.dumps({key: line[key] for key in told}), flush=True)
                    if not is_trial:
                        append_line("blur", line)


def ask(network: str, arm: str, seed: int, data: str, epochs: int | None) -> dict[str, object]:
    """Train as a user would, then shift the test images; returns the line."""
    model = NETWORKS[network] if arm == "plain" else blurred(NETWORKS[network])
    options = ["--model", model, "--seed", str(seed), *(["--epochs", str(epochs)] if epochs else [])]
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        scores = vitreous("train", data, *options, "--run", str(run), "--json")["scores"]["test"]
        manifest = json.loads((run / "manifest.json").read_text())
        shifts = shifted_answers(run)
    return {
        "network": network,
        "arm": arm,
        "line": model,
        "seed": seed,
        "accuracy": scores["accuracy"]["value"],
        "num_images": scores["num_images"],
        "max_shift": MAX_SHIFT,
        "same_circular": shifts["circular"]["same"]["value"],
        "same_edge": shifts["edge"]["same"]["value"],
        "shifts": shifts,
        "macs": shifts["macs"],
        "parameters": manifest["model"]["parameters"],
        "seconds": manifest["seconds"],
        "command": f"vitreous train {data} --model '{model}' --seed {seed}",
        "machine": machine(),
        "versions": manifest["versions"],
    }


def blurred(line: str) -> str:
    """The same line, but that a blur takes every stride.

    >>> blurred("conv8 pool res[conv8s2bn conv8] gap fc")
    'conv8 poolblur res[conv8s2bnblur conv8] gap fc'
    """
    return " ".join(
        "poolblur" if word == "pool" else f"{word}blur" if "s2" in word else word for word in line.split(" ")
    )


def shifted_answers(path: Path) -> dict[str, object]:
    """Shift consistency of a run's network on its test images, at both borders; and what one image costs."""
    run = Run.open(path)
    predictor = predictor_from_run(path)
    images = images_of(run, SILENT)
    pixels_NHWC = torch.from_numpy(images.pixels[images.indices("test")])
    network = predictor.backend.network
    device = next(network.parameters()).device
    images_NCHW = network_input(pixels_NHWC.to(device), predictor.preprocess)
    found = {
        border: shift_consistency(network, images_NCHW, MAX_SHIFT, border=border) for border in ("circular", "edge")
    }
    macs = trace(network, tuple(images_NCHW.shape[1:])).macs
    return {**{border: consistency.to_json() for border, consistency in found.items()}, "macs": macs}


if __name__ == "__main__":
    main()

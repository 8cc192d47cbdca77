"""How good are the networks, with the settings that nobody has to choose? Five seeds each, on test images.

    python -m benchmarks.accuracy                      every question, seeds 0 to 4; an hour and a half on two cores
    python -m benchmarks.accuracy --only lights -n 1   one question, one seed

Each run is the command that a user would type, in a process of its own, and appends one line to
benchmarks/results/accuracy.jsonl. A seed that has its line for this version of the sources is not run again, so the
script can be stopped and started. ``python -m benchmarks.tables`` writes the tables of README and docs from the lines.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.lines import append_line, read_lines


@dataclass(frozen=True)
class Question:
    """What is asked: a data source and the options of ``vitreous train``."""

    name: str
    data: str
    options: tuple[str, ...] = ()


QUESTIONS = (
    Question("default", "fashion-mnist"),
    Question("lights", "traffic-lights"),
    Question("lenet5", "fashion-mnist", ("--model", "lenet5")),
    Question(
        "lenet5-1998", "fashion-mnist", ("--model", "lenet5-1998", "--epochs", "24", "--set", "augmentation.shift_px=0")
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[question.name for question in QUESTIONS])
    parser.add_argument("-n", "--seeds", type=int, default=5)
    arguments = parser.parse_args()
    sources = sources_version()
    done = {(line["question"], line["seed"]) for line in read_lines("accuracy") if line["sources"] == sources}
    for seed in range(arguments.seeds):  # seed by seed, so that a machine that changes its speed does so for all
        for question in QUESTIONS:
            if arguments.only in (None, question.name) and (question.name, seed) not in done:
                line = ask(question, seed) | {"sources": sources}
                print(json.dumps({key: line[key] for key in ("question", "seed", "accuracy", "seconds")}), flush=True)
                append_line("accuracy", line)


def ask(question: Question, seed: int) -> dict[str, object]:
    """Train and evaluate as a user would; returns the line."""
    data = locate(question.data)
    with tempfile.TemporaryDirectory() as folder:
        run = f"{folder}/run"
        train = vitreous("train", data, *question.options, "--seed", str(seed), "--run", run, "--json")
        scores = vitreous("evaluate", run, "--json")
        manifest = json.loads(Path(run, "manifest.json").read_text())
    assert train["scores"]["test"]["accuracy"] == scores["accuracy"], "evaluate must repeat what training printed"
    return {
        "question": question.name,
        "command": " ".join(("vitreous train", question.data, *question.options, "--seed", str(seed))),
        "seed": seed,
        "accuracy": scores["accuracy"]["value"],
        "num_images": scores["num_images"],
        "recall": {name: each["recall"]["value"] for name, each in scores["per_class"].items()},
        "support": {name: each["support"] for name, each in scores["per_class"].items()},
        "seconds": manifest["seconds"],  # decoding and the probe before, scores and report after are not in it
        "parameters": manifest["model"]["parameters"],
        "machine": machine(),
        "versions": manifest["versions"],
    }


def vitreous(*arguments: str) -> dict:
    done = subprocess.run([sys.executable, "-m", "vitreous", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"vitreous {' '.join(arguments)} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def locate(data: str) -> str:
    if data == "traffic-lights":
        from benchmarks.registry import traffic_lights

        return str(traffic_lights())
    return data


def sources_version() -> str:
    """The git tree of the package's sources: the same while nothing that computes has changed."""
    tree = subprocess.run(["git", "rev-parse", "HEAD:src/vitreous"], capture_output=True, text=True, check=True)
    return tree.stdout.strip()[:12]


def machine() -> str:
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    flags = Path("/proc/cpuinfo").read_text()
    units = [unit for unit in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f" {unit} " in flags]
    return f"{len(names)} x {names[0]}, {' '.join(units)}, {platform.system()}, torch {version('torch')}"


if __name__ == "__main__":
    main()

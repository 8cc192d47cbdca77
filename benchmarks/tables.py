"""Write the tables of README and docs from the lines in benchmarks/results/: python -m benchmarks.tables [--check]."""

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "accuracy.jsonl"
PLACES = (ROOT / "README.md",)
START, END = "<!-- accuracy: written by benchmarks/tables.py -->", "<!-- end -->"


def main() -> None:
    table = accuracy_table([json.loads(line) for line in RESULTS.read_text().splitlines()])
    for place in PLACES:
        old = place.read_text(encoding="utf-8")
        before, rest = old.split(START)
        new = f"{before}{START}\n{table}{END}{rest.split(END, 1)[1]}"
        if "--check" in sys.argv and new != old:
            sys.exit(f"{place.name} is not what benchmarks/results says; run python -m benchmarks.tables")
        place.write_text(new, encoding="utf-8")


def accuracy_table(lines: list[dict]) -> str:
    """One row a question: the newest sources that answered it, all their seeds."""
    groups: dict[str, dict[str, list[dict]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        groups[line["question"]][line["sources"]].append(line)
    rows = ["| command | test images | test accuracy, mean ± sd | seeds | training, median |", "|---|---|---|---|---|"]
    newest = {question: list(by_sources.values())[-1] for question, by_sources in groups.items()}
    for runs in newest.values():
        accuracies = [run["accuracy"] for run in runs]
        spread = statistics.stdev(accuracies) if len(runs) > 1 else 0.0
        command = runs[0]["command"].rpartition(" --seed")[0]
        seconds = statistics.median(run["seconds"] for run in runs)
        rows.append(
            f"| `{command}` | {runs[0]['num_images']:,} | {statistics.mean(accuracies):.2%} ± {spread:.2%} "
            f"| {len(runs)} | {seconds:.0f} s |"
        )
    recalls = [recall_sentence(runs) for question, runs in newest.items() if question == "lights"]
    machines = sorted({run["machine"] for runs in newest.values() for run in runs})
    return "\n".join([*rows, "", *recalls, f"Machine: {'; '.join(machines)}.", ""])


def recall_sentence(runs: list[dict]) -> str:
    """Traffic lights, class by class: the smallest has few images, so the headline hides it."""
    shares = (
        f"{name} {statistics.mean(run['recall'][name] for run in runs):.1%} of {support}"
        for name, support in runs[0]["support"].items()
    )
    return (
        "traffic-lights is a folder of photographs that `benchmarks/registry.py` fetches; mean recall by class: "
        f"{', '.join(shares)} test images.\n"
    )


if __name__ == "__main__":
    main()

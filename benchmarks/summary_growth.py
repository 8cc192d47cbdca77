"""How long does ``vitreous summary`` take, from the command to the table, and how does that grow with depth?

    python -m benchmarks.summary_growth [--rounds N]

Networks and depths take turns, a process each; one line a network goes to benchmarks/results/summary_growth.jsonl.
``python -m benchmarks.tables`` writes the table of docs/seethrough.md.
"""

import argparse
import statistics
import subprocess
import sys
import time
from importlib.metadata import version

from benchmarks.accuracy import machine, sources_version
from benchmarks.lines import append_line

CHAINS = (250, 500, 1000, 2000)
NETWORKS = {
    "resnet50": ["resnet50"],
    "resnet152": ["resnet152"],
    **{f"{depth:,} convolutions": [f"[conv8]*{depth} gap fc", "--input", "3x32x32"] for depth in CHAINS},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    seconds: dict[str, list[float]] = {name: [] for name in NETWORKS}
    for number in range(rounds + 1):  # the first round fills the disk's cache and is not counted
        for name, arguments in NETWORKS.items():
            taken = seconds_of(arguments)
            if number > 0:
                seconds[name].append(taken)
    for name, taken in seconds.items():
        append_line("summary_growth", line(name, taken))
        print(f"{name}: {statistics.median(taken):.2f} s")


def seconds_of(arguments: list[str]) -> float:
    """From the start of the process to its end; standard output is thrown away."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "vitreous", "summary", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def line(name: str, taken: list[float]) -> dict[str, object]:
    """What is kept of one network."""
    return {
        "network": name,
        "command": " ".join(["vitreous summary", *NETWORKS[name]]),
        "seconds": [round(each, 3) for each in taken],
        "median": round(statistics.median(taken), 3),
        "rounds": len(taken),
        "sources": sources_version(),
        "machine": machine(),
        "versions": {"python": sys.version.split()[0], "torch": version("torch")},
    }


if __name__ == "__main__":
    main()

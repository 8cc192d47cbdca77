"""Do the promises hold? What `vitreous prove --full` tries, a line for each promise.

    python -m benchmarks.proof                     the better part of an hour; it can be stopped and started
    python -m benchmarks.proof --only "power cuts"

A promise that has its line for these sources is not tried again. ``python -m benchmarks.tables`` writes the table of
docs/proof.md from the newest lines.
"""

import argparse
from datetime import UTC, datetime

from benchmarks.accuracy import machine, sources_version
from benchmarks.lines import append_line, read_lines
from vitreous.proof import archives, corruption, crash_points, kills, power_loss, traps, zoo
from vitreous.proof.proving import FULL, versions

PROOFS = {
    "hostile images": zoo.prove,
    "folder traps": traps.prove,
    "hostile archives": lambda: archives.prove(FULL.mutations),
    "damaged files": lambda: corruption.prove(FULL.damages),
    "power cuts": lambda: power_loss.prove(FULL.power_cuts),
    "crash points": lambda: crash_points.prove(FULL.every_crash_point),
    "kills": lambda: kills.prove(FULL.kills),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PROOFS)
    only, sources = parser.parse_args().only, sources_version()
    done = {line["name"] for line in read_lines("proof") if line["sources"] == sources}
    for name, prove in PROOFS.items():
        if only in (None, name) and name not in done:
            started = datetime.now(UTC).isoformat(timespec="seconds")
            row = prove()
            print(f"{name}: {row.held:,} of {row.tried:,}", *row.broken[:5], sep="\n    ", flush=True)
            line = {**row.to_json(), "started": started, "machine": machine(), "versions": versions()}
            append_line("proof", {**line, "command": f'python -m benchmarks.proof --only "{name}"', "sources": sources})


if __name__ == "__main__":
    main()

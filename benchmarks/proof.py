"""Do the promises hold? `vitreous prove --full`, as a line of results.

    python -m benchmarks.proof            an hour or so on two cores
    python -m benchmarks.proof --quick    to try it out; nothing is written then

``python -m benchmarks.tables`` writes the table of docs/proof.md from the newest line.
"""

import argparse

from benchmarks.accuracy import machine, sources_version, vitreous
from benchmarks.lines import append_line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    effort = "--quick" if parser.parse_args().quick else "--full"
    proof = vitreous("prove", effort, "--json")
    for row in proof["rows"]:
        print(f"{row['name']}: {row['held']:,} of {row['tried']:,}", *row["broken"][:5], sep="\n    ")
    if effort == "--full":
        append_line("proof", {**proof, "machine": machine(), "sources": sources_version()})


if __name__ == "__main__":
    main()

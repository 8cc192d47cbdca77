"""The results: files of JSON lines in benchmarks/results/, to which lines are only added."""

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def read_lines(results: str) -> list[dict]:
    """What is known of a question; nothing before its first line."""
    file = RESULTS / f"{results}.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def append_line(results: str, line: dict[str, object]) -> None:
    """Add what was measured."""
    with (RESULTS / f"{results}.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")

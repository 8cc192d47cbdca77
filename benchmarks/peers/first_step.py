"""``vitreous train``, stopped right after its first step: when it reached what, by the clock that processes share.

    python -m benchmarks.peers.first_step DATA [OPTIONS]

Runs in our environment. It is the command with its own progress replaced by one that notes the time; prints JSON.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import NoReturn

MARKS = (("reading", "network:"), ("probe", "engine:"), ("recipe", "recipe:"))  # each ends when it is said


class Reached(BaseException):
    """The first step is done."""


class Notes:
    """A progress that notes when it was told what."""

    def __init__(self) -> None:
        self.marks: dict[str, float] = {}
        self.said: list[tuple[float, str]] = []

    def say(self, text: str) -> None:
        self.begun()
        self.said.append((time.monotonic(), text))
        for name, start in MARKS:
            if text.startswith(start):
                self.marks[name] = time.monotonic()

    @contextmanager
    def task(self, title: str, total: int, unit: str, done: int = 0) -> Iterator["Notes | Last"]:
        self.begun()
        yield Last(self) if title == "training" else self

    def advance(self, count: int = 1, note: str = "") -> None:
        """Nothing to note."""

    def begun(self) -> None:
        """The first word comes when everything is imported."""
        self.marks.setdefault("import", time.monotonic())


class Last:
    """The bar of the training: its first move is the end."""

    def __init__(self, notes: Notes) -> None:
        self.notes = notes

    def advance(self, count: int = 1, note: str = "") -> NoReturn:
        self.notes.marks["first step"] = time.monotonic()
        raise Reached


def main() -> None:
    from vitreous import cli
    from vitreous.cli import console

    notes = Notes()
    console.console_progress = lambda quiet=False: notes
    try:
        with redirect_stdout(sys.stderr):
            cli.run_command(["train", *sys.argv[1:]])
    except Reached:
        print(json.dumps({"marks": notes.marks, "said": notes.said}))
        return
    sys.exit(f"{Path(sys.argv[1]).name}: there was no first step")


if __name__ == "__main__":
    main()

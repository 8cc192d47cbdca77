"""What the reader sees: progress on stderr, results on stdout."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from vitreous.progress import Progress, Task


def console_progress(quiet: bool = False) -> Progress:
    """Bars where stderr is a terminal, plain lines where it is piped, nothing when quiet."""
    from vitreous.progress import SILENT

    if quiet:
        return SILENT
    return _Bars() if sys.stderr.isatty() else _Lines()


def print_json(value: Any) -> None:
    """One JSON document on stdout, and nothing else."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=True, allow_nan=False)
    sys.stdout.write("\n")


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """A plain table on stdout, columns aligned; ``right`` are the numbers of those that hold figures."""
    cells = [list(header), *(["" if cell is None else printable(str(cell)) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for number, row in enumerate(cells):
        line = (
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join(line).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))


def printable(text: str) -> str:
    r"""A name as one line of a terminal: control characters and undecodable bytes are escaped.

    >>> printable("two\tparts")
    'two\\tparts'
    """
    return "".join(each if each.isprintable() else each.encode("unicode_escape", "replace").decode() for each in text)


class _Lines:
    """Plain lines, for logs."""

    def say(self, text: str) -> None:
        print(printable(text), file=sys.stderr, flush=True)

    @contextmanager
    def task(self, title: str, total: int, unit: str, done: int = 0) -> Iterator[Task]:
        yield _NoBar()


class _NoBar:
    def advance(self, count: int = 1, note: str = "") -> None:
        pass


class _Bars:
    """Bars by rich, one at a time, with units a second and the time left."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)

    def say(self, text: str) -> None:
        self._console.print(printable(text), markup=False, soft_wrap=True)

    @contextmanager
    def task(self, title: str, total: int, unit: str, done: int = 0) -> Iterator[Task]:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(f"{unit}, {{task.fields[rate]}}/s,"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
        )
        with RichProgress(*columns, console=self._console, transient=True) as bars:
            yield _Bar(bars, bars.add_task(title, total=total, completed=done, rate="…"))


class _Bar:
    def __init__(self, bars: Any, number: Any) -> None:
        self._bars, self._number = bars, number

    def advance(self, count: int = 1, note: str = "") -> None:
        speed = self._bars.tasks[0].speed
        rate = f"{speed:,.0f}" if speed else "…"
        self._bars.update(self._number, advance=count, description=note or None, rate=rate)

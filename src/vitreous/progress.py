"""How long work tells that it goes on: a protocol, and the silent one that libraries want."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One bar."""

    def advance(self, count: int = 1, note: str = "") -> None:
        """Move the bar by ``count`` units; ``note`` replaces the title."""


class Progress(Protocol):
    """Where messages and bars go; the command line draws them on stderr."""

    def say(self, text: str) -> None:
        """One line to the reader."""

    def task(self, title: str, total: int, unit: str, done: int = 0) -> AbstractContextManager[Task]:
        """A bar of ``total`` units, ``done`` of them already, that ends with the context."""


class _SilentTask:
    def advance(self, count: int = 1, note: str = "") -> None:
        pass


class Silent:
    """Says nothing: the default of every function."""

    def say(self, text: str) -> None:
        pass

    @contextmanager
    def task(self, title: str, total: int, unit: str, done: int = 0) -> Iterator[Task]:
        yield _SilentTask()


SILENT: Progress = Silent()

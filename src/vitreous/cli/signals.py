"""SIGINT and SIGTERM while the loop runs: the first asks it to save and stop, a second one stops at once.

``torchrun`` passes on what it gets, more than once at times, and kills who does not end within half a minute: where it
started us, a second signal is not a second wish.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], int | None]]:
    """Within the context, a signal is only noted; the function that it yields tells which came."""
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if received and "TORCHELASTIC_RUN_ID" not in os.environ:
            raise KeyboardInterrupt
        received.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, note) for number in numbers]
    try:
        yield lambda: received[0] if received else None
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)

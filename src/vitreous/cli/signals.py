"""SIGINT and SIGTERM: a command is left in order; while a run trains, it is saved first.

Whatever is left, nothing is half written: files get their names when they are whole, and locks go with the process.
``torchrun`` passes on what it gets, more than once at times, and kills who does not end within half a minute: where it
started us, a second signal is not a second wish.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_NUMBERS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE_SECONDS = 8.0  # for what is under way to be left, e.g. a native function that does not look at signals

Handler = Callable[[int, FrameType | None], None]


class Stopped(BaseException):
    """A signal ends the command: on the way out temporary files are removed and child processes ended.

    No KeyboardInterrupt, which the parser of the command line would turn into 130 without a word.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number


@contextmanager
def leave_on_signals() -> Iterator[None]:
    """Within the context, a signal raises ``Stopped``; where that is not heard, the process ends a little later."""
    with _handled(_leave):
        yield


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], int | None]]:
    """Within the context, a signal is only noted; the function that it yields tells which came.

    Raises:
        Stopped: a second signal came, or nobody asked for the first until the end.
    """
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
            _leave(number, frame)

    with _handled(note):
        yield lambda: received[0] if received else None
        if received:
            _leave(received[0], None)


@contextmanager
def unmasked_signals() -> Iterator[None]:
    """Within the context, an error that a signal caused is ``Stopped`` again.

    A signal is raised between any two instructions, and a lock or a library that it disturbs fails in its own way.
    """
    try:
        yield
    except Exception as error:
        behind: BaseException | None = error
        while behind is not None and not isinstance(behind, Stopped):
            behind = behind.__context__
        if behind is not None:
            raise behind from None
        raise


def _leave(number: int, _frame: FrameType | None) -> None:
    deadline = threading.Timer(_PATIENCE_SECONDS, os._exit, (128 + number,))
    deadline.daemon = True
    deadline.start()
    raise Stopped(number)


@contextmanager
def _handled(handler: Handler) -> Iterator[None]:
    previous = [signal.signal(number, handler) for number in _NUMBERS]
    try:
        yield
    finally:
        for number, before in zip(_NUMBERS, previous, strict=True):
            signal.signal(number, before)

"""A process that a proof works with: it never outlives the proof, whatever ends that."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress

_NUMBERS = (signal.SIGINT, signal.SIGTERM)
_MOST_SECONDS_TO_DIE = 2.0


@contextmanager
def child(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A process whose output is read line by line; it and all that it started are ended with the context."""
    with ExitStack() as stack:
        with _signals_held_back():
            process = stack.enter_context(
                subprocess.Popen(
                    command,
                    stdout=subprocess.PIPE,
                    text=True,
                    env={**os.environ, **environment},
                    start_new_session=True,
                )
            )
            stack.callback(_end, process)
        yield process


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """A signal waits until the context is left: else there would be a process of which nobody knows."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # which no signal meets
        yield
        return
    previous = [signal.signal(each, lambda number, _: came.append(number)) for each in _NUMBERS]
    try:
        yield
    finally:
        for each, handler in zip(_NUMBERS, previous, strict=True):
            signal.signal(each, handler)
    for number in came:
        signal.raise_signal(number)


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is not None:
        return
    if os.name != "posix":
        process.kill()
        return
    os.killpg(process.pid, signal.SIGKILL)  # its session is its own, so those that it forked are meant, too
    process.wait()
    deadline = time.monotonic() + _MOST_SECONDS_TO_DIE
    with suppress(ProcessLookupError, PermissionError):  # nobody is left
        while time.monotonic() < deadline:  # else they may still write where all is removed next
            os.killpg(process.pid, 0)
            time.sleep(0.01)

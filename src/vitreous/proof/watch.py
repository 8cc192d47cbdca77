"""Everything that a process is about to do to the files below a folder."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Notice = Callable[[str, str, str], None]  # what, on which path, to which other path

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_EVENTS = {"os.rename": "rename", "os.mkdir": "mkdir", "os.remove": "remove", "os.rmdir": "rmdir"}


def watch(folder: Path, notice: Notice) -> None:
    """Call ``notice`` before each such thing, from now on until the process ends.

    What is told: "open" (for writing), "sync", "rename", "mkdir", "remove", "rmdir". An audit hook sees them all, but
    for fsync, which is replaced, and the inside of native code, whose files are synced by ours.
    """
    root = os.path.realpath(folder)

    def below(path: Any) -> str | None:
        if isinstance(path, int):
            return None
        full = os.path.abspath(os.fsdecode(path))  # noqa: PTH100, a link is watched, not where it leads
        return full if full == root or full.startswith(root + os.sep) else None

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & _WRITING and (seen := below(path)) is not None:
                notice("open", seen, "")
        elif event in _EVENTS and (seen := below(arguments[0])) is not None:
            notice(_EVENTS[event], seen, below(arguments[1]) or "" if event == "os.rename" else "")

    fsync = os.fsync

    def noticed_fsync(file: Any) -> None:
        descriptor = file if isinstance(file, int) else file.fileno()
        if (seen := below(Path(f"/proc/self/fd/{descriptor}").readlink())) is not None:
            notice("sync", seen, "")
        fsync(descriptor)

    os.fsync = noticed_fsync  # type: ignore[assignment]
    sys.addaudithook(hook)

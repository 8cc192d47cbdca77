"""Every write: under a temporary name, synced, renamed. A reader sees the old file or the new one, never a half.

The order is write, fsync the file, rename, fsync the directory; without the two syncs a power cut may keep the
rename and lose the bytes (Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014).
"""

import csv
import errno
import hashlib
import io
import json
import os
import shutil
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from vitreous.errors import MachineError

_CHUNK_BYTES = 1 << 20


def sha256_bytes(data: bytes) -> str:
    """The SHA-256 of ``data`` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's bytes in hexadecimal, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data``; after this returns, the new bytes survive a power cut.

    Raises:
        MachineError: the disk is full, read-only, or fails; the old file is still whole.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with explained(path):
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_directory(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` by ``text`` in UTF-8; names that are not UTF-8 keep their bytes, as ``read_text`` reads them."""
    write_atomic(path, text.encode("utf-8", "surrogateescape"))


def read_text(path: Path) -> str:
    """What ``write_text`` wrote."""
    return path.read_text(encoding="utf-8", errors="surrogateescape")


def write_json(path: Path, value: Any) -> None:
    """Replace ``path`` by ``value`` as indented JSON with a newline at its end."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Replace ``path`` by a CSV table (RFC 4180 quoting, so that a name may hold commas, quotes and newlines)."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_csv(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a table that ``write_csv`` wrote, as dictionaries by column."""
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        yield from csv.DictReader(file)


def append_line(path: Path, line: str) -> None:
    """Add one line to ``path`` and sync it.

    Raises:
        MachineError: the disk is full or read-only.
    """
    with explained(path), path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def make_directory(path: Path) -> None:
    """Make a directory, and those above it; their names survive a power cut too.

    Raises:
        OSError: it exists, or cannot be made.
    """
    if not path.parent.exists():
        make_directory(path.parent)
    path.mkdir()
    sync_directory(path.parent)


def replace_directory(temporary: Path, target: Path) -> None:
    """Sync every file of ``temporary``, then give the directory its final name ``target``, which must not exist.

    Raises:
        MachineError: the disk is full, read-only, or fails.
    """
    with explained(target):
        for file in sorted(temporary.rglob("*")):
            if file.is_file():
                sync_file(file)
        sync_directory(temporary)
        temporary.rename(target)
        sync_directory(target.parent)


def remove_directory(path: Path) -> None:
    """Delete a directory of ours; a second process may have deleted parts of it already."""
    shutil.rmtree(path, ignore_errors=True)


def sync_file(path: Path) -> None:
    """Wait until a file's bytes are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Wait until a directory's names are on the disk; systems that cannot (Windows) keep their own promise instead."""
    if os.name == "posix":
        sync_file(path)


@contextmanager
def lock(path: Path, *, wait_seconds: float = -1) -> Iterator[None]:
    """Hold an operating-system lock on ``path``, which the kernel frees when the process dies.

    Args:
        wait_seconds: how long to wait for another holder; -1 waits for ever.

    Raises:
        MachineError: another process still holds it; the message says which.
    """
    holder = path.with_name(f"{path.name}.holder")  # the lock's own file is emptied by all who try
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(path)
        try:
            held.acquire(timeout=wait_seconds)
        except Timeout:
            who = holder.read_text(encoding="utf-8") if holder.exists() else "it does not say which"
            raise MachineError(f"{path.parent} is in use by another process ({who}); wait for it or stop it.") from None
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
    try:
        yield
    finally:
        with suppress(OSError):  # where the disk has become read-only, what went wrong first is what must be told
            holder.unlink(missing_ok=True)
        held.release()


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the operating system's errors about ``path`` into a sentence with a way out."""
    try:
        yield
    except OSError as error:
        raise MachineError(_reason(path, error)) from error


def _reason(path: Path, error: OSError) -> str:
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return f"the disk that holds {path} is full; free some space or choose another place."
        case errno.EROFS | errno.EACCES | errno.EPERM:
            return f"{path} cannot be written ({error.strerror}); choose a place that you may write to."
        case _:
            return f"{path} cannot be written: {error.strerror or error}."

"""Hostile folders and files, made one after another and read by a process of its own: what mechanism they share.

What an input is and what must be said of it stands in ``traps`` and ``archives``; ``hostile_reader`` is the process.
"""

import hashlib
import json
import os
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vitreous.progress import SILENT, Progress
from vitreous.proof.child import child
from vitreous.proof.rows import ProofRow, row_of

MOST_SECONDS = 1.0  # of the processor, for one input
MOST_BYTES = 300 * 2**20  # that the memory may grow by while all of them are read
MOST_SECONDS_IN_ALL = 600.0  # of the clock: a reader that waits for a pipe waits for ever
_MOST_HASHED = 1 << 20  # bytes of a file
Kind = Literal["data", "weights", "pickle", "convert"]

_READER = [sys.executable, "-W", "ignore", "-m", "vitreous.proof.hostile_reader"]


@dataclass(frozen=True, slots=True)
class Hostile:
    """One input, and what must be said of it: either that it is ``refused``, with this word, or what is ``seen`` in it.

    Attributes:
        make: writes it into an empty folder; the second argument is a path where code in it would leave its mark.
        file: what is opened of the folder; "" is the folder itself.
        seen: the parts that must be found, each with "" or a word of the reason why it cannot be read.
        is_chance: damaged at random: it may be refused with any word, or be seen as it was.
    """

    name: str
    kind: Kind
    make: Callable[[Path, Path], object]
    file: str = ""
    refused: str | None = None
    seen: Mapping[str, str] | None = None
    is_chance: bool = False


def prove_hostile(
    name: str, promise: str, inputs: Sequence[Hostile], progress: Progress = SILENT, *, as_nobody: bool = False
) -> ProofRow:
    """Make each input, have it read, and judge what was said; what a system cannot make is left out.

    Args:
        name: of the row.
        promise: what is said of it.
        inputs: the first of them holds no trap: what the reader loads for it is not counted.
        progress: where a bar goes.
        as_nobody: read with no more rights than anybody has, also where this process has all.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vitreous-hostile-") as made:
        root = Path(made)
        root.chmod(0o755)  # the reader may be somebody else
        canaries = root / "canaries"
        canaries.mkdir()
        canaries.chmod(0o777)
        asked = dict(_make_all(inputs, root, canaries))
        before = {number: _contents(root / str(number)) for number in asked}
        try:
            told = _read(root, asked, name, "nobody" if as_nobody else "", progress)
            changed = {number for number in asked if _contents(root / str(number)) != before[number]}
        finally:
            _open_again(root)
        verdicts, broken = [], []
        for number, one in asked.items():
            said = told["said"].get(number, {"refused": "the process that read it ended, or waited for ever"})
            fault = fault_of(one, said)
            fault = "it was changed" if number in changed else fault
            fault = "its code was run" if (canaries / str(number)).exists() else fault
            verdicts.append((one.name, fault or "as it must be"))
            broken += [f"{one.name}: {fault}"] if fault else []
    verdicts.append(("memory for all of them", f"within {MOST_BYTES} bytes"))
    if not 0 <= told["growth"] <= MOST_BYTES:
        broken.append(f"memory for all of them: {told['growth'] / 2**20:.0f} MiB more")
    return row_of(name, promise, verdicts, broken, time.monotonic() - started)


def fault_of(one: Hostile, said: Mapping[str, Any]) -> str | None:
    """What is wrong with what was said of an input; None if nothing is.

    Args:
        said: ``refused`` or ``seen``, and ``seconds``, as the reader told them.
    """
    if said.get("seconds", 0.0) > MOST_SECONDS and one.kind != "convert":  # which starts a process
        return f"took {said['seconds']:.1f} s"
    if "bug" in said:
        return f"ended in {said['bug']}"
    if one.is_chance:
        is_same = said.get("seen") == dict(one.seen) if one.seen is not None else True
        return None if "refused" in said or is_same else f"{said['seen']} was seen"
    if one.refused is not None:
        reason = said.get("refused")
        if reason is None:
            return f"was read; {one.refused!r} was expected"
        return None if one.refused in reason else f"{reason!r}; {one.refused!r} was expected"
    if "refused" in said:
        return f"was refused: {said['refused']}"
    seen, wanted = said["seen"], one.seen or {}
    if seen.keys() != wanted.keys():
        return f"{sorted(seen)} were found, not {sorted(wanted)}"
    wrong = [part for part, reason in wanted.items() if bool(reason) != bool(seen[part]) or reason not in seen[part]]
    return f"{wrong[0]!r} is told as {seen[wrong[0]]!r}" if wrong else None


def _make_all(inputs: Sequence[Hostile], root: Path, canaries: Path) -> Iterator[tuple[str, Hostile]]:
    for number, one in enumerate(inputs):
        folder = root / str(number)
        folder.mkdir()
        with suppress(OSError, NotImplementedError):  # a name or a kind of file that this system does not have
            one.make(folder, canaries / str(number))
            yield str(number), one


def _read(root: Path, asked: Mapping[str, Hostile], name: str, user: str, progress: Progress) -> dict[str, Any]:
    """What the reader tells, a line an input; a crash takes it alone with it."""
    told: dict[str, Any] = {"said": {}, "growth": -1}
    lines = [[number, one.kind, str(root / number / one.file)] for number, one in asked.items()]
    (root / "asked.json").write_text(json.dumps(lines))
    with (
        tempfile.TemporaryDirectory(prefix="vitreous-reader-") as own,
        progress.task(name, len(asked), "inputs") as task,
    ):
        Path(own).chmod(0o777)
        with child([*_READER, str(root / "asked.json"), own, user], {"VITREOUS_CACHE": f"{own}/cache"}) as reader:
            assert reader.stdout is not None
            patience = threading.Timer(MOST_SECONDS_IN_ALL, reader.kill)
            patience.start()
            for line in reader.stdout:
                document = json.loads(line)
                if "growth" in document:
                    told["growth"] = document["growth"]
                else:
                    told["said"][document["number"]] = document
                    task.advance(1)
            patience.cancel()
    return told


def _contents(folder: Path) -> list[tuple[str, int, int, str]]:
    """Everything below a folder that a path can reach: names, kinds, times and bytes."""
    found = []
    for place, folders, files in os.walk(folder):
        for path in (Path(place, name) for name in (*folders, *files)):
            with suppress(OSError):
                facts = path.lstat()
                is_small = stat.S_ISREG(facts.st_mode) and facts.st_size <= _MOST_HASHED and os.access(path, os.R_OK)
                content = hashlib.sha256(path.read_bytes()).hexdigest() if is_small else ""
                found.append((str(path), facts.st_mode, facts.st_mtime_ns, content))
    return sorted(found)


def _open_again(root: Path) -> None:
    """So that everything can be removed, what may not be entered may be entered again."""
    for place, folders, _ in os.walk(root):
        for folder in (Path(place, name) for name in folders):
            with suppress(OSError):
                if not folder.is_symlink():
                    folder.chmod(0o755)

"""Files of a run that were damaged, forged or exchanged: each is found out when it is read, and none runs code."""

import json
import pickle
import random
import shutil
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from vitreous.checkpoint import load_newest_checkpoint
from vitreous.errors import VitreousError
from vitreous.progress import SILENT, Progress
from vitreous.proof import subject
from vitreous.proof.child import child
from vitreous.proof.rows import ProofRow, row_of
from vitreous.run import Run

PROMISE = "a damaged, forged or exchanged file is found out, no code of it is run, and the checkpoint before it serves"

Damage = Callable[[bytes, bytes, random.Random, Path], bytes]  # the file, the other run's, chance, the canary

_ONCE = ("manifest.json", "config.toml", "splits.csv", "model.safetensors")
_OF_A_CHECKPOINT = ("state.safetensors", "progress.json", "checkpoint.json")


def prove(num_mutations: int, seed: int = 0, progress: Progress = SILENT) -> ProofRow:
    """Damage one file of a finished run at a time, in ways drawn at random, and read the run."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vitreous-damage-") as folder:
        run, other = _two_runs(Path(folder))
        newest = _newest(run).relative_to(run).as_posix()
        names = [*_ONCE, *(f"{newest}/{name}" for name in _OF_A_CHECKPOINT), newest]
        chooser, canary = random.Random(seed), Path(folder, "canary")
        verdicts, broken = [], []
        with progress.task("damaged files", num_mutations, "files") as task:
            for number in range(num_mutations):
                name = chooser.choice(names)
                if name == newest:
                    trial = f"{number}: another run's checkpoint"
                    fault = _try_other_checkpoint(run, other, newest)
                else:
                    kind = chooser.choice(sorted(_DAMAGES))
                    trial = f"{number}: {kind} in {_shown(name)}"
                    fault = _try(run, other, name, _DAMAGES[kind], chooser, canary)
                verdicts.append((trial, fault or "found out"))
                broken += [f"{trial}: {fault}"] if fault else []
                task.advance(1)
    return row_of("damaged files", PROMISE, verdicts, broken, time.monotonic() - started)


def _two_runs(folder: Path) -> tuple[Path, Path]:
    """The subject, and the same with another seed: its files are of the same shape, and whole."""
    data = subject.write_data(folder)
    runs = folder / "run", folder / "other"
    command = [sys.executable, "-m", "vitreous.proof.subject", "train", str(runs[0]), str(data), str(runs[1])]
    with child(command, {"VITREOUS_CACHE": f"{folder}/cache"}) as process:
        process.communicate()
        assert process.returncode == 0, "the subject trains"
    return runs


def _newest(run: Path) -> Path:
    return max((run / "checkpoints").iterdir())


def _shown(name: str) -> str:
    return name.rpartition("/")[2]


def _try(run: Path, other: Path, name: str, damage: Damage, chooser: random.Random, canary: Path) -> str | None:
    """Damage a file, read what it belongs to, and mend it; None if it was found out."""
    path = run / name
    whole = path.read_bytes()
    changed = whole
    while _says_the_same(path, whole, changed):  # noughts over noughts: draw again
        changed = damage(whole, (other / name).read_bytes(), chooser, canary)
    path.write_bytes(changed)
    try:
        fault = _checkpoint_fault(run) if "/" in name else _run_fault(run)
    finally:
        path.write_bytes(whole)
    return "its code was run" if canary.exists() else fault


def _try_other_checkpoint(run: Path, other: Path, name: str) -> str | None:
    """A whole checkpoint of another run, of the same network at the same step, in place of the newest."""
    path, aside = run / name, run / "aside"
    path.rename(aside)
    shutil.copytree(other / name, path)
    try:
        return _checkpoint_fault(run)
    finally:
        shutil.rmtree(path)
        aside.rename(path)


def _says_the_same(path: Path, whole: bytes, changed: bytes) -> bool:
    """Not a byte is another, or none that JSON minds: white space, and what is behind a number's 17th digit."""
    return changed == whole or (path.suffix == ".json" and _words(changed) == _words(whole))


def _words(text: bytes) -> str | None:
    """What JSON says, each key as often as it stands there; None if it is none."""
    try:
        return repr(json.loads(text, object_pairs_hook=list))
    except ValueError:
        return None


def _run_fault(path: Path) -> str | None:
    try:
        run = Run.open(path)
        _ = run.config, list(run.splits())
        run.verified_weights()
    except VitreousError:
        return None
    return "nobody noticed"


def _checkpoint_fault(path: Path) -> str | None:
    newest = _newest(path)
    checkpoint, problems = load_newest_checkpoint(newest.parent, Run.open(path).identity)
    if not problems:
        return "nobody noticed"
    if checkpoint is None or checkpoint.step >= int(newest.name.rpartition("-")[2]):
        return "the checkpoint before it does not serve"
    return None


# --- damages ----------------------------------------------------------------------------------------------------------


class _Canary:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.path), "w")


def _cut(whole: bytes, _other: bytes, chooser: random.Random, _canary: Path) -> bytes:
    return whole[: chooser.randrange(len(whole))]


def _flip(whole: bytes, _other: bytes, chooser: random.Random, _canary: Path) -> bytes:
    at = chooser.randrange(len(whole))
    return whole[:at] + bytes([whole[at] ^ 1 << chooser.randrange(8)]) + whole[at + 1 :]


def _noughts(whole: bytes, _other: bytes, chooser: random.Random, _canary: Path) -> bytes:
    at = chooser.randrange(len(whole))
    end = min(len(whole), at + chooser.randint(1, 4096))
    return whole[:at] + bytes(end - at) + whole[end:]


def _longer(whole: bytes, _other: bytes, chooser: random.Random, _canary: Path) -> bytes:
    return whole + chooser.randbytes(chooser.randint(1, 100))


def _forged_header(whole: bytes, _other: bytes, chooser: random.Random, _canary: Path) -> bytes:
    length = chooser.choice((0, 1, 2**63, 2**64 - 1, chooser.randrange(2**40)))
    return struct.pack("<Q", length) + whole[8:]


def _exchanged(_whole: bytes, other: bytes, _chooser: random.Random, _canary: Path) -> bytes:
    return other


def _pickled(_whole: bytes, _other: bytes, chooser: random.Random, canary: Path) -> bytes:
    return pickle.dumps(_Canary(canary), protocol=chooser.randint(0, 5))


_DAMAGES: dict[str, Damage] = {
    "a cut": _cut,
    "a flipped bit": _flip,
    "noughts": _noughts,
    "more at the end": _longer,
    "a forged header": _forged_header,
    "another run's file": _exchanged,
    "a pickle": _pickled,
}

"""The process that reads hostile inputs: ``python -m vitreous.proof.hostile_reader ASKED.json OWN USER``; a line each.

It has made none of them, so that the memory which it takes is that of reading them. With the USER "nobody" it gives up
the super-user's rights, who may read anything, so that a folder that may not be entered would be no trap.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vitreous import storage
from vitreous.data.images import BrokenImage
from vitreous.data.prepared import hash_contents, scan
from vitreous.data.source import open_source
from vitreous.errors import VitreousError
from vitreous.proof.zoo_reader import peak_bytes, read_one_of_each_format
from vitreous.weights.conversion import convert
from vitreous.weights.conversion_worker import Job, report_of
from vitreous.weights.foreign import open_weights

_NOBODY = 65534


def main() -> None:
    """Read all of them."""
    asked, own = (Path(argument) for argument in sys.argv[1:3])
    lines = json.loads(asked.read_text())
    read_one_of_each_format()  # what a first one loads is not the doing of those that follow
    for kind, path in {kind: path for _, kind, path in reversed(lines)}.items():  # the first of each kind
        _said(kind, Path(path), own)
    if sys.argv[3] == "nobody" and hasattr(os, "geteuid") and os.geteuid() == 0:
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)
    before = peak_bytes()
    for number, kind, path in lines:
        started = time.process_time()
        said = _said(kind, Path(path), own)
        _tell(number=number, seconds=round(time.process_time() - started, 3), **said)
    _tell(growth=peak_bytes() - before)


def _tell(**facts: Any) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def _said(kind: str, path: Path, own: Path) -> dict[str, Any]:
    """What an input is taken for: its parts, or why it is refused; anything else is a bug."""
    try:
        return {"seen": _LOOKS[kind](path, own)}
    except VitreousError as error:
        return {"refused": str(error)}
    except Exception as error:
        return {"bug": f"{type(error).__name__}: {error}"}


def _data(path: Path, own: Path) -> dict[str, str]:
    """The images of a source, each with "" or the reason why it cannot be read; their names survive a run's table."""
    source = open_source(path, for_training=False)
    hash_contents(source.images)
    scanned = scan(source.images)
    names = [source.images.name(number) for number in range(len(source.images))]
    storage.write_csv(own / "splits.csv", ["path"], [[name] for name in names])
    if [row["path"] for row in storage.read_csv(own / "splits.csv")] != names:
        raise RuntimeError("names that a table does not keep")
    reasons = [each.reason if isinstance(each, BrokenImage) else "" for each in scanned]
    return dict(zip(names, reasons, strict=True))


def _weights(path: Path, _own: Path) -> dict[str, str]:
    return dict.fromkeys(open_weights(path).tensors, "")


def _pickle(path: Path, own: Path) -> dict[str, str]:
    """The worker's own work, in this process: starting one for each would take a second or two."""
    made = own / "made.safetensors"
    report = report_of(Job(str(path), str(made), str(own / "report.json"), 10, {"format": "pt"}))
    made.unlink(missing_ok=True)
    if "error" in report:
        raise VitreousError(report["error"])
    return {"tensors": ""}


def _convert(path: Path, own: Path) -> dict[str, str]:
    made = own / "converted.safetensors"
    made.unlink(missing_ok=True)
    convert(path, made, seconds=60)
    return {"tensors": ""}


_LOOKS: dict[str, Callable[[Path, Path], dict[str, str]]] = {
    "data": _data,
    "weights": _weights,
    "pickle": _pickle,
    "convert": _convert,
}


if __name__ == "__main__":
    main()

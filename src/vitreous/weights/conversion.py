"""Pickles of torch into safetensors, by a process that can do no harm."""

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vitreous import storage
from vitreous.errors import ConfigError, MachineError
from vitreous.weights.header import TORCH_ENDINGS, Header, file_size, kind_by_content, kind_by_name, read_header
from vitreous.weights.likeness import looks_like
from vitreous.weights.preprocessing import (
    METADATA_KEY,
    WeightPreprocessing,
    preprocessing_beside,
    torchvision_name,
    torchvision_preprocessing,
)

_BUFFERS = (".running_mean", ".running_var", ".num_batches_tracked")  # of batch norms: no parameters
_GRACE_SECONDS = 30  # to start Python and torch


@dataclass(frozen=True, slots=True)
class Conversion:
    """What became of a file."""

    path: Path
    sha256: str
    source: Path
    source_sha256: str
    num_tensors: int
    num_parameters: int
    looks_like: str | None  # an architecture of the table
    preprocessing: WeightPreprocessing | None
    origin: str | None  # where the preprocessing was found
    remarks: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"path": str(self.path), "source": str(self.source), "remarks": list(self.remarks)}


def convert(source: Path, target: Path, *, seconds: int = 300) -> Conversion:
    """Write the tensors of ``source``, a pickle of torch, as the safetensors file ``target``; runs no code of it.

    Args:
        source: a file that torch.save wrote.
        target: a new file; what is known of the images that the weights expect is noted in its header.
        seconds: after which the attempt ends.

    Raises:
        ConfigError: not such a file, one that holds code or is damaged, or the target exists. Nothing is written.
        MachineError: the target cannot be written.
    """
    _check_source(source)
    _check_target(target)
    source_sha256 = storage.sha256_file(source)
    preprocessing, origin, warnings = _found_preprocessing(source, source_sha256)
    metadata = {"format": "pt", "source": source.name, "source_sha256": source_sha256}
    if preprocessing is not None:
        metadata[METADATA_KEY] = preprocessing.to_json()
    with storage.explained(target), tempfile.TemporaryDirectory(dir=target.parent, prefix=".convert-") as folder:
        made = Path(folder) / "made.safetensors"
        report = _work(source, made, metadata, seconds)
        header = read_header(made)
        _publish(made, target)
    alike = looks_like(header.shapes)
    return Conversion(
        path=target,
        sha256=storage.sha256_file(target),
        source=source,
        source_sha256=source_sha256,
        num_tensors=len(header.shapes),
        num_parameters=_num_parameters(header),
        looks_like=None if alike is None else str(alike),
        preprocessing=preprocessing,
        origin=origin,
        remarks=(*_remarks(report), *warnings),
    )


def _check_source(source: Path) -> None:
    if source.is_dir():
        inside = [file for file in sorted(source.iterdir()) if file.suffix.lower() in TORCH_ENDINGS]
        raise ConfigError(f"{source} is a folder; convert takes one file{f', e.g. {inside[0]}' if inside else ''}.")
    size = file_size(source)
    if size == 0:
        raise ConfigError(f"{source} is empty; fetch or copy it again.")
    with source.open("rb") as file:
        beginning = file.read(32)
    if beginning[8:9] == b"{" or source.suffix.lower() == ".safetensors":
        raise ConfigError(f"{source} is a safetensors file already; use it as it is, under a name in .safetensors.")
    kind = kind_by_name(source) or kind_by_content(beginning)
    is_of_torch = beginning[:2] == b"PK" or beginning[:1] == b"\x80"
    if kind_by_name(source) or (kind and not is_of_torch):
        raise ConfigError(f"{source} is {kind}; convert reads only what torch.save wrote (.pth, .pt, .bin, .ckpt).")


def _check_target(target: Path) -> None:
    if target.suffix != ".safetensors":
        raise ConfigError(f"--out {target} must end in .safetensors.")
    if target.exists() or target.is_symlink():
        raise ConfigError(f"{target} exists already and stays as it is; name another file with --out.")
    if not target.parent.is_dir():
        raise ConfigError(f"the folder {target.parent} for {target.name} does not exist.")


def _found_preprocessing(source: Path, sha256: str) -> tuple[WeightPreprocessing | None, str | None, list[str]]:
    """What is known of the images, where from, and what is odd about it."""
    by_content, by_name = torchvision_name("", sha256), torchvision_name(source.stem)
    if by_content:
        return torchvision_preprocessing(by_content), f"torchvision's {by_content}, known by its SHA-256", []
    is_alone = sum(file.suffix.lower() in TORCH_ENDINGS for file in source.parent.iterdir()) == 1
    if (is_alone or source.name == "pytorch_model.bin") and (beside := preprocessing_beside(source)):
        return *beside, []
    if by_name:
        warning = (
            f"{source.name} is a name of torchvision's, but its SHA-256 begins {sha256[:8]}: changed or saved anew"
        )
        return torchvision_preprocessing(by_name), f"the file name, torchvision's {by_name}", [warning]
    return None, None, []


def _work(source: Path, made: Path, metadata: dict[str, str], seconds: int) -> dict[str, Any]:
    """Let the worker make the file; its report.

    Raises:
        ConfigError: it refused, took too long, or was ended by the system.
    """
    report = made.with_name("report.json")
    job = {
        "source": str(source.absolute()),
        "target": str(made.absolute()),
        "report": str(report.absolute()),
        "seconds": seconds,
        "metadata": metadata,
    }
    # -P: a torch.py in the working folder, which may be where the file was downloaded to, is not taken for torch
    command = [sys.executable, "-P", "-m", "vitreous.weights.conversion_worker", json.dumps(job)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True) as process:
        try:
            status = process.wait(seconds + _GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            raise ConfigError(f"{source} was not read in {seconds} s; --seconds allows more.") from None
        finally:
            _end(process)
    if not report.is_file():
        raise ConfigError(f"{source} was not converted: {_cause(status, seconds)}. Nothing was written.")
    values: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    if "error" in values:
        kind = MachineError if values.get("is_machines") else ConfigError
        raise kind(values["error"].replace(str(source.absolute()), str(source)))
    return values


def _end(process: subprocess.Popen[bytes]) -> None:
    """Leave no worker behind, whatever happened here."""
    if process.poll() is not None:
        return
    if os.name == "posix":
        os.killpg(process.pid, signal.SIGKILL)  # its session is its own
    else:
        process.kill()


def _cause(status: int, seconds: int) -> str:
    if os.name == "posix" and -status == signal.SIGXCPU:
        return f"it took more than {seconds} s of processor time; --seconds allows more"
    if status < 0:
        return f"the process that read it was ended by {signal.Signals(-status).name}; the file is damaged or hostile"
    return f"the process that read it ended with status {status}"


def _publish(made: Path, target: Path) -> None:
    """Give the finished file its name."""
    storage.sync_file(made)
    _check_target(target)
    made.rename(target)
    storage.sync_directory(target.parent)


def _num_parameters(header: Header) -> int:
    return sum(math.prod(shape) for name, shape in header.shapes.items() if not name.endswith(_BUFFERS))


def _remarks(report: dict[str, Any]) -> list[str]:
    remarks = []
    if report["place"]:
        remarks.append(f"the weights stood in the checkpoint's {report['place']}")
    if report["prefix"]:
        remarks.append(f"all names began with {report['prefix']!r}; it was taken away")
    if report["left_out"]:
        remarks.append(f"left out: {', '.join(report['left_out'])}")
    if report["not_finite"]:
        remarks.append(f"not finite, so no network can start from it: {', '.join(report['not_finite'])}")
    return remarks

"""Training state in and out: committed whole or not at all, verified when read, with the previous one to fall back on.

A checkpoint is a directory ``checkpoints/step-<n>`` of ``state.safetensors`` (tensors), ``progress.json`` (the rest)
and ``checkpoint.json`` (their SHA-256 and whose they are, written last). It is built under a temporary name, renamed
when all is on disk.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vitreous import storage
from vitreous.errors import MachineError

KEPT = 2
_NAME = re.compile(r"step-(\d{9})")


class NotFiniteError(MachineError):
    """A number of the training state is infinite, or none at all."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One verified training state."""

    step: int
    tensors: dict[str, Tensor]
    progress: dict[str, Any]


def save_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Tensor], progress: Mapping[str, Any], identity: str | None
) -> None:
    """Commit a state, then delete all but the newest ``KEPT``; later ones, which were fallen back from, go as well.

    Args:
        folder: of the run's checkpoints.
        step: names the state.
        tensors: the state.
        progress: what of it is not a tensor.
        identity: of the run, see ``Run.identity``.

    Raises:
        NotFiniteError: a tensor is not finite; nothing is written.
        MachineError: the disk fails; the older ones are still whole.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise NotFiniteError(f"{name} is no longer finite at step {step}.")
    target = folder / f"step-{step:09d}"
    temporary = folder / f".{target.name}.tmp"
    storage.remove_directory(temporary)
    with storage.explained(folder):
        storage.make_directory(temporary)
    try:
        _write(temporary, tensors, progress, identity)
        if target.exists():  # the same step was saved before a kill; the bytes are the same
            storage.remove_directory(target)
        storage.replace_directory(temporary, target)
    finally:
        storage.remove_directory(temporary)
    found = _checkpoint_paths(folder)
    for other in {*found} - {*[path for path in found if _step(path) <= step][:KEPT]}:
        storage.remove_directory(other)


def load_newest_checkpoint(folder: Path, identity: str | None) -> tuple[Checkpoint | None, list[str]]:
    """The newest state of the run that verifies, and a sentence about each newer one that does not.

    Args:
        folder: of the run's checkpoints.
        identity: of the run; None, as the oldest runs have it, takes that of any.
    """
    problems: list[str] = []
    for path in _checkpoint_paths(folder):
        try:
            if _is_of_other_run(path, identity):
                problems.append(f"{path} belongs to another run; falling back to the one before it.")
                continue
            return _read(path), problems
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            problems.append(f"{path} is damaged ({error}); falling back to the one before it.")
    return None, problems


def _write(folder: Path, tensors: Mapping[str, Tensor], progress: Mapping[str, Any], identity: str | None) -> None:
    with storage.explained(folder):
        try:
            save_file(
                {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
                folder / "state.safetensors",
            )
        except SafetensorError as error:  # the library wraps "no space left on device" in its own error
            raise MachineError(f"{folder} cannot be written: {error}.") from None
        (folder / "progress.json").write_text(json.dumps(progress), encoding="utf-8")
        hashes = {name: storage.sha256_file(folder / name) for name in ("state.safetensors", "progress.json")}
    owner = {} if identity is None else {"run": identity}
    storage.write_json(folder / "checkpoint.json", {"sha256": hashes, **owner})


def _manifest(path: Path) -> dict[str, Any]:
    """What ``checkpoint.json`` says; the oldest do not tell their run.

    Raises:
        ValueError: it says something else.
    """
    manifest: dict[str, Any] = json.loads((path / "checkpoint.json").read_text(encoding="utf-8"))
    if manifest.keys() - {"run"} != {"sha256"}:
        raise ValueError("checkpoint.json holds other things than were written")
    return manifest


def _is_of_other_run(path: Path, identity: str | None) -> bool:
    owner = _manifest(path).get("run")
    return None not in (owner, identity) and owner != identity


def _read(path: Path) -> Checkpoint:
    manifest = _manifest(path)
    for name in ("state.safetensors", "progress.json"):
        if storage.sha256_file(path / name) != manifest["sha256"][name]:
            raise ValueError(f"{name} has another SHA-256 than was written")
    progress = json.loads((path / "progress.json").read_text(encoding="utf-8"))
    return Checkpoint(_step(path), load_file(path / "state.safetensors"), progress)


def _checkpoint_paths(folder: Path) -> list[Path]:
    """Newest first; the step in the name decides, never a clock."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted((path for path in found if _NAME.fullmatch(path.name)), key=_step, reverse=True)


def _step(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1])

"""The run folder: the hinge of the house. Everything after training takes its path; nothing takes a live trainer.

runs/<name>/
  config.toml            what was asked, resolved; the same file repeats the run
  manifest.json          schema, status, versions, classes, preprocessing, architecture, SHA-256 of the weights
  splits.csv             content hash, path, class, group, split, picture, known
  model.safetensors      the best weights by validation score
  metrics.jsonl          one line per epoch
  predictions/           one table per split that was scored
  golden/                a few encoded inputs with their expected logits
  checkpoints/           the training state
  report.html            one self-contained page
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from vitreous import storage
from vitreous.config import Config
from vitreous.errors import MachineError, RunError

SCHEMA = 1
STATUSES = ("running", "interrupted", "failed", "complete")
_SPLITS_HEADER = ("content_hash", "path", "class", "group", "split", "picture", "known")


@dataclass(frozen=True, slots=True)
class SplitRow:
    """One image of the run's data: which, what it shows, and in which part it stands.

    Attributes:
        split: "train", "val", "test"; "excluded" where the user left it out, "unused" where no part of it was wanted.
        group: what the user keeps together, e.g. a patient; "" where nothing was asked.
        picture: the smallest content hash among the images that show the same picture; "" where it is the only one.
        is_known: whether the run whose weights training began with had trained on it.
    """

    content_hash: str
    path: str
    label: str
    split: str
    group: str = ""
    picture: str = ""
    is_known: bool = False


def run_path(name: str, root: Path = Path("runs")) -> Path:
    """Where a run lies: a name with a separator is a path, any other is below ``runs``.

    >>> run_path("lamps").as_posix(), run_path("/tmp/lamps").as_posix()
    ('runs/lamps', '/tmp/lamps')
    """
    return Path(name) if "/" in name or "\\" in name or name in (".", "..") else root / name


def free_run_path(stem: str, root: Path = Path("runs")) -> Path:
    """The first of ``stem``, ``stem-2``, ``stem-3`` ... that does not exist yet."""
    path, number = root / stem, 1
    while path.exists():
        number += 1
        path = root / f"{stem}-{number}"
    return path


def list_runs(root: Path = Path("runs")) -> tuple[list["Run"], list[str]]:
    """The readable runs directly below ``root`` by name, and a sentence about each that is not readable."""
    runs: list[Run] = []
    problems: list[str] = []
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        if (path / "manifest.json").is_file():
            try:
                runs.append(Run.open(path))
            except RunError as error:
                problems.append(str(error))
    return runs, problems


class Run:
    """One run folder, by its path.

    The manifest is read once, at ``open``; ``update_manifest`` replaces it on the disk and here.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def create(cls, path: Path, config: Config, manifest: Mapping[str, Any], splits: Iterable[SplitRow]) -> Self:
        """Make the folder under its final name with config, manifest and splits; never over another.

        Raises:
            RunError: the path exists, or nothing can be written there.
        """
        require_free(path)
        run = cls(path, {"schema": SCHEMA, "status": "running", **manifest})
        try:
            storage.make_directory(path)
        except FileExistsError:
            require_free(path)
        except BaseException as error:
            with suppress(OSError):
                path.rmdir()  # it is empty, if it was made at all
            raise _named(path, error) from None
        try:
            run._begin(config, splits)
        except BaseException as error:  # a signal, too, leaves no folder that stands in the way and is no run
            storage.remove_directory(path)
            raise _named(path, error) from None
        return run

    def _begin(self, config: Config, splits: Iterable[SplitRow]) -> None:
        storage.write_text(self.path / "config.toml", config.to_toml())
        rows = (
            (row.content_hash, row.path, row.label, row.group, row.split, row.picture, "yes" if row.is_known else "")
            for row in splits
        )
        storage.write_csv(self.path / "splits.csv", _SPLITS_HEADER, rows)
        files = {name: storage.sha256_file(self.path / name) for name in ("config.toml", "splits.csv")}
        self.update_manifest(files=files)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read a run folder's manifest.

        Raises:
            RunError: no run there, a manifest that is damaged, or one of a newer schema.
        """
        file = path / "manifest.json"
        if not file.is_file():
            is_here = path.parent == Path("runs") and Path(path.name, "manifest.json").is_file()
            way = f"the one in this folder is ./{path.name}" if is_here else "`vitreous runs` lists yours"
            raise RunError(f"{path} is not a run folder (it has no manifest.json); {way}.")
        try:
            manifest = json.loads(storage.read_text(file))
            schema, checksum = manifest["schema"], manifest.pop("checksum", None)
            if isinstance(schema, int) and schema > SCHEMA:
                raise RunError(
                    f"{path} was written by a newer Vitreous (schema {schema}, this one reads {SCHEMA}); upgrade."
                )
            is_old = checksum is None and "files" not in manifest  # those were written without a checksum
            if not is_old and checksum != _checksum(manifest):
                raise ValueError("its checksum is of another text")
            _check_manifest(manifest)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(f"{file} is damaged ({error}); restore it from a copy.") from None
        return cls(path, manifest)

    def update_manifest(self, **changes: Any) -> None:
        """Replace keys of the manifest, atomically."""
        self.manifest = {**self.manifest, **changes}
        storage.write_json(self.path / "manifest.json", {**self.manifest, "checksum": _checksum(self.manifest)})

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def status(self) -> str:
        return str(self.manifest["status"])

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.manifest["classes"])

    @property
    def config(self) -> Config:
        """All of what was asked, resolved.

        Raises:
            RunError: it is not what was written when the run was made.
        """
        return Config.from_file(self._unchanged("config.toml"))

    @property
    def identity(self) -> str | None:
        """What sets the run apart from others, for its checkpoints: a hash of settings and splits; None in the oldest.

        Two runs of one identity end with the same bits, so their checkpoints may stand for each other.
        """
        files = self.manifest.get("files")
        return None if files is None else storage.sha256_bytes(json.dumps(files, sort_keys=True).encode())

    @property
    def weights_path(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def checkpoints_path(self) -> Path:
        return self.path / "checkpoints"

    def verified_weights(self) -> Path:
        """The weights' file, after its SHA-256 was found to be the manifest's.

        Raises:
            RunError: the run has no weights yet, or the file is missing or changed.
        """
        weights = self.manifest.get("weights")
        if not weights:
            raise RunError(
                f"{self.path} is {self.status} and has no weights yet; go on with `vitreous resume {self.path}`."
            )
        if not self.weights_path.is_file():
            raise RunError(
                f"{self.weights_path} is missing; `vitreous resume {self.path}` restores it from a checkpoint."
            )
        seen = storage.sha256_file(self.weights_path)
        if seen != weights["sha256"]:
            raise RunError(
                f"{self.weights_path} is not what training wrote: SHA-256 {seen[:12]}…, not {weights['sha256'][:12]}…; "
                f"it is damaged or was replaced. `vitreous resume {self.path}` restores it from a checkpoint."
            )
        return self.weights_path

    def splits(self) -> Iterator[SplitRow]:
        """The rows of splits.csv."""
        file = self._unchanged("splits.csv")
        for row in storage.read_csv(file):
            group, picture = row.get("group") or "", row.get("picture") or ""
            is_known = row.get("known") == "yes"
            yield SplitRow(row["content_hash"], row["path"], row["class"], row["split"], group, picture, is_known)

    def _unchanged(self, name: str) -> Path:
        """A file that is written once, with the run; the oldest runs do not tell its hash."""
        file = self.path / name
        if not file.is_file():
            raise RunError(f"{file} is missing; restore it from a copy.")
        wanted = (self.manifest.get("files") or {}).get(name)
        if wanted is not None and storage.sha256_file(file) != wanted:
            raise RunError(f"{file} is not what was written when the run was made; restore it from a copy.")
        return file

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Add one epoch's figures to metrics.jsonl."""
        storage.append_line(self.path / "metrics.jsonl", json.dumps(line))

    def metrics(self) -> list[dict[str, Any]]:
        """The figures of every epoch so far; a line torn by a power cut, and what follows it, is left out."""
        file = self.path / "metrics.jsonl"
        figures: list[dict[str, Any]] = []
        for line in file.read_bytes().splitlines() if file.is_file() else ():
            try:
                figure = json.loads(line)
                if not isinstance(figure["epoch"], int):
                    break
            except (ValueError, KeyError, TypeError, RecursionError):
                break
            figures.append(figure)
        return figures

    def rewind_metrics(self, last_epoch: int) -> None:
        """Keep the lines up to ``last_epoch``: what was after the checkpoint is done again."""
        kept = [line for line in self.metrics() if line["epoch"] <= last_epoch]
        storage.write_atomic(self.path / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in kept).encode())


class FollowedRun(Run):
    """A run whose folder another process writes: what it was told of it, and nothing of its own on the disk."""

    def __init__(self, path: Path, manifest: dict[str, Any], config: Config, splits: Iterable[SplitRow] = ()) -> None:
        super().__init__(path, manifest)
        self._config, self._splits = config, tuple(splits)

    @property
    def config(self) -> Config:
        """All of what was asked, resolved."""
        return self._config

    def splits(self) -> Iterator[SplitRow]:
        """The rows of splits.csv, where they were told."""
        return iter(self._splits)

    def update_manifest(self, **changes: Any) -> None:
        """Know it; it is written elsewhere."""
        self.manifest = {**self.manifest, **changes}

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Nothing: they are written elsewhere."""

    def rewind_metrics(self, last_epoch: int) -> None:
        """Nothing: they are written elsewhere."""


def _named(path: Path, error: BaseException) -> BaseException:
    """An error of the disk as one of the run folder; any other as it is."""
    if not isinstance(error, OSError | MachineError):
        return error
    reason = error.strerror if isinstance(error, OSError) else error
    return RunError(f"the run folder {path} cannot be made: {reason}")


def _checksum(manifest: Mapping[str, Any]) -> str:
    """Of what it says, however it is laid out; read back first, since JSON makes texts of all keys."""
    return storage.sha256_bytes(json.dumps(json.loads(json.dumps(manifest)), sort_keys=True).encode())


def _check_manifest(manifest: Mapping[str, Any]) -> None:
    schema, status, classes = manifest["schema"], manifest["status"], manifest["classes"]
    weights = manifest.get("weights")
    if not isinstance(schema, int) or status not in STATUSES:
        raise ValueError(f"schema {schema!r}, status {status!r}")
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise ValueError("its classes are no list of names")
    if weights and not isinstance(weights["sha256"], str):
        raise ValueError("its weights have no SHA-256")


def require_space(path: Path, num_bytes: int) -> None:
    """Check that the disk of a future run folder has room for it.

    Raises:
        RunError: it has not, so the run would fail later.
    """
    free = shutil.disk_usage(_existing_parent(path)).free
    if free < num_bytes:
        raise RunError(
            f"the disk that holds {path} is too full: the run needs about {num_bytes / 2**20:,.1f} MiB, "
            f"{free / 2**20:,.1f} MiB are free; free some space or name another place with --run."
        )


def require_free(path: Path) -> None:
    """Check that nothing is at ``path``, and that something may be put there.

    Raises:
        RunError: something is, and runs are never written over; or the place is read-only, or not ours.
    """
    if path.exists() or path.is_symlink():
        raise RunError(f"{path} exists already and is never written over; choose another name with --run.")
    existing = _existing_parent(path)
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise RunError(f"the run folder {path} cannot be made: nothing can be written in {existing}; see --run.")


def _existing_parent(path: Path) -> Path:
    return next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())

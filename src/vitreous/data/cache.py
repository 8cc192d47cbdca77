"""What is computed of images once and kept between runs: their pixels, what was seen in them, a network's features.

A pack is a folder ``packs/KEY`` with ``rows.bin`` (a row for each image, nothing else) and ``pack.json`` (its version,
and which images have no row because they cannot be read). It is built beside its final name and renamed; it can be
thrown away at any time. $VITREOUS_CACHE names another place, $VITREOUS_CACHE_LIMIT_MIB the size up to which old packs
are kept.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import platformdirs
from numpy.typing import DTypeLike, NDArray

from vitreous.data.decode import Pixels
from vitreous.data.images import BrokenImage, Images
from vitreous.data.preprocess import Preprocess
from vitreous.data.threads import map_images
from vitreous.errors import ConfigError, DecodeError, MachineError
from vitreous.progress import SILENT, Progress
from vitreous.storage import lock, remove_directory, replace_directory, write_json

_VERSION = 2
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Packed:
    """Pixels (M, H, W, C) of the images that can be read, in their order, and the others by index."""

    pixels: Pixels
    broken: tuple[BrokenImage, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """What the cache holds."""

    path: Path
    num_packs: int
    num_bytes: int


def cache_root() -> Path:
    """Where the cache lies."""
    chosen = os.environ.get("VITREOUS_CACHE")
    return Path(chosen) if chosen else platformdirs.user_cache_path("vitreous")


def usage() -> Usage:
    """How much the cache holds."""
    packs = _packs()
    return Usage(cache_root(), len([p for p in packs if p.name[0] != "."]), sum(map(_num_bytes, packs)))


def clear() -> int:
    """Remove every pack that no process is building or opening; returns the bytes freed."""
    return sum(map(_remove_if_free, _packs()))


def pack(images: Images, hashes: Sequence[str], preprocess: Preprocess, progress: Progress = SILENT) -> Packed:
    """Every image as the network sees it; decoded now, or in an earlier run.

    Args:
        hashes: the content hash of each image.

    Raises:
        MachineError: no space, or no right to write, where the cache lies.
    """
    ready = images.ready(preprocess)
    if ready is not None:
        return Packed(ready, ())
    key = _key(hashes, preprocess)
    pixels, reasons = keep_rows(
        key, len(images), preprocess.shape, np.uint8, lambda: _rows(images, preprocess, progress), progress
    )
    return Packed(pixels, tuple(BrokenImage(i, images.name(i), reason) for i, reason in reasons.items()))


def keep_features(
    key: str, num_images: int, num_features: int, rows: Callable[[], Iterator[NDArray[np.float32]]]
) -> NDArray[np.float32]:
    """What a network saw in each image, N,D: computed now, or in an earlier run.

    Args:
        key: a SHA-256 of all that decides the features.
        rows: computes them, image after image.

    Raises:
        MachineError: no space, or no right to write, where the cache lies.
    """
    return keep_rows(key, num_images, (num_features,), np.float32, rows)[0]


def keep_rows(
    key: str,
    num_images: int,
    row_shape: tuple[int, ...],
    dtype: DTypeLike,
    rows: Callable[[], Iterator[NDArray[Any] | str]],
    progress: Progress = SILENT,
) -> tuple[NDArray[Any], dict[int, str]]:
    """The rows of a pack, and the reasons for those that are missing; built if it is not there or not whole.

    Args:
        key: the pack's name: it tells all that decides the rows.
        rows: computes them, image after image; a reason stands for the row of an image that cannot be read.

    Raises:
        MachineError: no space, or no right to write, where the cache lies.
    """
    folder = cache_root() / "packs" / key
    wanted = num_images * math.prod(row_shape) * np.dtype(dtype).itemsize
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _no_room(wanted, error.strerror) from error
    with _locked(folder):
        packed = _opened(folder, num_images, row_shape, dtype)
        if packed is not None:
            return packed
        if folder.exists():
            progress.say(f"the cache pack {folder} is damaged or of another version; building it again")
            remove_directory(folder)
        _make_room(wanted)
        _build(folder, wanted, rows())
        packed = _opened(folder, num_images, row_shape, dtype)
    if packed is None:
        raise MachineError(f"the cache pack {folder} cannot be read back; set VITREOUS_CACHE to another folder.")
    return packed


def kept_rows(prefix: str, dtype: DTypeLike) -> Iterator[NDArray[Any]]:
    """The rows of every whole pack whose key begins so, the newest first: what need not be computed again."""
    size = np.dtype(dtype).itemsize
    for folder in sorted(_packs(), key=_last_used, reverse=True):
        try:
            is_current = json.loads((folder / "pack.json").read_text())["version"] == _VERSION
            num_bytes = (folder / "rows.bin").stat().st_size
            if folder.name.startswith(prefix) and is_current and num_bytes and num_bytes % size == 0:
                yield np.memmap(folder / "rows.bin", dtype, "r")
        except (OSError, ValueError, KeyError, TypeError):
            continue  # damaged, or being removed by another process


def _key(hashes: Sequence[str], preprocess: Preprocess) -> str:
    key = hashlib.sha256(f"{preprocess.pixel_key()} Pillow {PIL.__version__}\n".encode())
    key.update("\n".join(hashes).encode())
    return key.hexdigest()


def _opened(
    folder: Path, num_images: int, row_shape: tuple[int, ...], dtype: DTypeLike
) -> tuple[NDArray[Any], dict[int, str]] | None:
    """The pack, if it is whole; opening it makes it the most recently used."""
    try:
        facts = json.loads((folder / "pack.json").read_text())
        reasons = {int(i): str(reason) for i, reason in facts["broken"].items()}
        shape = (num_images - len(reasons), *row_shape)
        num_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        if facts["version"] != _VERSION or (folder / "rows.bin").stat().st_size != num_bytes:
            return None
        # "c": changes stay in this process' memory; torch wants arrays that it may write to.
        rows = np.memmap(folder / "rows.bin", dtype, "c", shape=shape) if shape[0] else np.empty(shape, dtype)
        os.utime(folder / "pack.json")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return rows, reasons


def _build(folder: Path, wanted: int, rows: Iterator[NDArray[Any] | str]) -> None:
    """Write the rows one after another: a full disk is then an error, where a memory map would kill the process."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    remove_directory(temporary)  # what a killed process left; we hold its lock
    broken: dict[int, str] = {}
    try:
        temporary.mkdir(parents=True)
        with (temporary / "rows.bin").open("wb") as file:
            for i, row in enumerate(rows):
                if isinstance(row, str):
                    broken[i] = row
                else:
                    file.write(row.data)
        write_json(temporary / "pack.json", {"version": _VERSION, "broken": broken})
        replace_directory(temporary, folder)
    except OSError as error:
        raise _no_room(wanted, error.strerror) from error
    finally:
        remove_directory(temporary)


def _rows(images: Images, preprocess: Preprocess, progress: Progress) -> Iterator[Pixels | str]:
    """The pixels of each image, or the reason why there are none."""

    def row(i: int) -> Pixels | str:
        try:
            return np.ascontiguousarray(images.pixels(i, preprocess))
        except DecodeError as error:
            return str(error)

    return map_images(row, len(images), title="decoding", progress=progress)


def _make_room(wanted: int) -> None:
    """Remove the least recently used packs until ``wanted`` more bytes keep to the limit; then ask the disk for them.

    Raises:
        MachineError: the disk has not enough room.
    """
    packs = sorted(_packs(), key=_last_used)
    excess = sum(map(_num_bytes, packs)) + wanted - _limit_bytes()
    for folder in packs:
        if excess > 0:
            excess -= _remove_if_free(folder)
    if (free := shutil.disk_usage(cache_root()).free) < wanted:
        raise _no_room(wanted, f"{free // _MIB:,} MiB are free")


def _no_room(wanted: int, reason: str | None) -> MachineError:
    return MachineError(
        f"what is kept of the images needs {-(-wanted // _MIB):,} MiB in {cache_root()}, but: {reason}. "
        "Free some space, or set VITREOUS_CACHE to a folder on another disk."
    )


def _limit_bytes() -> int:
    text = os.environ.get("VITREOUS_CACHE_LIMIT_MIB", "20480")
    if not text.isdecimal():
        raise ConfigError(f"VITREOUS_CACHE_LIMIT_MIB={text!r} must be a whole number of MiB.")
    return int(text) * _MIB


def _locked(folder: Path, wait_seconds: float = -1) -> AbstractContextManager[None]:
    key = folder.name.removeprefix(".").removesuffix(".tmp")
    return lock(cache_root() / "locks" / f"{key}.lock", wait_seconds=wait_seconds)


def _packs() -> list[Path]:
    """The packs, whole ones and what killed processes left of others (.KEY.tmp)."""
    folder = cache_root() / "packs"
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def _remove_if_free(folder: Path) -> int:
    """Remove a pack unless another process holds it; returns the bytes freed."""
    num_bytes = _num_bytes(folder)
    try:
        with _locked(folder, wait_seconds=0):
            remove_directory(folder)
    except MachineError:
        return 0
    return num_bytes


def _num_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*"))


def _last_used(folder: Path) -> float:
    try:
        return (folder / "pack.json").stat().st_mtime
    except OSError:
        return 0.0

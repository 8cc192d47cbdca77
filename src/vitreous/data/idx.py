"""DATA as a folder of IDX files, MNIST's format (yann.lecun.com/exdb/mnist), gzipped or not."""

import gzip
import math
import re
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from vitreous.data.arrays import check_unpacked, open_arrays
from vitreous.data.decode import Pixels
from vitreous.data.images import Source
from vitreous.errors import DataError
from vitreous.wording import printable

_NAME = re.compile(r"(train|t10k|test)-(images|labels)[-.]idx[13]-ubyte(\.gz)?")
_TYPES = {0x08: "uint8", 0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}


def has_idx_files(folder: Path) -> bool:
    """Whether a folder holds files named as MNIST's are."""
    return any(_NAME.fullmatch(path.name) for path in folder.iterdir())


def open_idx(folder: Path, *, classes: Sequence[str] | None = None, origin: str = "", kind: str = "idx") -> Source:
    """Labelled images from train-images-idx3-ubyte, train-labels-idx1-ubyte and, if there, t10k-...

    Raises:
        DataError: a file is missing, cut short, or holds something else.
    """
    # A plain file goes before its gzipped twin.
    found = {match.group(1, 2): path for path in sorted(folder.iterdir(), reverse=True) if (match := _match(path))}
    parts = {}
    for part, prefix in (("train", "train"), ("test", "t10k"), ("test", "test")):
        images, labels = found.get((prefix, "images")), found.get((prefix, "labels"))
        if images and labels:
            parts[part] = (read_idx(images, num_axes=3), read_idx(labels, num_axes=1))
        elif images or labels or part == "train":
            what = "labels" if images else "images"
            raise DataError(
                f"{folder} has no {prefix}-{what}-idx{3 if what == 'images' else 1}-ubyte (or .gz); add it."
            )
    return open_arrays(origin or printable(str(folder)), kind, parts, classes)


def _match(path: Path) -> re.Match[str] | None:
    return _NAME.fullmatch(path.name)


def read_idx(path: Path, num_axes: int) -> Pixels:
    """The uint8 array of an IDX file.

    Raises:
        DataError: no IDX file, another type or number of axes, or bytes missing or left over.
    """
    if not path.is_file():  # opening a pipe would wait for ever
        raise DataError(f"{path} is not a regular file.")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            shape = _read_header(file, path, num_axes)
            wanted = math.prod(shape)
            if path.suffix == ".gz":
                check_unpacked(str(path), path.stat().st_size, wanted)
            data = _read_at_most(file, wanted + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is cut short or damaged: {error}.") from None
    except struct.error:
        raise DataError(f"{path} is cut short: its header is not whole.") from None
    if len(data) != wanted:
        raise DataError(
            f"{path} is cut short: {len(data):,} of {wanted:,} bytes."
            if len(data) < wanted
            else f"{path} goes on after the {wanted:,} bytes that its header names; it is damaged."
        )
    return np.frombuffer(data, np.uint8).reshape(shape)


def _read_at_most(file: IO[bytes] | gzip.GzipFile, num_bytes: int) -> bytes:
    """Piece by piece, so that a header that lies about its size costs no memory."""
    data = bytearray()
    while piece := file.read(min(num_bytes - len(data), 1 << 24)):
        data += piece
    return bytes(data)


def _read_header(file: IO[bytes] | gzip.GzipFile, path: Path, num_axes: int) -> tuple[int, ...]:
    zeros, type_code, axes = struct.unpack(">HBB", file.read(4))
    if zeros != 0 or type_code not in _TYPES:
        raise DataError(
            f"{path} is not an IDX file; its first bytes are {zeros >> 8}, {zeros & 255}, {type_code}, {axes}."
        )
    if _TYPES[type_code] != "uint8":
        raise DataError(f"{path} holds {_TYPES[type_code]}; uint8 (0 to 255) is wanted.")
    if axes != num_axes:
        raise DataError(f"{path} has {axes} axes; {num_axes} are wanted.")
    return struct.unpack(f">{axes}I", file.read(4 * axes))

"""DATA as an .npz file. Arrays of Python objects are refused, never unpickled."""

import dataclasses
import io
import textwrap
import zipfile
from pathlib import Path

import numpy as np

from vitreous.data.arrays import Array, check_unpacked, open_arrays
from vitreous.data.images import Source
from vitreous.data.split import split_word
from vitreous.errors import DataError
from vitreous.wording import listed, printable

# Where the parts of a set lie: Keras' names, then MedMNIST's.
_PARTS = {
    "train": (("x_train", "y_train"), ("train_images", "train_labels")),
    "val": (("x_val", "y_val"), ("val_images", "val_labels")),
    "test": (("x_test", "y_test"), ("test_images", "test_labels")),
}
_KNOWN = {"images", "labels", "classes", "split"} | {key for pairs in _PARTS.values() for pair in pairs for key in pair}


def open_npz(file: Path | bytes, origin: str, kind: str = "npz") -> Source:
    """Labelled images from images, labels [, classes, split], or from x_train, y_train [, x_test, y_test].

    Raises:
        DataError: not a whole .npz file, arrays of another name or kind, or arrays of Python objects.
    """
    arrays = _read(file, origin)
    classes = [str(name) for name in arrays["classes"].ravel()] if "classes" in arrays else None
    if {"images", "labels"} <= arrays.keys():
        source = open_arrays(origin, kind, {"": (arrays["images"], arrays["labels"])}, classes)
        return dataclasses.replace(source, splits=_splits(arrays["split"], source)) if "split" in arrays else source
    parts = {
        part: (arrays[images], arrays[labels])
        for part, pairs in _PARTS.items()
        for images, labels in pairs
        if images in arrays and labels in arrays
    }
    if not parts:
        raise DataError(
            f"{origin} holds {listed(sorted(arrays)) or 'no array of a known name'}; images and labels are wanted."
        )
    return open_arrays(origin, kind, parts, classes)


def _read(file: Path | bytes, origin: str) -> dict[str, Array]:
    """The arrays that we know by name."""
    try:
        with zipfile.ZipFile(io.BytesIO(file) if isinstance(file, bytes) else file) as archive:
            members = {key: f"{key}.npy" for key in sorted(_KNOWN) if f"{key}.npy" in archive.namelist()}
            unpacked = sum(archive.getinfo(name).file_size for name in members.values())
            check_unpacked(origin, len(file) if isinstance(file, bytes) else file.stat().st_size, unpacked)
            return {key: _member(archive, name) for key, name in members.items()}
    except DataError:
        raise
    except MemoryError:  # also where the header of an array claims, or nests, more than there is
        raise DataError(f"{origin} is damaged, or its arrays do not fit into the memory.") from None
    except Exception as error:  # NumPy, zipfile and the unpackers raise whatever the bytes provoke
        if isinstance(error, OSError) and error.errno is not None:
            raise
        if "Object arrays" in str(error):
            raise DataError(f"{origin} holds Python objects, which could run code; save plain arrays only.") from None
        raise DataError(f"{origin} is not a whole .npz file: it is cut short or damaged ({_told(error)}).") from None


def _told(error: Exception) -> str:
    """The first words of an error, which may quote the file at length."""
    words = " ".join(str(error).split())
    return printable(textwrap.shorten(words, 100, placeholder=" ...") if words else type(error).__name__)


def _member(archive: zipfile.ZipFile, name: str) -> Array:
    with archive.open(name) as member:
        array = np.lib.format.read_array(member, allow_pickle=False)
        if member.read(1):  # reading up to the end also compares the checksum
            raise zipfile.BadZipFile(f"{name} goes on after its array")
        return array


def _splits(values: Array, source: Source) -> Array:
    if values.shape != source.labels.shape:
        raise DataError(f"{source.origin}: split has shape {values.shape}, the labels {source.labels.shape}.")
    words, inverse = np.unique(values.astype(str), return_inverse=True)
    parts = [split_word(str(word)) for word in words]
    if None in parts:
        raise DataError(f"{source.origin}: split holds {listed(list(words))}; train, val, test are wanted.")
    return np.array(parts)[inverse]

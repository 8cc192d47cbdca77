"""Labelled arrays as a source: what .npz files, IDX folders and the built-in sets have in common."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vitreous.data.images import ArrayImages, Source, index_labels
from vitreous.errors import DataError

Array: TypeAlias = npt.NDArray[Any]

_FREELY_UNPACKED = 256 << 20  # bytes
_MOST_TIMES = 100  # real pictures pack to a half or a tenth; deflate can do a thousand


def open_arrays(
    origin: str, kind: str, parts: Mapping[str, tuple[Array, Array]], classes: Sequence[str] | None = None
) -> Source:
    """Labelled images from (images, labels) by part.

    Args:
        parts: by "train", "val", "test"; or all under "", which says nothing about parts.
        classes: the names that the labels index; without them, each distinct label names its own class.

    Raises:
        DataError: images that are not uint8, labels that do not fit, or another number of the one than of the other.
    """
    pairs = list(parts.values())
    for images, labels in pairs:
        if images.ndim < 3 or labels.ndim < 1 or len(images) != len(labels):
            raise DataError(f"{origin}: images {images.shape} and labels {labels.shape} do not belong together.")
    if len({(images.shape[1:], images.dtype) for images, _ in pairs}) > 1:
        shapes = ", ".join(f"{part} {images.dtype} {images.shape}" for part, (images, _) in parts.items())
        raise DataError(f"{origin}: the images of the parts differ: {shapes}.")
    counts = [len(labels) for _, labels in pairs]
    try:
        together = ArrayImages(
            np.concatenate([images for images, _ in pairs]),
            [f"{part or 'image'}/{i:05d}" for part, count in zip(parts, counts, strict=True) for i in range(count)],
        )
        names, indices = index_labels(np.concatenate([labels for _, labels in pairs]), classes)
    except DataError as error:
        raise DataError(f"{origin}: {error}") from None
    splits = None if "" in parts else np.repeat(list(parts), counts)
    return Source(origin=origin, kind=kind, classes=names, labels=indices, splits=splits, images=together)


def check_unpacked(origin: str, packed: int, unpacked: int) -> None:
    """Refuse a file that would fill the memory: large, and packed as pictures never are.

    Args:
        packed: bytes of the file.
        unpacked: bytes that it says it holds.

    Raises:
        DataError: it is such a file.
    """
    if unpacked > max(_FREELY_UNPACKED, _MOST_TIMES * packed):
        raise DataError(
            f"{origin} has {packed:,} bytes and would unpack to {unpacked:,}; if that is meant, save it uncompressed."
        )

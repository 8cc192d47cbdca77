"""What every kind of DATA becomes: images, and a source of labelled ones."""

import dataclasses
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from vitreous.data.decode import ImageFacts, Pixels, inspect
from vitreous.data.preprocess import Preprocess
from vitreous.errors import DataError
from vitreous.wording import listed


class Images(Protocol):
    """Images by index, wherever they lie."""

    def __len__(self) -> int: ...

    def name(self, i: int) -> str:
        """What the user calls image i: its path inside DATA, or its place in an array."""

    def content(self, i: int) -> bytes:
        """The bytes that make image i what it is, for hashing.

        Raises:
            OSError: the file cannot be read.
        """

    def facts(self, i: int) -> ImageFacts:
        """Size and colour of image i, from its header.

        Raises:
            DecodeError: the reason, without the name.
        """

    def pixels(self, i: int, preprocess: Preprocess) -> Pixels:
        """Image i as the network sees it.

        Raises:
            DecodeError: the reason, without the name.
        """

    def encoded(self, i: int) -> bytes:
        """Image i as the bytes of an image file: the original one, or a PNG made from an array."""

    def ready(self, preprocess: Preprocess) -> Pixels | None:
        """All pixels at once, where they already have the shape that ``preprocess`` gives; else None."""

    def select(self, indices: Sequence[int]) -> "Images":
        """Some of the images, in this order."""


class FileImages:
    """Images in files, which are only ever read."""

    def __init__(self, paths: Sequence[Path], names: Sequence[str]) -> None:
        self.paths, self.names = paths, names

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, i: int) -> str:
        return self.names[i]

    def content(self, i: int) -> bytes:
        return self.paths[i].read_bytes()

    def facts(self, i: int) -> ImageFacts:
        return inspect(self.paths[i])

    def pixels(self, i: int, preprocess: Preprocess) -> Pixels:
        return preprocess.pixels(self.paths[i])

    def encoded(self, i: int) -> bytes:
        return self.paths[i].read_bytes()

    def ready(self, preprocess: Preprocess) -> Pixels | None:
        return None

    def select(self, indices: Sequence[int]) -> "FileImages":
        return FileImages([self.paths[i] for i in indices], [self.names[i] for i in indices])


class ArrayImages:
    """Images of one size in an array, uint8 (N, H, W), (N, H, W, 1) or (N, H, W, 3).

    Raises:
        DataError: an array of another kind.
    """

    def __init__(self, array: npt.NDArray[np.generic], names: Sequence[str]) -> None:
        if array.dtype != np.uint8:
            raise DataError(f"the images are {array.dtype}; uint8 (0 to 255) is wanted.")
        if array.ndim == 3:
            array = array[..., None]
        if array.ndim != 4 or array.shape[3] not in (1, 3) or 0 in array.shape[1:]:
            raise DataError(f"the images have shape {array.shape}; N,H,W or N,H,W,1 or N,H,W,3 is wanted.")
        self.array: Pixels = np.ascontiguousarray(array, dtype=np.uint8)
        self.names = names
        self._shape_bytes = repr(self.array.shape[1:]).encode()

    def __len__(self) -> int:
        return len(self.array)

    def name(self, i: int) -> str:
        return self.names[i]

    def content(self, i: int) -> bytes:
        return b"".join((self._shape_bytes, self.array[i]))

    def facts(self, i: int) -> ImageFacts:
        _, height, width, channels = self.array.shape
        return ImageFacts(height, width, channels == 1)

    def pixels(self, i: int, preprocess: Preprocess) -> Pixels:
        return preprocess.pixels(self.array[i])

    def encoded(self, i: int) -> bytes:
        pixels = self.array[i]
        file = io.BytesIO()
        Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG")
        return file.getvalue()

    def ready(self, preprocess: Preprocess) -> Pixels | None:
        return self.array if self.array.shape[1:] == preprocess.shape else None

    def select(self, indices: Sequence[int]) -> "ArrayImages":
        return ArrayImages(self.array[list(indices)], [self.names[i] for i in indices])


@dataclass(frozen=True, slots=True)
class BrokenImage:
    """An image that cannot be read, and why."""

    index: int
    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """Labelled images as the user has them; nothing is decoded yet.

    ``labels`` (N) index ``classes``; ``splits`` (N) holds "train", "val" or "test", or is None where DATA says nothing
    about parts; ``columns`` are what else a table says of each image; ``groups`` (N) is what the user keeps together
    ("" for nothing), or None; ``excluded`` are images that the user left out; ``remarks`` are worth saying.

    Raises:
        DataError: no image at all.
    """

    origin: str
    kind: str
    classes: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    splits: npt.NDArray[np.str_] | None
    images: Images
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    groups: tuple[str, ...] | None = None
    excluded: "Source | None" = None
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.images):
            raise DataError(f"{self.origin} holds no images; put those of each class into a folder of their own.")

    def select(self, rows: Sequence[int]) -> "Source":
        """Some of the images, in this order."""
        return dataclasses.replace(
            self,
            labels=self.labels[list(rows)],
            splits=None if self.splits is None else self.splits[list(rows)],
            images=self.images.select(rows),
            columns={name: tuple(values[i] for i in rows) for name, values in self.columns.items()},
            groups=None if self.groups is None else tuple(self.groups[i] for i in rows),
        )

    def check_trainable(self) -> None:
        """Two classes or more, the same in every given part, and no file in two of them.

        Raises:
            DataError: what is wrong.
        """
        if len(self.classes) < 2:
            raise DataError(
                f"{self.origin} holds one class only ({listed(self.classes)}); a classifier needs two or more."
            )
        if empty := [self.classes[c] for c in self._absent(self.labels)]:
            raise DataError(f"{self.origin}: no image of {listed(empty)}; add some, or take the class away.")
        if self.splits is None:
            return
        if "train" not in self.splits:
            raise DataError(f"{self.origin} has no train part, only {listed(sorted(set(self.splits)))}.")
        for part, missing in self.missing_classes().items():
            other, way = "train", "; or train without that part, and score it with `vitreous evaluate RUN DATA`"
            if part == "train":
                other, way = "val or test", ""
            raise DataError(
                f"{self.origin}: {part} has no image of {listed(missing)}, but {other} has; add some or remove it{way}."
            )
        if shared := self.files_in_two_parts():
            raise DataError(
                f"{self.origin}: {len(shared)} files stand in two parts, so that part of the score would be for what "
                f"was learned by heart: {listed([f'{a} = {b}' for a, b in shared])}; remove them from one."
            )

    def missing_classes(self) -> dict[str, list[str]]:
        """The classes that a given part has no image of, train first; parts that have all are absent."""
        if self.splits is None:
            return {}
        parts = [part for part in ("train", "val", "test") if part in self.splits]
        missing = {part: [self.classes[c] for c in self._absent(self.labels[self.splits == part])] for part in parts}
        return {part: names for part, names in missing.items() if names}

    def files_in_two_parts(self) -> list[tuple[str, str]]:
        """Files that stand in two of the given parts, as a path or a link; the two names of each."""
        if self.splits is None or not isinstance(self.images, FileImages):
            return []
        first: dict[object, int] = {}
        pairs = []
        for i, path in enumerate(self.images.paths):
            earlier = first.setdefault(_identity(path), i)
            if self.splits[earlier] != self.splits[i]:
                pairs.append((self.images.name(earlier), self.images.name(i)))
        return pairs

    def _absent(self, labels: npt.NDArray[np.int64]) -> list[int]:
        counts = np.bincount(labels, minlength=len(self.classes))
        return [int(c) for c in np.flatnonzero(counts == 0)]


def _identity(path: Path) -> object:
    """Equal for two paths to one file, be it by a symbolic or a hard link."""
    try:
        facts = path.stat()
    except OSError:  # decoding it will give the reason
        return path
    return (facts.st_dev, facts.st_ino) if facts.st_ino else path.resolve()


def index_labels(
    values: npt.NDArray[np.generic], classes: Sequence[str] | None = None
) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """Class names and the index of each label, from strings or whole numbers.

    Args:
        classes: the names that whole-number labels index; without them, each distinct label names its own class.

    Raises:
        DataError: labels of another kind, or outside of ``classes``.

    >>> index_labels(np.array([7, 1, 10, 7]))
    (('1', '7', '10'), array([1, 0, 2, 1]))
    """
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or values.dtype.kind not in "uiU":
        raise DataError(f"the labels are {values.dtype} {values.shape}; N whole numbers or names are wanted.")
    if classes is not None and values.dtype.kind != "U":
        labels = values.astype(np.int64)
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(classes):
            raise DataError(f"labels from {labels.min()} to {labels.max()} do not index {len(classes)} classes.")
        return tuple(classes), labels
    names, inverse = np.unique(values.astype(str), return_inverse=True)
    found = sort_classes(classes if classes is not None else [str(name) for name in names])
    rank = {name: label for label, name in enumerate(found)}
    if strangers := [str(name) for name in names if str(name) not in rank]:
        raise DataError(f"labels that are not among the classes: {listed(strangers)}.")
    return found, np.array([rank[str(name)] for name in names], dtype=np.int64)[inverse]


def sort_classes(names: Iterable[str]) -> tuple[str, ...]:
    """By number where all are whole numbers, else by name.

    >>> sort_classes(["10", "9"]), sort_classes(["b", "a", "10"])
    (('9', '10'), ('10', 'a', 'b'))
    """
    names = list(names)
    if all(name.isascii() and name.isdigit() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))

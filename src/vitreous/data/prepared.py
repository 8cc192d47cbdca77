"""From a source to what training and evaluation take: hashes, pixels, parts, statistics."""

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from vitreous.data.cache import pack
from vitreous.data.decode import ImageFacts, Pixels
from vitreous.data.images import BrokenImage, Images, Source, listed, printable
from vitreous.data.preprocess import Preprocess
from vitreous.data.split import assign_splits
from vitreous.data.threads import map_images
from vitreous.errors import DataError, DecodeError
from vitreous.progress import SILENT, Progress

PARTS = ("train", "val", "test")

_MOST_LISTED = 20
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Labelled pixels in their parts; row i of everything speaks of the same image.

    ``pixels`` is uint8 (N, H, W, C), perhaps a read-only memory map; ``labels`` (N) index ``classes``; ``splits`` (N)
    holds "train", "val" or "test"; ``images`` has the originals; ``broken`` tells which images of the source were left
    out (their index counts in the source).
    """

    origin: str
    kind: str
    classes: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    splits: npt.NDArray[np.str_]
    names: tuple[str, ...]
    hashes: tuple[str, ...]
    pixels: Pixels
    preprocess: Preprocess
    images: Images
    broken: tuple[BrokenImage, ...]
    remarks: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def indices(self, split: str) -> npt.NDArray[np.int64]:
        """The rows of one part, in order."""
        return np.flatnonzero(self.splits == split)

    def counts(self) -> dict[str, dict[str, int]]:
        """Images by part and class; parts without images are absent."""
        counts = {part: np.bincount(self.labels[self.indices(part)], minlength=len(self.classes)) for part in PARTS}
        return {
            part: dict(zip(self.classes, of_class.tolist(), strict=True))
            for part, of_class in counts.items()
            if of_class.any()
        }

    @cached_property
    def fingerprint(self) -> str:
        """A SHA-256 of which contents stand in which class and part, whatever their names and order."""
        lines = sorted(
            f"{content} {split} {self.classes[label]}"
            for content, split, label in zip(self.hashes, self.splits, self.labels, strict=True)
        )
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def hash_contents(images: Images, progress: Progress = SILENT) -> list[str]:
    """The SHA-256 of each image's content: its file's bytes, or its shape and pixels; "" where it cannot be read."""

    def content_hash(i: int) -> str:
        try:
            return hashlib.sha256(images.content(i)).hexdigest()
        except OSError:  # decoding it will give the reason
            return ""

    return list(map_images(content_hash, len(images), title="reading", progress=progress))


def scan(images: Images, progress: Progress = SILENT) -> list[ImageFacts | BrokenImage]:
    """The header of each image, or why it cannot be read; a picture behind a good header may still be cut short."""

    def look(i: int) -> ImageFacts | BrokenImage:
        try:
            return images.facts(i)
        except DecodeError as error:
            return BrokenImage(i, images.name(i), str(error))

    return list(map_images(look, len(images), title="looking", progress=progress))


def refuse_broken(broken: Sequence[BrokenImage], num_images: int) -> None:
    """Do nothing if ``broken`` is empty.

    Raises:
        DataError: the images that cannot be read, by name and reason.
    """
    if not broken:
        return
    lines = [f"  {printable(image.name)}: {image.reason}" for image in broken[:_MOST_LISTED]]
    if len(broken) > _MOST_LISTED:
        lines.append(f"  ... and {len(broken) - _MOST_LISTED} more")
    raise DataError(
        f"{len(broken)} of {num_images} images cannot be read; use --skip-broken to leave them out:\n"
        + "\n".join(lines)
    )


def prepare(
    source: Source,
    *,
    preprocess: Preprocess,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    skip_broken: bool = False,
    progress: Progress = SILENT,
) -> ImageSet:
    """All that training takes; the mean and standard deviation are measured on the training part.

    Raises:
        DataError: images that cannot be read (unless ``skip_broken``), or a class that is left without images.
        MachineError: no room for the cache.
    """
    source, hashes, pixels, broken = _read(source, preprocess, skip_broken, progress)
    source.check_trainable()
    splits = assign_splits(
        hashes,
        source.labels,
        len(source.classes),
        source.splits,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        seed=seed,
    )
    measured = preprocess.with_statistics(*measure_channels(pixels, np.flatnonzero(splits == "train")))
    image_set = _image_set(source, splits, hashes, pixels, measured, broken)
    return dataclasses.replace(image_set, remarks=(*image_set.remarks, *_remarks_on_parts(image_set)))


def prepare_as(
    source: Source, preprocess: Preprocess, *, skip_broken: bool = False, progress: Progress = SILENT
) -> ImageSet:
    """The images as an existing network wants them; they are all "test" unless the source has parts.

    Raises:
        DataError: images that cannot be read (unless ``skip_broken``).
        MachineError: no room for the cache.
    """
    source, hashes, pixels, broken = _read(source, preprocess, skip_broken, progress)
    splits = np.full(len(hashes), "test") if source.splits is None else source.splits
    return _image_set(source, splits, hashes, pixels, preprocess, broken)


def measure_channels(pixels: Pixels, rows: npt.NDArray[np.int64]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel over these rows, on the 0..1 scale, from exact integer sums.

    A standard deviation below one level (1/255) is given as one level, so that dividing by it never explodes.

    >>> measure_channels(np.array([0, 255], np.uint8).reshape(2, 1, 1, 1), np.array([0, 1]))
    ([0.5], [0.5])
    """
    num_channels = pixels.shape[3]
    sums, squares = np.zeros(num_channels, np.int64), np.zeros(num_channels, np.int64)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        levels = pixels[rows[start : start + _ROWS_AT_ONCE]].reshape(-1, num_channels)
        sums += levels.sum(axis=0, dtype=np.int64)
        squares += np.square(levels, dtype=np.uint16).sum(axis=0, dtype=np.int64)
    num = len(rows) * pixels.shape[1] * pixels.shape[2]
    totals = [(int(s), int(q)) for s, q in zip(sums, squares, strict=True)]
    means = [s / (255 * num) for s, _ in totals]
    stds = [max(math.sqrt(num * q - s * s) / (255 * num), 1 / 255) for s, q in totals]
    return means, stds


def _read(
    source: Source, preprocess: Preprocess, skip_broken: bool, progress: Progress
) -> tuple[Source, list[str], Pixels, tuple[BrokenImage, ...]]:
    """The source without its broken images, the hashes and pixels of the others, and the broken ones."""
    hashes = hash_contents(source.images, progress)
    packed = pack(source.images, hashes, preprocess, progress)
    if not packed.broken:
        return source, hashes, packed.pixels, ()
    if not skip_broken:
        refuse_broken(packed.broken, len(hashes))
    lost = {image.index for image in packed.broken}
    kept = [i for i in range(len(hashes)) if i not in lost]
    remark = f"left out {len(lost)} images that cannot be read: {listed([image.name for image in packed.broken])}"
    whole = dataclasses.replace(
        source,
        labels=source.labels[kept],
        splits=None if source.splits is None else source.splits[kept],
        images=source.images.select(kept),
        remarks=(*source.remarks, remark),
    )
    return whole, [hashes[i] for i in kept], packed.pixels, packed.broken


def _image_set(
    source: Source,
    splits: npt.NDArray[np.str_],
    hashes: Sequence[str],
    pixels: Pixels,
    preprocess: Preprocess,
    broken: tuple[BrokenImage, ...],
) -> ImageSet:
    return ImageSet(
        origin=source.origin,
        kind=source.kind,
        classes=source.classes,
        labels=source.labels,
        splits=splits,
        names=tuple(source.images.name(i) for i in range(len(hashes))),
        hashes=tuple(hashes),
        pixels=pixels,
        preprocess=preprocess,
        images=source.images,
        broken=broken,
        remarks=source.remarks,
    )


def _remarks_on_parts(images: ImageSet) -> list[str]:
    """What may make a score say less than it seems to."""
    counts = images.counts()
    remarks = [f"there is no {part} part" for part in PARTS if part not in counts]
    trained_on = {images.hashes[i] for i in images.indices("train")}
    for part in [part for part in ("val", "test") if part in counts]:
        if absent := [name for name, count in counts[part].items() if not count]:
            remarks.append(f"{part} has no image of {listed(absent)}")
        if copies := sum(images.hashes[i] in trained_on for i in images.indices(part)):
            remarks.append(f"{copies} images of {part} are also in train, byte for byte")
    return remarks

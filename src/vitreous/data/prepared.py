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
from vitreous.data.duplicates import duplicate_groups
from vitreous.data.images import BrokenImage, Images, Source
from vitreous.data.preprocess import Preprocess
from vitreous.data.split import assign_folds, assign_splits, calibrates, join_images
from vitreous.data.threads import map_images
from vitreous.errors import DataError, DecodeError
from vitreous.progress import SILENT, Progress
from vitreous.wording import listed, printable

PARTS = ("train", "val", "test")
LEAST_CALIBRATING = 19  # images without which no conformal set has a coverage of 95 %

_MOST_LISTED = 20
_PIXELS_AT_ONCE = 1 << 16  # that a processor's cache holds


@dataclass(frozen=True, slots=True)
class ExcludedImage:
    """An image that the user left out; its hash is "" where it cannot be read."""

    content_hash: str
    name: str
    label: str


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Labelled pixels in their parts; row i of everything speaks of the same image.

    ``pixels`` is uint8 (N, H, W, C), perhaps a read-only memory map; ``labels`` (N) index ``classes``; ``splits`` (N)
    holds "train", "val" or "test", or "unused"; ``images`` has the originals; ``broken`` tells which images of the
    source were left out (their index counts in the source), ``excluded`` which were never looked at, since the user
    did not want them.

    ``duplicate_of`` (N) holds equal numbers for images that show the same picture, ``groups`` (N) what the user keeps
    together ("" for nothing); ``given`` (N) are the parts that the source itself names, or None; ``known`` are the
    content hashes that the network had seen before it met these images.
    """

    origin: str
    kind: str
    classes: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    splits: npt.NDArray[np.str_]
    names: tuple[str, ...]
    hashes: tuple[str, ...]
    duplicate_of: npt.NDArray[np.int64]
    groups: tuple[str, ...]
    given: npt.NDArray[np.str_] | None
    pixels: Pixels
    preprocess: Preprocess
    images: Images
    broken: tuple[BrokenImage, ...]
    remarks: tuple[str, ...]
    excluded: tuple[ExcludedImage, ...] = ()
    known: frozenset[str] = frozenset()

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
    def keys(self) -> tuple[str, ...]:
        """Equal for images that stand on one side: of one picture, or of one group, directly or through others."""
        return join_images(self.hashes, self.duplicate_of, self.groups)

    @cached_property
    def leaked(self) -> npt.NDArray[np.bool_]:
        """True (N) for what is scored though the network saw it: its picture, or its group, also stands in train.

        For a test image val counts too, since it chooses the epoch. Our own parts have none; given ones may. What is
        ``known`` leaks as well.
        """
        leaked = np.array([content in self.known for content in self.hashes], dtype=bool)
        leaked &= np.isin(self.splits, ("val", "test"))
        for part, learned_from in (("val", ["train"]), ("test", ["train", "val"])):
            here, there = self.indices(part), np.flatnonzero(np.isin(self.splits, learned_from))
            groups = {self.groups[i] for i in there} - {""}
            leaked[here] |= np.isin(self.duplicate_of[here], self.duplicate_of[there])
            leaked[here] |= np.array([self.groups[i] in groups for i in here], dtype=bool)
        return leaked

    @cached_property
    def calibrating(self) -> npt.NDArray[np.int64]:
        """The half of val, by hash, that the choice of the epoch never sees; empty where either half would be small.

        An image that is also in train calibrates nothing.
        """
        val = self.indices("val")
        is_kept = np.array([calibrates(self.keys[i]) for i in val], dtype=bool) & ~self.leaked[val]
        is_enough = min(is_kept.sum(), (~is_kept).sum()) >= LEAST_CALIBRATING
        return val[is_kept] if is_enough else val[:0]

    @cached_property
    def selecting(self) -> npt.NDArray[np.int64]:
        """The rest of val: it chooses the epoch, and when to stop."""
        return np.setdiff1d(self.indices("val"), self.calibrating)

    @cached_property
    def fingerprint(self) -> str:
        """A SHA-256 of which contents stand in which class and part, whatever their names and order."""
        lines = sorted(
            f"{content} {split} {self.classes[label]}"
            for content, split, label in zip(self.hashes, self.splits, self.labels, strict=True)
            if split in PARTS
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
    hashes: Sequence[str] | None = None,
    near_duplicates: bool = True,
    skip_broken: bool = False,
    progress: Progress = SILENT,
) -> ImageSet:
    """All that training takes; the mean and standard deviation are measured on the training part.

    Args:
        hashes: the content hash of each image, where it is known.
        near_duplicates: keep images that look the same on one side, not only those of equal content.

    Raises:
        DataError: images that cannot be read (unless ``skip_broken``), or a class that is left without images.
        MachineError: no room for the cache.
    """
    hashes = hashes or hash_contents(source.images, progress)
    source, hashes, pixels, broken = _read(source, hashes, preprocess, skip_broken, progress)
    source.check_trainable()
    duplicate_of = duplicate_groups(source.images, hashes, progress) if near_duplicates else number_equal(hashes)
    whole = _image_set(source, hashes, duplicate_of, pixels, preprocess, broken)
    splits = assign_splits(
        whole.keys,
        whole.labels,
        len(whole.classes),
        whole.given,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        seed=seed,
    )
    images = _with_parts(whole, splits)
    return dataclasses.replace(images, remarks=(*images.remarks, *_remarks_on_parts(images)))


def number_folds(images: ImageSet, num_folds: int, seed: int) -> npt.NDArray[np.int64]:
    """The fold, 1 .. ``num_folds``, that tests each image (N); 0 for the test part that the user gave.

    Raises:
        DataError: there are too few pictures or groups, of all or of a class.
    """
    pool = np.arange(len(images)) if images.given is None else np.flatnonzero(images.given != "test")
    keys, labels = [images.keys[i] for i in pool], images.labels[pool]
    folds = np.zeros(len(images), dtype=np.int64)
    folds[pool] = assign_folds(keys, labels, num_folds, seed)
    for label, name in enumerate(images.classes):
        if len(np.unique(folds[pool][labels == label])) < 2:
            raise DataError(
                f"{images.origin}: all images of {printable(name)} are one picture or one group, so that a fold would "
                "train on none of them; a cross-validation needs two or more of each class."
            )
    return folds


def fold_of(images: ImageSet, folds: npt.NDArray[np.int64], fold: int, *, val_fraction: float, seed: int) -> ImageSet:
    """The same images with one fold as test and val cut from the other folds; what stands in none is "unused".

    The mean and standard deviation are those of what is left to train on.
    """
    return _with_parts(images, fold_splits(images, folds, fold, val_fraction=val_fraction, seed=seed))


def fold_splits(
    images: ImageSet, folds: npt.NDArray[np.int64], fold: int, *, val_fraction: float, seed: int
) -> npt.NDArray[np.str_]:
    """The parts (N) where one of the ``folds`` that ``number_folds`` gave is the test part.

    Raises:
        DataError: nothing is left to choose the best epoch on.
    """
    pool = np.flatnonzero(folds > 0)
    splits = np.full(len(images), "unused")
    splits[pool] = assign_splits(
        [images.keys[i] for i in pool],
        images.labels[pool],
        len(images.classes),
        np.where(folds[pool] == fold, "test", "train"),
        val_fraction=val_fraction,
        test_fraction=0.0,
        seed=seed,
    )
    if "val" not in splits:
        raise DataError(
            f"{images.origin}: fold {fold} would leave no image to choose the best epoch on; ask for more folds, "
            "or give more pictures or groups of each class."
        )
    return splits


def _with_parts(images: ImageSet, splits: npt.NDArray[np.str_]) -> ImageSet:
    measured = images.preprocess.with_statistics(*measure_channels(images.pixels, np.flatnonzero(splits == "train")))
    return dataclasses.replace(images, splits=splits, preprocess=measured)


def with_given_statistics(images: ImageSet, mean: tuple[float, ...] | None, std: tuple[float, ...] | None) -> ImageSet:
    """The images with mean and deviation as they were asked for, one number serving all channels, else as measured."""
    measured = images.preprocess
    asked = [values * measured.channels if values and len(values) == 1 else values for values in (mean, std)]
    return dataclasses.replace(
        images, preprocess=measured.with_statistics(asked[0] or measured.mean, asked[1] or measured.std)
    )


def prepare_as(
    source: Source, preprocess: Preprocess, *, skip_broken: bool = False, progress: Progress = SILENT
) -> ImageSet:
    """The images as an existing network wants them; they are all "test" unless the source has parts.

    Raises:
        DataError: images that cannot be read (unless ``skip_broken``).
        MachineError: no room for the cache.
    """
    found = hash_contents(source.images, progress)
    source, hashes, pixels, broken = _read(source, found, preprocess, skip_broken, progress)
    return _image_set(source, hashes, number_equal(hashes), pixels, preprocess, broken)


def measure_channels(pixels: Pixels, rows: npt.NDArray[np.int64]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel over these rows, on the 0..1 scale, from exact integer sums.

    A standard deviation below one level (1/255) is given as one level, so that dividing by it never explodes.

    >>> measure_channels(np.array([0, 255], np.uint8).reshape(2, 1, 1, 1), np.array([0, 1]))
    ([0.5], [0.5])
    """
    num_channels, area = pixels.shape[3], pixels.shape[1] * pixels.shape[2]
    counts_CL = np.zeros((num_channels, 256), np.int64)
    at_once = max(1, _PIXELS_AT_ONCE // area)
    for start in range(0, len(rows), at_once):
        levels = pixels[rows[start : start + at_once]].reshape(-1, num_channels)
        counts_CL += [np.bincount(levels[:, channel], minlength=256) for channel in range(num_channels)]
    level_L = np.arange(256)
    num = len(rows) * area
    totals = [(int(counts_L @ level_L), int(counts_L @ level_L**2)) for counts_L in counts_CL]
    means = [s / (255 * num) for s, _ in totals]
    stds = [max(math.sqrt(num * q - s * s) / (255 * num), 1 / 255) for s, q in totals]
    return means, stds


def _read(
    source: Source, hashes: Sequence[str], preprocess: Preprocess, skip_broken: bool, progress: Progress
) -> tuple[Source, Sequence[str], Pixels, tuple[BrokenImage, ...]]:
    """The source without its broken images, the hashes and pixels of the others, and the broken ones."""
    packed = pack(source.images, hashes, preprocess, progress)
    if not packed.broken:
        return source, hashes, packed.pixels, ()
    if not skip_broken:
        refuse_broken(packed.broken, len(hashes))
    lost = {image.index for image in packed.broken}
    kept = [i for i in range(len(hashes)) if i not in lost]
    remark = f"left out {len(lost)} images that cannot be read: {listed([image.name for image in packed.broken])}"
    whole = dataclasses.replace(source.select(kept), remarks=(*source.remarks, remark))
    return whole, [hashes[i] for i in kept], packed.pixels, packed.broken


def _image_set(
    source: Source,
    hashes: Sequence[str],
    duplicate_of: npt.NDArray[np.int64],
    pixels: Pixels,
    preprocess: Preprocess,
    broken: tuple[BrokenImage, ...],
) -> ImageSet:
    return ImageSet(
        origin=source.origin,
        kind=source.kind,
        classes=source.classes,
        labels=source.labels,
        splits=np.full(len(hashes), "test") if source.splits is None else source.splits,
        names=tuple(source.images.name(i) for i in range(len(hashes))),
        hashes=tuple(hashes),
        duplicate_of=duplicate_of,
        groups=source.groups or ("",) * len(hashes),
        given=source.splits,
        pixels=pixels,
        preprocess=preprocess,
        images=source.images,
        broken=broken,
        remarks=source.remarks,
        excluded=_excluded(source),
    )


def _excluded(source: Source) -> tuple[ExcludedImage, ...]:
    excluded = source.excluded
    if excluded is None:
        return ()
    hashes = hash_contents(excluded.images)
    return tuple(
        ExcludedImage(hashes[i], excluded.images.name(i), source.classes[int(label)])
        for i, label in enumerate(excluded.labels)
    )


def number_equal(values: Sequence[str]) -> npt.NDArray[np.int64]:
    """Equal numbers for equal values.

    >>> number_equal(["b", "a", "b"])
    array([1, 0, 1])
    """
    return np.unique(np.asarray(values), return_inverse=True)[1].astype(np.int64)


def _remarks_on_parts(images: ImageSet) -> list[str]:
    """What may make a score say less than it seems to."""
    counts, has_groups = images.counts(), any(images.groups)
    remarks = [f"there is no {part} part" for part in PARTS if part not in counts]
    for part in [part for part in ("val", "test") if part in counts]:
        if absent := [name for name, count in counts[part].items() if not count]:
            remarks.append(
                f"{part} has no image of {listed(absent)}, which has too few pictures or groups to be divided"
            )
        if leaked := int(images.leaked[images.indices(part)].sum()):
            seen = "train" if part == "val" else "train or val"
            how = "as a picture or by their group" if has_groups else "as a picture"
            remarks.append(
                f"{leaked} images of {part} are also in {seen}, {how}: {part} is scored with and without them"
            )

    return remarks

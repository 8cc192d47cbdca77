"""Findings about classes: those without images, with few, with many, and those that give themselves away."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vitreous.checks.examined import Examined
from vitreous.checks.finding import Finding
from vitreous.wording import counted, listed

_FEW = 20  # distinct pictures of a class
_UNBALANCED = 10.0  # images of the largest class by those of the smallest
_TELLING = 0.3  # of what the most frequent class leaves unexplained
_LEAST_OF_A_KIND = 10  # images with a trait, below which it may tell the class by chance


def absent(data: Examined) -> Iterator[Finding]:
    """Classes without images, at all or in a part; a single class."""
    source = data.source
    counts = np.bincount(source.labels, minlength=len(source.classes))
    empty = [source.classes[int(c)] for c in np.flatnonzero(counts == 0)]
    if empty:
        yield Finding(
            code="class-empty",
            severity="mend",
            where="the classes",
            seen=f"{counted(len(empty), 'class', 'classes')} without an image: {listed(empty)}",
            arithmetic="",
            edit="add images, or remove the folder",
            count=len(empty),
        )
    if len(source.classes) < 2:
        yield Finding(
            code="one-class",
            severity="mend",
            where="the classes",
            seen=f"there is one class only ({listed(source.classes)}); a classifier needs two or more",
            arithmetic="",
            edit="put the images of each class into a folder of their own",
        )
    for part, missing in source.missing_classes().items():
        names = [name for name in missing if name not in empty]
        if names:
            yield Finding(
                code="class-missing-in-part",
                severity="mend",
                where=f"the {part} part",
                seen=f"{part} has no image of {listed(names)}, other parts have; training refuses that",
                arithmetic=f"{len(source.classes) - len(missing)} of {len(source.classes)} classes",
                edit="add images of it, remove it from the other parts, or mend its name",
                count=len(names),
            )


def few(data: Examined) -> Iterator[Finding]:
    """Classes of so few pictures that neither training nor a score has much to go by."""
    source = data.source
    pairs = np.unique(np.stack([source.labels, data.pictures], axis=1), axis=0)
    counts = np.bincount(pairs[:, 0], minlength=len(source.classes))
    small = [int(c) for c in np.argsort(counts, kind="stable") if 0 < counts[c] < _FEW]
    if small:
        yield Finding(
            code="class-tiny",
            severity="consider",
            where="the classes",
            seen=f"{len(small)} of {counted(len(source.classes), 'class', 'classes')} with fewer than {_FEW} pictures",
            arithmetic=f"{listed([f'{source.classes[c]}: {counts[c]}' for c in small])}; of {_FEW} pictures about 3 "
            "become test images, and a recall of 3 in 3 may be anything above 44% (95% interval)",
            edit="add pictures, start from --weights, or join classes; --folds gets more out of few",
            count=len(small),
        )


def unbalanced(data: Examined) -> Iterator[Finding]:
    """One class with many times the images of another."""
    counts = np.bincount(data.source.labels, minlength=len(data.source.classes))
    present = np.flatnonzero(counts)
    least, most = present[np.argmin(counts[present])], int(np.argmax(counts))
    ratio = counts[most] / counts[least]
    if ratio >= _UNBALANCED:
        yield Finding(
            code="unbalanced",
            severity="consider",
            where="the classes",
            seen=f"{data.source.classes[most]} has {ratio:.0f} times the images of {data.source.classes[int(least)]}",
            arithmetic=f"{counts[most]:,} and {counts[least]:,}; to answer {data.source.classes[most]} always would be "
            f"right for {counts[most] / counts.sum():.0%} of all images",
            edit="go by balanced accuracy, or --set training.class_weights=balanced",
        )


def shortcuts(data: Examined) -> Iterator[Finding]:
    """Traits of the file that tell the class: a network may learn them in place of what is shown."""
    if len(data.looks) < 2 * _LEAST_OF_A_KIND:
        return
    looks = data.looks
    shape = np.sign(looks["width"].astype(np.int64) - looks["height"])
    traits: dict[str, NDArray[np.generic]] = {
        "file format": looks["format"],
        "size": looks["height"].astype(np.int64) << 32 | looks["width"],
        "orientation (upright, square or lying)": shape,
        "lack of colour": looks["colour"] <= 8,
    }
    frequent = float(np.bincount(data.labels).max()) / len(data.labels)
    for trait, values in traits.items():
        told = _told_by(values, data.labels)
        if told - frequent >= _TELLING * (1 - frequent):
            yield Finding(
                code="shortcut",
                severity="consider",
                where="the classes",
                seen=f"the {trait} of a picture alone tells the class of {told:.0%} of them",
                arithmetic=f"the most frequent class alone is {frequent:.0%}",
                edit="a network may learn this in place of what is shown, and fail on pictures from elsewhere: "
                "take pictures of all classes in the same way",
            )


def _told_by(values: NDArray[np.generic], labels: NDArray[np.int64]) -> float:
    """The share of labels that are the most frequent one among the images of the same value; rare values are one."""
    _, value_N, counts = np.unique(values, return_inverse=True, return_counts=True)
    value_N = np.where(counts[value_N] < _LEAST_OF_A_KIND, len(counts), value_N)
    table = np.zeros((len(counts) + 1, int(labels.max()) + 1), np.int64)
    np.add.at(table, (value_N, labels), 1)
    return float(table.max(axis=1).sum() / len(labels))

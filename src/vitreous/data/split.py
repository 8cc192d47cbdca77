"""Which image trains, validates or tests, where the source does not say: a threshold on hash(content, seed).

An image's number depends on its own bytes only, so adding, renaming or reordering images moves no other, and two copies
of one image never stand on both sides. A class that a threshold would leave without a part lends it its image of the
smallest number; only such a loan is taken back when the class grows.
"""

import hashlib
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}

_TEST, _VAL, _TRAIN = 0, 1, 2  # in the order of the threshold
_NAMES: npt.NDArray[np.str_] = np.array(["test", "val", "train"])


def split_word(name: str) -> str | None:
    """The part that a name speaks of, if it is exactly one.

    >>> split_word("dataset_Train"), split_word("validation"), split_word("trainer"), split_word("train_test")
    ('train', 'val', None, None)
    """
    parts = {_SPLIT_WORDS[word] for word in re.split(r"[^a-z]+", name.lower()) if word in _SPLIT_WORDS}
    return parts.pop() if len(parts) == 1 else None


def split_fraction(content_hash: str, seed: int) -> float:
    """Where this content stands in [0, 1), evenly spread over contents.

    >>> 0 <= split_fraction("a3f5", seed=0) < 1
    True
    """
    digest = hashlib.sha256(f"{seed}:{content_hash}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def assign_splits(
    hashes: Sequence[str],
    labels: npt.NDArray[np.int64],
    num_classes: int,
    given: npt.NDArray[np.str_] | None,
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
) -> npt.NDArray[np.str_]:
    """The part of each image: "train", "val" or "test"; every class keeps at least one training image.

    What the source gives is kept. Where it gives train and test only, val is cut from train; where it gives train and
    val only, there is no test.
    """
    if given is None or set(given) == {"train"}:
        return _cut(hashes, labels, num_classes, val_fraction, test_fraction, seed)
    splits = given.astype(_NAMES.dtype)
    if "val" not in given:
        train = np.flatnonzero(given == "train")
        splits[train] = _cut([hashes[int(i)] for i in train], labels[train], num_classes, val_fraction, 0.0, seed)
    return splits


def _cut(
    hashes: Sequence[str],
    labels: npt.NDArray[np.int64],
    num_classes: int,
    val_fraction: float,
    test_fraction: float,
    seed: int,
) -> npt.NDArray[np.str_]:
    contents, content_N = np.unique(np.asarray(hashes), return_inverse=True)
    fraction_C = np.array([split_fraction(str(content), seed) for content in contents])
    part_C = np.full(len(contents), _TEST)
    for label in range(num_classes):
        members = np.unique(content_N[labels == label])
        members = members[np.argsort(fraction_C[members], kind="stable")]
        parts = _parts_of_class(fraction_C[members], val_fraction, test_fraction)
        # The same content under two labels: the part nearer to train, so that none loses its training images.
        part_C[members] = np.maximum(part_C[members], parts)
    splits: npt.NDArray[np.str_] = _NAMES[part_C[content_N]]
    return splits


def _parts_of_class(
    fractions: npt.NDArray[np.float64], val_fraction: float, test_fraction: float
) -> npt.NDArray[np.int64]:
    """The parts of one class's contents, whose fractions come in rising order: first test, then val, then train."""
    num = len(fractions)
    spare = max(num - 1, 0)  # one stays in train; of two that are left, val gets one
    below_test = int(np.searchsorted(fractions, test_fraction))
    below_val = int(np.searchsorted(fractions, test_fraction + val_fraction))
    num_test = min(max(below_test, test_fraction > 0), spare - (spare > 1 and val_fraction > 0))
    num_val = min(max(below_val - num_test, val_fraction > 0), spare - num_test)
    return np.repeat([_TEST, _VAL, _TRAIN], [num_test, num_val, num - num_test - num_val])

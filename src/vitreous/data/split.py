"""Which image trains, validates or tests, where the source does not say: a threshold on hash(key, seed).

Images that must stand on one side (copies of one picture, all images of one patient) share a key; of any other image,
the key is the hash of its own bytes. So adding, renaming or reordering images moves no other. A class that a threshold
would leave without a part lends it its key of the smallest number; only such a loan is taken back when the class grows.
"""

import hashlib
import re
import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vitreous.errors import DataError

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


def join_images(hashes: Sequence[str], pictures: npt.NDArray[np.int64], groups: Sequence[str]) -> tuple[str, ...]:
    """The key of each image: equal for all that must stand on one side, directly or through others.

    It is the first of their groups' names, so that no further image of a group moves the others, or, where there is no
    group, the smallest of their content hashes.

    Args:
        hashes: the content hash of each image.
        pictures: equal numbers for images that show the same picture.
        groups: what the user keeps together; "" for nothing.

    >>> join_images(["c", "a", "b", "d"], np.array([0, 0, 1, 1]), ["", "", "anna", ""])
    ('a', 'a', 'group anna', 'group anna')
    """
    num = len(hashes)
    _, picture_N = np.unique(pictures, return_inverse=True)
    names, group_N = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    alone = np.asarray(groups, dtype=str) == ""
    group_N = np.where(alone, len(names) + np.arange(num), group_N)
    unit_N = _joined(_joined(np.arange(num), picture_N), group_N)
    while not np.array_equal(unit_N, wider := _joined(_joined(unit_N, picture_N), group_N)):
        unit_N = wider
    keys = [(0, f"group {group}") if group else (1, content) for group, content in zip(groups, hashes, strict=True)]
    key_of: dict[int, tuple[int, str]] = {}
    for unit, key in zip(unit_N.tolist(), keys, strict=True):
        key_of[unit] = min(key_of.get(unit, key), key)
    return tuple(key_of[unit][1] for unit in unit_N.tolist())


def _joined(unit_N: npt.NDArray[np.int64], link_N: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The smallest unit among all that share a link, for each image."""
    smallest = np.full(int(link_N.max(initial=-1)) + 1, len(unit_N))
    np.minimum.at(smallest, link_N, unit_N)
    joined: npt.NDArray[np.int64] = smallest[link_N]
    return joined


def split_fraction(key: str, seed: int) -> float:
    """Where this key stands in [0, 1), evenly spread over keys.

    >>> 0 <= split_fraction("a3f5", seed=0) < 1
    True
    """
    digest = hashlib.sha256(f"{seed}:{key}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def calibrates(key: str) -> bool:
    """Whether a validation image calibrates; else it helps to choose the epoch. Half of the keys do, whatever the seed.

    >>> [calibrates(key) for key in ("a3f5", "a3f6", "a3f7")]
    [True, False, False]
    """
    return hashlib.sha256(f"calibrates:{key}".encode("utf-8", "surrogateescape")).digest()[0] % 2 == 0


def assign_splits(
    keys: Sequence[str],
    labels: npt.NDArray[np.int64],
    num_classes: int,
    given: npt.NDArray[np.str_] | None,
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
) -> npt.NDArray[np.str_]:
    """The part of each image: "train", "val" or "test"; every class keeps at least one key for training.

    Images with equal ``keys`` (of ``join_images``) are cut to one side.


    What the source gives is kept. Where it gives train and test only, val is cut from train; where it gives train and
    val only, there is no test.
    """
    if given is None or set(given) == {"train"}:
        return _cut(keys, labels, num_classes, val_fraction, test_fraction, seed)
    splits = given.astype(_NAMES.dtype)
    if "val" not in given:
        train = np.flatnonzero(given == "train")
        splits[train] = _cut([keys[int(i)] for i in train], labels[train], num_classes, val_fraction, 0.0, seed)
    return splits


def assign_folds(
    keys: Sequence[str], labels: npt.NDArray[np.int64], num_folds: int, seed: int
) -> npt.NDArray[np.int64]:
    """The fold, 1 .. ``num_folds``, that tests each image in a cross-validation.

    Equal keys are tested together; the folds are about equal in size and in the share of each class, as
    scikit-learn's StratifiedGroupKFold makes them, and do not depend on the order of the images.

    Raises:
        DataError: there are fewer keys than folds, or fewer images of every class.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    names, key_N = np.unique(np.asarray(keys), return_inverse=True)
    if len(names) < num_folds:
        raise DataError(f"{num_folds} folds need as many pictures or groups; there are {len(names)}: ask for fewer.")
    if (most := int(np.bincount(labels).max())) < num_folds:
        raise DataError(f"{num_folds} folds need a class of as many images; the largest has {most}: ask for fewer.")
    order = np.lexsort((labels, key_N))
    splitter = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    folds = np.zeros(len(labels), dtype=np.int64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # what a fold lacks is looked at afterwards
        tested = [test for _, test in splitter.split(order, labels[order], key_N[order])]
    for number, test in enumerate(tested, start=1):
        folds[order[test]] = number
    return folds


def _cut(
    keys: Sequence[str],
    labels: npt.NDArray[np.int64],
    num_classes: int,
    val_fraction: float,
    test_fraction: float,
    seed: int,
) -> npt.NDArray[np.str_]:
    names, key_N = np.unique(np.asarray(keys), return_inverse=True)
    fraction_U = np.array([split_fraction(str(name), seed) for name in names])
    part_U = np.full(len(names), _TEST)
    for label in range(num_classes):
        members = np.unique(key_N[labels == label])
        members = members[np.argsort(fraction_U[members], kind="stable")]
        parts = _parts_of_class(fraction_U[members], val_fraction, test_fraction)
        # One key under several labels: the part nearer to train, so that none loses its training images.
        part_U[members] = np.maximum(part_U[members], parts)
    splits: npt.NDArray[np.str_] = _NAMES[part_U[key_N]]
    return splits


def _parts_of_class(
    fractions: npt.NDArray[np.float64], val_fraction: float, test_fraction: float
) -> npt.NDArray[np.int64]:
    """The parts of one class's keys, whose fractions come in rising order: first test, then val, then train."""
    num = len(fractions)
    spare = max(num - 1, 0)  # one stays in train; of two that are left, val gets one
    below_test = int(np.searchsorted(fractions, test_fraction))
    below_val = int(np.searchsorted(fractions, test_fraction + val_fraction))
    num_test = min(max(below_test, test_fraction > 0), spare - (spare > 1 and val_fraction > 0))
    num_val = min(max(below_val - num_test, val_fraction > 0), spare - num_test)
    return np.repeat([_TEST, _VAL, _TRAIN], [num_test, num_val, num - num_test - num_val])

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from vitreous.data.split import assign_folds, assign_splits, calibrates, join_images, split_fraction
from vitreous.errors import DataError


def hashes(num, start=0):
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in range(start, start + num)]


def split(contents, labels, given=None, val=0.1, test=0.1, seed=0):
    labels = np.array(labels, dtype=np.int64)
    given = None if given is None else np.array(given)
    fractions = {"val_fraction": val, "test_fraction": test}
    return assign_splits(contents, labels, int(labels.max()) + 1, given, **fractions, seed=seed)


def test_the_fraction_is_the_first_64_bits_of_a_sha256():
    digest = hashlib.sha256(b"7:abc").hexdigest()
    assert split_fraction("abc", 7) == int(digest[:16], 16) / 2**64


def test_fractions_come_near_the_request():
    parts = split(hashes(20_000), [0, 1] * 10_000, val=0.15, test=0.25)
    for part, wanted in (("test", 0.25), ("val", 0.15), ("train", 0.6)):
        deviation = np.sqrt(wanted * (1 - wanted) / 20_000)
        assert abs((parts == part).mean() - wanted) < 4 * deviation


@given(st.permutations(range(40)), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_order_does_not_matter(order, seed):
    contents, labels = hashes(40), np.arange(40) % 3
    parts = split(contents, labels, seed=seed)
    shuffled = split([contents[i] for i in order], labels[list(order)], seed=seed)
    assert np.array_equal(shuffled, parts[list(order)])


@given(st.integers(30, 200), st.integers(1, 200), st.integers(0, 20))
@settings(max_examples=60, deadline=None)
def test_adding_images_moves_none(num, more, seed):
    """Where each class had its images in each part by the threshold, nothing was lent and nothing comes back."""
    before = split(hashes(num), np.arange(num) % 2, seed=seed)
    after = split(hashes(num + more), np.arange(num + more) % 2, seed=seed)
    for label in (0, 1):
        mine = np.arange(num) % 2 == label
        fractions = np.array([split_fraction(content, seed) for content in hashes(num)])[mine]
        lent = not (fractions < 0.1).any() or not ((fractions >= 0.1) & (fractions < 0.2)).any()
        if not lent:
            assert np.array_equal(before[mine], after[:num][mine])
        else:  # a loan goes back towards train, and only the loan
            moved = np.flatnonzero(before[mine] != after[:num][mine])
            assert len(moved) <= 2
            assert set(before[mine][moved]) <= {"test", "val"}


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 50), st.floats(0.01, 0.5), st.floats(0, 0.49)
)
@settings(max_examples=200, deadline=None)
def test_every_class_has_its_parts(labels, seed, val, test):
    present, labels = np.unique(labels, return_inverse=True)
    parts = split(hashes(len(labels)), labels, val=val, test=test, seed=seed)
    for label in range(len(present)):
        of_class = set(parts[labels == label])
        num = int((labels == label).sum())
        assert "train" in of_class
        if num >= 2 and test > 0:
            assert "test" in of_class
        if num >= 3 or (num == 2 and test == 0):
            assert "val" in of_class
        if test == 0:
            assert "test" not in of_class


@given(st.integers(1, 30), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_copies_stay_together_even_under_two_labels(num, seed):
    contents = hashes(num) * 3
    labels = np.concatenate([np.arange(num) % 2, np.arange(num) % 2, np.arange(num) % 3 % 2])
    parts = split(contents, labels, seed=seed).reshape(3, num)
    assert (parts == parts[0]).all()
    assert {"train"} <= {str(part) for part in parts.ravel()}


def test_another_seed_is_another_split():
    assert not np.array_equal(split(hashes(200), [0] * 200, seed=1), split(hashes(200), [0] * 200, seed=2))


@pytest.mark.parametrize(
    ("given", "fresh"),
    [
        (["train"] * 90 + ["test"] * 10, {"val"}),
        (["train"] * 90 + ["val"] * 10, set()),
        (["train"] * 80 + ["val"] * 10 + ["test"] * 10, set()),
        (["train"] * 100, {"val", "test"}),
    ],
)
def test_what_is_given_is_kept(given, fresh):
    parts = split(hashes(100), np.arange(100) % 2, given)
    assert set(parts) == set(given) | fresh
    outside_train = np.array(given) != "train"
    assert np.array_equal(parts[outside_train], np.array(given)[outside_train])


def test_val_is_cut_from_train_by_the_same_threshold():
    given = ["train"] * 200 + ["test"] * 20
    parts = split(hashes(220), [0] * 220, given, val=0.2)
    below = np.array([split_fraction(content, 0) < 0.2 for content in hashes(200)])
    assert np.array_equal(parts[:200] == "val", below)


GROUPS = st.sampled_from(["", "", "ann", "bob", "cy", "dee"])
PICTURES_AND_GROUPS = st.lists(st.tuples(st.integers(0, 12), GROUPS), min_size=1, max_size=40)


@given(PICTURES_AND_GROUPS)
def test_images_are_joined_as_a_graph_of_pictures_and_groups_says(drawn):
    pictures, groups = np.array([picture for picture, _ in drawn]), [group for _, group in drawn]
    links = [
        (i, j)
        for i in range(len(drawn))
        for j in range(len(drawn))
        if pictures[i] == pictures[j] or (groups[i] and groups[i] == groups[j])
    ]
    graph = coo_array((np.ones(len(links)), np.transpose(links)), shape=(len(drawn), len(drawn)))
    component = connected_components(graph, directed=False)[1]
    keys = join_images(hashes(len(drawn)), pictures, groups)
    assert len(set(keys)) == len(set(component.tolist())) == len(set(zip(keys, component.tolist(), strict=True)))


@given(PICTURES_AND_GROUPS, st.randoms())
def test_the_key_of_an_image_does_not_depend_on_the_order(drawn, random):
    contents = hashes(len(drawn))
    order = random.sample(range(len(drawn)), len(drawn))
    keys = join_images(contents, np.array([picture for picture, _ in drawn]), [group for _, group in drawn])
    shuffled = join_images(
        [contents[i] for i in order], np.array([drawn[i][0] for i in order]), [drawn[i][1] for i in order]
    )
    assert shuffled == tuple(keys[i] for i in order)


def test_an_image_alone_keeps_its_content_as_key_so_splits_made_before_stay():
    assert join_images(hashes(5), np.arange(5), [""] * 5) == tuple(hashes(5))


@pytest.mark.parametrize("seed", range(5))
def test_further_images_of_a_patient_move_none(seed):
    groups = [f"patient {i % 20}" for i in range(400)]
    labels = np.arange(400) % 2
    few, all_of_them = (
        split(join_images(hashes(num), np.arange(num), groups[:num]), labels[:num], seed=seed) for num in (100, 400)
    )
    assert np.array_equal(few, all_of_them[:100])
    assert all(len(set(all_of_them[i::20])) == 1 for i in range(20))


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 3)), min_size=1, max_size=60), st.integers(0, 9))
def test_equal_keys_stand_on_one_side_and_every_class_trains(drawn, seed):
    _, labels = np.unique([label for _, label in drawn], return_inverse=True)
    keys = [f"group {number}" for number, _ in drawn]
    parts = split(keys, labels, val=0.3, test=0.3, seed=seed)
    assert len(set(zip(keys, parts, strict=True))) == len(set(keys))
    assert set(labels[parts == "train"]) == set(labels)


def test_half_of_all_keys_calibrate_whatever_part_a_seed_gives_them():
    keys = hashes(4000)
    share = np.mean([calibrates(key) for key in keys])
    assert abs(share - 0.5) < 4 * np.sqrt(0.25 / 4000)
    in_val = [key for key in keys if 0.1 <= split_fraction(key, 0) < 0.2]
    share = np.mean([calibrates(key) for key in in_val])
    assert abs(share - 0.5) < 4 * np.sqrt(0.25 / len(in_val))


@given(st.integers(2, 7), st.integers(0, 3))
@settings(max_examples=20)
def test_folds_of_single_images_are_equal_in_size_and_classes(num_folds, seed):
    labels = np.repeat([0, 1, 2], [40, 23, 9])
    folds = assign_folds(hashes(72), labels, num_folds, seed)
    assert set(folds.tolist()) == set(range(1, num_folds + 1))
    for label in range(3):
        counts = np.bincount(folds[labels == label], minlength=num_folds + 1)[1:]
        assert counts.max() - counts.min() <= 1
    order = np.random.default_rng(seed).permutation(72)
    assert np.array_equal(assign_folds([hashes(72)[i] for i in order], labels[order], num_folds, seed), folds[order])


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2)), min_size=12, max_size=60), st.integers(2, 3))
def test_a_key_is_tested_in_one_fold(drawn, num_folds):
    keys, labels = [f"group {number}" for number, _ in drawn], np.array([label for _, label in drawn])
    if len(set(keys)) < num_folds or np.bincount(labels).max() < num_folds:
        with pytest.raises(DataError, match="ask for fewer"):
            assign_folds(keys, labels, num_folds, 0)
        return
    folds = assign_folds(keys, labels, num_folds, 0)
    assert len(set(zip(keys, folds.tolist(), strict=True))) == len(set(keys))
    assert folds.min() >= 1

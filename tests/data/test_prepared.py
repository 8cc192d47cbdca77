import dataclasses
import hashlib
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.test_cache import Heard
from tests.images import broken_files, encode, picture, write_classes
from vitreous.data.exclusion import leave_out
from vitreous.data.grouping import group_images
from vitreous.data.images import ArrayImages, BrokenImage
from vitreous.data.prepared import (
    ImageSet,
    fold_of,
    hash_contents,
    measure_channels,
    number_equal,
    number_folds,
    prepare,
    prepare_as,
    scan,
)
from vitreous.data.preprocess import Preprocess, suggest_preprocess
from vitreous.data.source import open_source
from vitreous.errors import DataError
from vitreous.storage import sha256_file

FIELD = Preprocess(height=10, width=12, channels=3, fit="pad")


def prepared(data, preprocess=FIELD, **options):
    return prepare(open_source(data), preprocess=preprocess, **{**FRACTIONS, **options})


FRACTIONS = {"val_fraction": 0.2, "test_fraction": 0.2, "seed": 0}


def test_rows_speak_of_the_same_image(tmp_path):
    images = prepared(write_classes(tmp_path, {"cat": 20, "dog": 30}))
    assert len(images) == len(images.pixels) == 50
    for i in range(0, 50, 7):
        path = tmp_path / images.names[i]
        assert images.hashes[i] == sha256_file(path)
        assert images.names[i].startswith(images.classes[images.labels[i]])
        assert np.array_equal(images.pixels[i], FIELD.pixels(path))
        assert images.images.encoded(i) == path.read_bytes()
    parts = np.concatenate([images.indices(part) for part in ("train", "val", "test")])
    assert sorted(parts) == list(range(50))
    assert {name: sum(part[name] for part in images.counts().values()) for name in images.classes} == {
        "cat": 20,
        "dog": 30,
    }


def test_statistics_are_those_of_the_training_part(tmp_path):
    images = prepared(write_classes(tmp_path, {"cat": 20, "dog": 30}))
    train = images.pixels[images.indices("train")] / 255.0
    assert np.allclose(images.preprocess.mean, train.mean(axis=(0, 1, 2)), rtol=1e-12)
    assert np.allclose(images.preprocess.std, train.std(axis=(0, 1, 2)), rtol=1e-12)


def test_statistics_over_many_chunks_and_of_a_flat_channel():
    pixels = np.random.default_rng(0).integers(0, 256, (3000, 2, 3, 3), dtype=np.uint8)
    pixels[..., 2] = 7
    rows = np.arange(0, 3000, 2)
    means, stds = measure_channels(pixels, rows)
    assert np.allclose(means, pixels[rows].mean(axis=(0, 1, 2)) / 255)
    assert np.allclose(stds[:2], pixels[rows][..., :2].std(axis=(0, 1, 2)) / 255)
    assert stds[2] == 1 / 255


def test_no_image_moves_when_others_come(tmp_path):
    """The promise at full length: from files to parts."""
    write_classes(tmp_path, {"cat": 40, "dog": 40})
    before = prepared(tmp_path)
    shutil.move(tmp_path / "cat" / "000.png", tmp_path / "cat" / "renamed.png")
    write_classes(tmp_path, {"cat/more": 30, "cow": 30}, start=1000)
    after = dict(zip((images := prepared(tmp_path)).hashes, images.splits, strict=True))
    assert all(after[content] == part for content, part in zip(before.hashes, before.splits, strict=True))


def test_the_fingerprint_is_of_contents_classes_and_parts(tmp_path):
    write_classes(tmp_path / "a", {"cat": 12, "dog": 12})
    original = prepared(tmp_path / "a").fingerprint
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    shutil.move(tmp_path / "b" / "cat" / "003.png", tmp_path / "b" / "cat" / "z.png")
    assert prepared(tmp_path / "b").fingerprint == original
    assert prepared(tmp_path / "b", seed=1).fingerprint != original
    shutil.move(tmp_path / "b" / "cat" / "z.png", tmp_path / "b" / "dog" / "z.png")
    assert prepared(tmp_path / "b").fingerprint != original


def with_broken(folder):
    write_classes(folder, {"cat": 12, "dog": 12})
    for name, (data, _) in broken_files().items():
        (folder / "cat" / name).write_bytes(data)
    (folder / "dog" / "new\nline.jpg").write_bytes(b"")
    (folder / "dog" / "gone.png").symlink_to("nowhere.png")
    return {*(f"cat/{name}" for name in broken_files()), "dog/new\nline.jpg", "dog/gone.png"}


def test_broken_images_are_listed_and_refused(tmp_path):
    names = with_broken(tmp_path)
    with pytest.raises(DataError) as caught:
        prepared(tmp_path)
    message = str(caught.value)
    assert f"{len(names)} of {24 + len(names)} images cannot be read" in message
    assert "--skip-broken" in message
    assert all(name in message for name in names - {"dog/new\nline.jpg"})
    assert "'dog/new\\nline.jpg': is empty" in message
    assert len(message.splitlines()) == 1 + len(names)


def test_a_long_list_is_cut_at_twenty(tmp_path):
    write_classes(tmp_path, {"cat": 3, "dog": 3})
    for number in range(50):
        (tmp_path / "cat" / f"{number}.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="50 of 56") as caught:
        prepared(tmp_path)
    assert "30 more" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 22


def test_broken_images_are_left_out_and_counted(tmp_path):
    names = with_broken(tmp_path)
    images = prepared(tmp_path, skip_broken=True)
    assert {image.name for image in images.broken} == names
    assert len(images) == 24
    assert any(f"left out {len(names)}" in remark for remark in images.remarks)
    for i in range(24):
        assert np.array_equal(images.pixels[i], FIELD.pixels(images.images.encoded(i)))
        assert images.hashes[i] == sha256_file(tmp_path / images.names[i])
    for path in (tmp_path / name for name in names):
        path.unlink()
    assert prepared(tmp_path).fingerprint == images.fingerprint


def test_a_class_that_loses_all_its_images_is_refused(tmp_path):
    write_classes(tmp_path, {"cat": 3, "dog": 3})
    (tmp_path / "lost").mkdir()
    (tmp_path / "lost" / "a.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="no image of lost"):
        prepared(tmp_path, skip_broken=True)


def test_scan_tells_facts_and_reasons(tmp_path):
    write_classes(tmp_path, {"cat": 1, "dog": 1})
    (tmp_path / "dog" / "text.jpg").write_bytes(b"words")
    facts = scan(open_source(tmp_path).images)
    assert [(fact.height, fact.width) for fact in facts[:2]] == [(12, 10)] * 2
    assert facts[2] == BrokenImage(2, "dog/text.jpg", "is not a JPEG, PNG, WebP, BMP, GIF or TIFF image")


def test_given_parts_are_kept_and_leaks_are_said(tmp_path):
    write_classes(tmp_path / "train", {"cat": 20, "dog": 20})
    write_classes(tmp_path / "test", {"cat": 5, "dog": 4}, start=100)
    shutil.copy(tmp_path / "train/cat/000.png", tmp_path / "test/cat/copy.png")
    images = prepared(tmp_path)
    counts = images.counts()
    assert counts["test"] == {"cat": 6, "dog": 4}
    assert {name: counts["train"][name] + counts["val"][name] for name in ("cat", "dog")} == {"cat": 20, "dog": 20}
    assert [images.names[i] for i in np.flatnonzero(images.leaked)] == ["test/cat/copy.png"]
    said = " | ".join(images.remarks)
    assert "1 images of test are also in train or val" in said


PARTS_OR_NONE = st.sampled_from(["train", "val", "test", "unused"])


def image_set(hashes, splits, groups, pictures=None, labels=None, **more):
    """Images of one pixel each, whose parts, groups and pictures are as given."""
    num = len(hashes)
    array = np.arange(num).astype(np.uint8).reshape(num, 1, 1)
    return ImageSet(
        origin="drawn",
        kind="npz",
        classes=("cat", "dog"),
        labels=np.arange(num) % 2 if labels is None else labels,
        splits=np.array(splits),
        names=tuple(map(str, range(num))),
        hashes=tuple(hashes),
        duplicate_of=number_equal(hashes) if pictures is None else np.array(pictures),
        groups=tuple(groups),
        given=None,
        pixels=array[..., None],
        preprocess=Preprocess(height=1, width=1, channels=1, fit="pad"),
        images=ArrayImages(array, tuple(map(str, range(num)))),
        broken=(),
        remarks=(),
        **more,
    )


@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["", "ann", "bob"]), PARTS_OR_NONE), min_size=1, max_size=30)
)
def test_leaked_is_what_was_seen_before_it_is_scored(drawn):
    """One pair after another, as a reader would look."""
    images = image_set(*zip(*[(str(content), part, group) for content, group, part in drawn], strict=True))
    seen_before = {"val": {"train"}, "test": {"train", "val"}}
    for i, (content, group, part) in enumerate(drawn):
        others = [each for each in drawn if each[2] in seen_before.get(part, ())]
        assert images.leaked[i] == any(content == c or (group and group == g) for c, g, _ in others)


def test_what_the_network_had_seen_before_leaks():
    parts = ["test", "test", "val", "train", "test"]
    images = image_set(list("abcde"), parts, [""] * 5, pictures=[0, 1, 2, 3, 3], known=frozenset("acd"))
    assert images.leaked.tolist() == [True, False, True, False, True]


def contents(num):
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in range(num)]


@given(st.integers(0, 120), st.integers(0, 30))
def test_val_is_divided_into_two_halves_or_not_at_all(num_val, num_leaked):
    num_leaked = min(num_leaked, num_val)
    hashes = contents(num_val) + contents(num_leaked)
    images = image_set(hashes, ["val"] * num_val + ["train"] * num_leaked, [""] * len(hashes))
    assert np.array_equal(np.union1d(images.selecting, images.calibrating), images.indices("val"))
    assert not set(images.selecting) & set(images.calibrating)
    assert len(images.calibrating) == 0 or min(len(images.calibrating), len(images.selecting)) >= 19
    assert not images.leaked[images.calibrating].any()
    if num_val >= 100 and not num_leaked:
        assert len(images.calibrating) > 0


def test_which_half_an_image_is_in_depends_on_its_content_or_group_alone():
    hashes = contents(300)
    first = image_set(hashes, ["val"] * 200 + ["train"] * 100, [""] * 300)
    other = image_set(hashes[::-1], ["val"] * 250 + ["train"] * 50, [""] * 300)
    halves = [{images.hashes[i] for i in images.calibrating} for images in (first, other)]
    in_both = {first.hashes[i] for i in first.indices("val")} & {other.hashes[i] for i in other.indices("val")}
    assert halves[0] & in_both == halves[1] & in_both
    grouped = image_set(hashes, ["val"] * 300, [f"patient {i % 30}" for i in range(300)])
    assert len({grouped.groups[i] for i in grouped.calibrating} & {grouped.groups[i] for i in grouped.selecting}) == 0
    assert len(grouped.calibrating) >= 19


def test_copies_and_groups_stand_on_one_side_of_our_parts(tmp_path):
    write_classes(tmp_path, {"cat": 30, "dog": 30})
    for number in range(0, 30, 3):
        shutil.copy(tmp_path / f"cat/{number:03d}.png", tmp_path / f"dog/copy of {number:03d}.png")
    source = group_images(open_source(tmp_path), r"(\d)\.png")
    images = prepare(source, preprocess=FIELD, **FRACTIONS)
    assert len(set(zip(images.groups, images.splits, strict=True))) == 10
    assert not images.leaked.any()
    assert set(images.splits) == {"train", "val", "test"}


def test_every_image_is_tested_in_one_fold_that_trained_on_no_copy_or_group_of_it(tmp_path):
    write_classes(tmp_path, {"cat": 30, "dog": 24})
    images = prepare(group_images(open_source(tmp_path), r"(\d)\.png"), preprocess=FIELD, **FRACTIONS)
    folds = number_folds(images, 4, seed=0)
    tested = []
    for number in range(1, 5):
        fold = fold_of(images, folds, number, val_fraction=0.1, seed=0)
        assert set(fold.splits) == {"train", "val", "test"}
        assert not fold.leaked.any()
        assert np.array_equal(fold.indices("test"), np.flatnonzero(folds == number))
        train = fold.pixels[fold.indices("train")] / 255.0
        assert np.allclose(fold.preprocess.mean, train.mean(axis=(0, 1, 2)))
        tested += fold.indices("test").tolist()
    assert sorted(tested) == list(range(54))


def test_a_given_test_part_stays_out_of_the_folds(tmp_path):
    for number, part in enumerate(("train", "val", "test")):
        write_classes(tmp_path / part, {"cat": 9, "dog": 9}, start=50 * number)
    images = prepared(tmp_path)
    folds = number_folds(images, 3, seed=0)
    assert np.array_equal(folds == 0, images.splits == "test")
    fold = fold_of(images, folds, 2, val_fraction=0.1, seed=0)
    assert np.array_equal(fold.splits == "unused", images.splits == "test")
    assert fold.counts().keys() == {"train", "val", "test"}


@pytest.mark.parametrize(
    ("counts", "num_folds", "words"),
    [
        ({"cat": 1, "dog": 9}, 3, "all images of cat are one picture or one group"),
        ({"cat": 2, "dog": 2}, 2, "fold 1 would leave no image to choose"),
        ({"cat": 2, "dog": 2}, 5, "ask for fewer"),
        ({"cat": 3, "dog": 3}, 5, "the largest has 3"),
    ],
)
def test_folds_that_cannot_be_are_refused(tmp_path, counts, num_folds, words):
    images = prepared(write_classes(tmp_path, counts))

    def first_fold():
        return fold_of(images, number_folds(images, num_folds, seed=0), 1, val_fraction=0.1, seed=0)

    with pytest.raises(DataError, match=words):
        first_fold()


def test_what_the_user_leaves_out_is_never_decoded(tmp_path):
    write_classes(tmp_path, {"cat": 12, "dog": 12})
    (tmp_path / "cat" / "bad.png").write_bytes(b"not an image")
    images = prepare(leave_out(open_source(tmp_path), {"cat/bad.png"}), preprocess=FIELD, **FRACTIONS)
    assert (len(images), images.broken) == (24, ())
    (left_out,) = images.excluded
    assert (left_out.name, left_out.label) == ("cat/bad.png", "cat")
    assert left_out.content_hash == sha256_file(tmp_path / "cat/bad.png")


def test_train_and_val_without_test(tmp_path):
    for number, part in enumerate(("train", "val")):
        write_classes(tmp_path / part, {"cat": 5, "dog": 5}, start=100 * number)
    images = prepared(tmp_path)
    assert set(images.counts()) == {"train", "val"}
    assert "there is no test part" in images.remarks


def test_another_data_set_comes_as_the_network_wants_it(tmp_path):
    write_classes(tmp_path / "only", {"cat": 4})
    trained = FIELD.with_statistics([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    images = prepare_as(open_source(tmp_path / "only", for_training=False), trained)
    assert images.preprocess == trained
    assert images.counts() == {"test": {"cat": 4}}
    write_classes(tmp_path / "parts/train", {"cat": 2, "dog": 2})
    write_classes(tmp_path / "parts/test", {"cat": 1, "dog": 1}, start=50)
    assert prepare_as(open_source(tmp_path / "parts"), trained).counts()["test"] == {"cat": 1, "dog": 1}


def test_no_file_of_the_user_is_changed(tmp_path):
    with_broken(tmp_path / "photos")
    before = {path: path.lstat() for path in tmp_path.rglob("*")}
    prepared(tmp_path / "photos", skip_broken=True)
    after = {path: path.lstat() for path in tmp_path.rglob("*")}
    assert before.keys() == after.keys()
    assert all(before[path].st_mtime_ns == after[path].st_mtime_ns for path in before)


def test_the_walk_from_a_built_in_name(monkeypatch):
    source = open_source("fashion-mini")
    preprocess = suggest_preprocess(scan(source.images), model_input=(32, 32))
    heard = Heard()
    images = prepare(source, preprocess=preprocess, progress=heard, **FRACTIONS)
    assert images.pixels.shape == (4000, 32, 32, 1)
    assert np.array_equal(images.pixels[9, 2:30, 2:30], source.images.array[9])
    assert heard.bars[:2] == ["reading", "decoding"]
    assert not images.leaked.any()
    assert dataclasses.replace(images).fingerprint == images.fingerprint


def test_hashes_of_arrays_tell_shapes_apart(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 4, 6), np.uint8), labels=[0, 1])
    np.savez(tmp_path / "b.npz", images=np.zeros((2, 6, 4), np.uint8), labels=[0, 1])
    hashes = [hash_contents(open_source(tmp_path / name).images) for name in ("a.npz", "b.npz")]
    assert len({*hashes[0], *hashes[1]}) == 2


def test_one_picture_in_two_encodings_is_two_contents(tmp_path):
    write_classes(tmp_path, {"cat": 1, "dog": 1})
    (tmp_path / "cat" / "again.bmp").write_bytes(encode(picture(12, 10, seed=1), "BMP"))
    assert len(set(hash_contents(open_source(tmp_path).images))) == 3

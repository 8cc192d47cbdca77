import hashlib
import os
import shutil

import numpy as np
import pytest

from tests.images import broken_files, encode, picture, write_classes
from vitreous.data.source import open_source
from vitreous.errors import DataError


def names(source):
    return [source.images.name(i) for i in range(len(source.images))]


def snapshot(folder):
    return {
        str(path): (path.lstat().st_mtime_ns, path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.rglob("*"))
    }


def test_class_folders(tmp_path):
    write_classes(tmp_path, {"dog": 2, "cat": 3})
    source = open_source(tmp_path)
    assert (source.kind, source.classes, source.splits) == ("folder", ("cat", "dog"), None)
    assert names(source) == ["cat/000.png", "cat/001.png", "cat/002.png", "dog/000.png", "dog/001.png"]
    assert source.labels.tolist() == [0, 0, 0, 1, 1]
    assert source.images.encoded(3) == (tmp_path / "dog/000.png").read_bytes()


def test_whole_numbers_sort_as_numbers(tmp_path):
    write_classes(tmp_path, {"10": 1, "9": 1, "2": 1})
    assert open_source(tmp_path).classes == ("2", "9", "10")


def test_folders_inside_a_class_belong_to_it(tmp_path):
    write_classes(tmp_path, {"cat/2020/may": 1, "cat": 1, "dog/old": 2})
    assert names(open_source(tmp_path)) == ["cat/000.png", "cat/2020/may/000.png", "dog/old/000.png", "dog/old/001.png"]


@pytest.mark.parametrize(
    ("folders", "parts"),
    [
        (("train", "val", "test"), {"train", "val", "test"}),
        (("Training", "VALIDATION", "Testing"), {"train", "val", "test"}),
        (("dataset_train", "dataset_test"), {"train", "test"}),
        (("01-train", "02-dev"), {"train", "val"}),
        (("train",), {"train"}),
    ],
)
def test_split_folders(tmp_path, folders, parts):
    for number, folder in enumerate(folders):
        write_classes(tmp_path / folder, {"cat": 2, "dog": 1}, start=10 * number)
    (tmp_path / "readme.txt").write_text("hello")
    source = open_source(tmp_path)
    assert (source.kind, source.classes) == ("split folders", ("cat", "dog"))
    assert set(source.splits) == parts
    assert len(source.images) == 3 * len(folders)
    assert ["readme.txt" in remark for remark in source.remarks] == [True]


def test_a_class_may_be_called_train(tmp_path):
    write_classes(tmp_path, {"bus": 1, "train": 1, "tram": 1})
    assert open_source(tmp_path).classes == ("bus", "train", "tram")


def missing(root):
    shutil.rmtree(root)


def empty(root):
    pass


def only_files(root):
    (root / "a.png").write_bytes(encode(picture()))


def one_table(root):
    only_files(root)
    (root / "labels.csv").write_text("path,label\n")


def one_class(root):
    write_classes(root, {"cat": 2})


def empty_class(root):
    write_classes(root, {"cat": 1, "dog": 1})
    (root / "hollow").mkdir()
    (root / "hollow" / ".hidden").write_text("")
    (root / "hollow" / "Thumbs.db").write_text("")


def empty_class_in_val(root):
    write_classes(root / "train", {"cat": 1, "dog": 1})
    write_classes(root / "val", {"cat": 1})
    (root / "val" / "dog").mkdir()


def stranger_in_val(root):
    write_classes(root / "train", {"cat": 1, "dog": 1})
    write_classes(root / "val", {"cat": 1, "stranger": 1})


def no_train(root):
    write_classes(root / "val", {"cat": 1, "dog": 1})
    write_classes(root / "test", {"cat": 1, "dog": 1})


def parts_without_classes(root):
    write_classes(root, {"train": 2, "test": 2})


def parts_beside_others(root):
    for part in ("train", "test", "extra"):
        write_classes(root / part, {"cat": 1, "dog": 1})


def classes_beside_a_part(root):
    write_classes(root, {"cat": 1, "dog": 1})
    write_classes(root / "test", {"cat": 1, "dog": 1})


def two_of_one_part(root):
    for part in ("train", "val", "dev"):
        write_classes(root / part, {"cat": 1, "dog": 1})


def one_class_twice(root):
    write_classes(root, {"cat": 1, "dog": 1})
    (root / "feline").symlink_to(root / "cat")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (missing, ["no file or folder", "digits"]),
        (empty, ["no class folders"]),
        (only_files, ["no class folders"]),
        (one_table, ["no class folders", "did you mean", "labels.csv"]),
        (one_class, ["one class only", "cat"]),
        (empty_class, ["no image of hollow", "take the class away"]),
        (empty_class_in_val, ["val has no image of dog"]),
        (stranger_in_val, ["train has no image of stranger"]),
        (no_train, ["no train part", "test, val"]),
        (parts_without_classes, ["no class folders in", "test, train"]),
        (parts_beside_others, ["extra", "move the others"]),
        (classes_beside_a_part, ["cat, dog do not"]),
        (two_of_one_part, ["same part"]),
        (one_class_twice, ["cat, feline", "one folder"]),
    ],
)
def test_what_cannot_be_learned_from_is_refused(tmp_path, make, words):
    root = tmp_path / "photos"
    root.mkdir()
    make(root)
    before = snapshot(tmp_path)
    with pytest.raises(DataError) as caught:
        open_source(root)
    assert all(word in str(caught.value) for word in [*words, "photos"])
    assert len(str(caught.value).splitlines()) <= 2
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("make", [one_class, no_train, stranger_in_val])
def test_what_cannot_be_trained_on_can_be_evaluated_on(tmp_path, make):
    make(tmp_path)
    assert len(open_source(tmp_path, for_training=False).images) >= 2


def test_names_of_all_kinds(tmp_path):
    write_classes(tmp_path, {"ordinary": 1})
    odd = [
        "a b.JPG",
        "ünï 図.Png",
        "new\nline.jpeg",
        "-dash",
        "no_extension",
        "quote'\".jPg",
        os.fsdecode(b"raw\xff.png"),
    ]
    folder = tmp_path / "new\nclass"
    folder.mkdir()
    for number, name in enumerate(odd):
        (folder / name).write_bytes(encode(picture(seed=number)))
    source = open_source(tmp_path)
    assert source.classes == ("new\nclass", "ordinary")
    assert sorted(names(source)[:-1]) == sorted(f"new\nclass/{name}" for name in odd)


def test_every_other_file_is_a_candidate_and_clutter_is_not(tmp_path):
    write_classes(tmp_path, {"cat": 1, "dog": 1})
    for name, (data, _) in broken_files().items():
        (tmp_path / "cat" / name).write_bytes(data)
    for clutter in (".DS_Store", "thumbs.db", "Desktop.ini", "._000.png"):
        (tmp_path / "cat" / clutter).write_bytes(b"x")
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / ".git").mkdir()
    assert len(open_source(tmp_path).images) == 2 + len(broken_files())


def loops(root):
    """Links to itself, to its parent, to each other, in and out of the data."""
    write_classes(root, {"cat": 2, "dog": 3})
    (root / "cat" / "self").symlink_to(root / "cat")
    (root / "cat" / "parent").symlink_to("..")
    (root / "cat" / "far up").symlink_to("/")
    (root / "cat" / "dogs").symlink_to(root / "dog")
    (root / "dog" / "cats").symlink_to(root / "cat")
    (root / "root").symlink_to(root)
    (root / "dog" / "again.png").symlink_to(root / "dog" / "000.png")
    (root / "dog" / "a cat.png").symlink_to(root / "cat" / "000.png")


def test_link_loops_count_each_real_file_once(tmp_path):
    loops(tmp_path / "data")
    source = open_source(tmp_path / "data")
    assert source.classes == ("cat", "dog")
    assert np.bincount(source.labels).tolist() == [2, 3]
    real = [os.path.realpath(path) for path in source.images.paths]
    assert len(set(real)) == 5
    assert any("cat/dogs" in remark and "dog/a cat.png" in remark for remark in source.remarks)


def test_links_between_parts_are_seen_and_links_to_a_whole_part_are_not_followed(tmp_path):
    for part in ("train", "test"):
        write_classes(tmp_path / part, {"cat": 2, "dog": 2}, start=10 * len(part))
    (tmp_path / "train" / "cat" / "all").symlink_to(tmp_path / "test")
    assert len(open_source(tmp_path).images) == 8
    (tmp_path / "train" / "cat" / "more").symlink_to(tmp_path / "test" / "cat")
    (tmp_path / "test" / "dog" / "one.png").symlink_to(tmp_path / "train" / "cat" / "000.png")
    source = open_source(tmp_path, for_training=False)
    assert [sorted(pair) for pair in source.files_in_two_parts()] == [
        ["test/cat/000.png", "train/cat/more/000.png"],
        ["test/cat/001.png", "train/cat/more/001.png"],
        ["test/dog/one.png", "train/cat/000.png"],
    ]
    with pytest.raises(DataError, match="3 files stand in two parts"):
        open_source(tmp_path)


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_one_file_in_two_parts_is_refused_by_its_two_names(tmp_path, link):
    for part in ("train", "val"):
        write_classes(tmp_path / part, {"cat": 2, "dog": 2}, start=10 * len(part))
    link(tmp_path / "train/cat/001.png", tmp_path / "val/cat/again.png")
    with pytest.raises(DataError, match=r"1 files .*train/cat/001.png = val/cat/again.png"):
        open_source(tmp_path)


def test_a_class_folder_linked_into_another_part_is_refused(tmp_path):
    write_classes(tmp_path / "train", {"cat": 2, "dog": 2})
    write_classes(tmp_path / "test", {"cat": 2}, start=50)
    (tmp_path / "test" / "dog").symlink_to(tmp_path / "train" / "dog")
    with pytest.raises(DataError, match="2 files stand in two parts"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ({"train": "cat dog cow", "test": "cat dog"}, "test has no image of cow, but train has"),
        ({"train": "cat dog cow", "val": "cat cow", "test": "cat dog cow"}, "val has no image of dog, but train has"),
        ({"train": "cat dog", "test": "cat dog cow"}, "train has no image of cow, but val or test has"),
    ],
)
def test_class_sets_that_differ_between_parts_are_refused(tmp_path, classes, words):
    for number, (part, names) in enumerate(classes.items()):
        write_classes(tmp_path / part, dict.fromkeys(names.split(), 2), start=20 * number)
    with pytest.raises(DataError, match=words):
        open_source(tmp_path)
    assert len(open_source(tmp_path, for_training=False).classes) == 2 + ("cow" in str(classes))


def test_links_to_elsewhere_are_followed(tmp_path):
    write_classes(tmp_path / "store", {"a": 2, "b/deep": 2})
    (tmp_path / "data" / "dog").mkdir(parents=True)
    (tmp_path / "data" / "cat").symlink_to(tmp_path / "store" / "a")
    (tmp_path / "data" / "dog" / "linked").symlink_to(tmp_path / "store" / "b")
    (tmp_path / "data" / "dog" / "twice").symlink_to(tmp_path / "store" / "b" / "deep")
    assert np.bincount(open_source(tmp_path / "data").labels).tolist() == [2, 2]


def test_pipes_are_left_out_and_dangling_links_are_candidates(tmp_path):
    write_classes(tmp_path, {"cat": 1, "dog": 1})
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    (tmp_path / "dog" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "dog" / "itself.png").symlink_to(tmp_path / "dog" / "itself.png")
    source = open_source(tmp_path)
    assert names(source) == ["cat/000.png", "dog/000.png", "dog/gone.png", "dog/itself.png"]
    assert "cat/pipe.png" in source.remarks[0]


def test_a_file_that_is_no_data_is_refused(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(encode(picture(), "JPEG"))
    with pytest.raises(DataError, match="neither a folder"):
        open_source(tmp_path / "photo.jpg")

import os

import pytest

from tests.images import encode, picture, write_classes
from vitreous.data.source import open_source
from vitreous.errors import DataError


@pytest.fixture
def folder(tmp_path):
    write_classes(tmp_path, {"all": 4})
    return tmp_path


def opened(folder, text, encoding="utf-8", **options):
    (folder / "labels.csv").write_bytes(text.encode(encoding))
    return open_source(folder / "labels.csv", **options)


def test_paths_are_relative_to_the_file(folder, monkeypatch):
    monkeypatch.chdir("/")
    source = opened(folder, f"path,label\nall/000.png,cat\n{folder}/all/001.png,dog\nall/002.png, cat \n")
    assert (source.kind, source.classes, source.labels.tolist()) == ("csv", ("cat", "dog"), [0, 1, 0])
    assert source.splits is None
    assert source.images.name(0) == "all/000.png"
    assert source.images.content(2) == (folder / "all/002.png").read_bytes()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_spreadsheets_exports_are_read(folder, encoding):
    (folder / "all" / 'ünï, "q"\n.png').write_bytes(encode(picture()))
    text = 'Label ,note,PATH,split\r\nchat,,all/000.png,Training\r\n\r\nschön,x,"all/ünï, ""q""\n.png",train\r\n'
    source = opened(folder, text + "chat,,all/001.png,validation\r\n", encoding, for_training=False)
    assert source.classes == ("chat", "schön")
    assert source.splits.tolist() == ["train", "train", "val"]
    assert source.images.name(1) == 'all/ünï, "q"\n.png'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["path,label"]),
        ("file;label\na;b\n", ["path,label", "file;label"]),
        ("path,label\n", ["holds no images"]),
        ("path,label\nall/000.png,cat\nall/001.png,cat\n", ["one class only"]),
        ("path,label\nall/000.png,cat\nall/001.png\n", ["line 3", "no label"]),
        ("path,label\n,cat\n", ["line 2", "no path"]),
        ("path,label\nall/000.png,cat\n\nall/nine.png,dog\n", ["line 4", "no file all/nine.png"]),
        ("path,label\nall,cat\n", ["line 2", "no file all"]),
        ("path,label\nall/000.png,cat\nall/000.png,dog\n", ["line 3", "after line 2"]),
        ("path,label,split\nall/000.png,cat,train\nall/001.png,dog,\n", ["some lines have a split"]),
        ("path,label,split\nall/000.png,cat,holdout\n", ["line 2", "'holdout'"]),
        ("path,label,split\nall/000.png,cat,train\nall/001.png,dog,train\nall/002.png,cow,val\n", ["cow"]),
        ('path,label\n"all/000.png,cat\n', ["line"]),
        ("path,label\nall/0\0.png,cat\n", ["labels.csv"]),
    ],
)
def test_bad_tables_are_refused_by_line(folder, text, words):
    with pytest.raises(DataError) as caught:
        opened(folder, text)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_pipe_a_name_without_end_and_a_line_without_end_are_refused(folder):
    os.mkfifo(folder / "pipe.csv")
    with pytest.raises(DataError, match="not a regular file"):
        open_source(folder / "pipe.csv")
    with pytest.raises(DataError, match=r"line 2: there is no file z{200} "):
        opened(folder, "path,label\n" + "z" * 5000 + ",cat\n")
    with (folder / "holes.csv").open("w") as file:
        file.write("path,label\n")
        file.truncate(1 << 30)
    with pytest.raises(DataError, match="a line is longer than"):
        open_source(folder / "holes.csv")


def test_text_that_is_not_utf_8_is_refused(folder):
    with pytest.raises(DataError, match="UTF-8"):
        opened(folder, "path,label\nall/000.png,schön\n", "latin-1")


def test_a_path_in_two_parts_is_seen_and_not_trained_on(folder):
    text = (
        "path,label,split\nall/000.png,cat,train\nall/001.png,dog,train\nall/000.png,cat,test\nall/002.png,dog,test\n"
    )
    source = opened(folder, text, for_training=False)
    assert source.files_in_two_parts() == [("all/000.png", "all/000.png")]
    with pytest.raises(DataError, match="1 files stand in two parts"):
        opened(folder, text)
    with pytest.raises(DataError, match=r"1 files.*all/000.png = all/../all/000.png"):
        opened(folder, text.replace("all/000.png,cat,test", "all/../all/000.png,cat,test"))


def test_further_columns_are_kept_by_their_names_in_lower_case(folder):
    source = opened(folder, "Patient,path,label,Eye\np1,all/000.png,cat,left\n p2 ,all/001.png,dog,\n")
    assert source.columns == {"patient": ("p1", "p2"), "eye": ("left", "")}
    assert source.select([1]).columns == {"patient": ("p2",), "eye": ("",)}

import os

import pytest

from tests.images import encode, picture, write_classes
from vitreous.data.exclusion import leave_out, read_exclusions, refuse_unknown
from vitreous.data.source import open_source
from vitreous.errors import DataError


def written(tmp_path, text, encoding="utf-8"):
    (tmp_path / "fix.csv").write_bytes(text.encode(encoding, "surrogateescape"))
    return tmp_path / "fix.csv"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("path\na.png\nb.png\n", {"a.png", "b.png"}),
        ("path,finding,action\na.png,broken,exclude\nb.png,duplicate,keep\nc.png,x,\n", {"a.png"}),
        ("Action,PATH\r\n Exclude ,a b.png\r\n", {"a b.png"}),
        ('path\n"new\nline, ""quoted"".png"\n', {'new\nline, "quoted".png'}),
        ("path\nb\udcff.png\n", {"b\udcff.png"}),
        ("path,action\n", set()),
    ],
)
def test_a_list_names_what_is_left_out(tmp_path, text, names):
    assert read_exclusions(written(tmp_path, text)) == names


@pytest.mark.parametrize(("text", "words"), [("", "column path"), ("name\na.png\n", "column path")])
def test_another_table_is_refused(tmp_path, text, words):
    with pytest.raises(DataError, match=words):
        read_exclusions(written(tmp_path, text))
    with pytest.raises(DataError, match="cannot be read"):
        read_exclusions(tmp_path / "absent.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match="not a regular file"):
        read_exclusions(tmp_path / "pipe.csv")


def test_what_is_left_out_is_kept_apart(tmp_path):
    write_classes(tmp_path / "data", {"cat": 3, "dog": 2})
    (tmp_path / "data" / "dog" / 'a "b"\n.png').write_bytes(encode(picture()))
    source = open_source(tmp_path / "data")
    left = leave_out(source, {"cat/001.png", 'dog/a "b"\n.png', "cow/000.png"})
    assert [left.images.name(i) for i in range(len(left.images))] == [
        "cat/000.png", "cat/002.png", "dog/000.png", "dog/001.png",
    ]  # fmt: skip
    assert left.labels.tolist() == [0, 0, 1, 1]
    assert [left.excluded.images.name(i) for i in range(2)] == ["cat/001.png", 'dog/a "b"\n.png']
    assert left.excluded.labels.tolist() == [0, 1]
    assert "left out 2 images" in left.remarks[-1]
    assert leave_out(source, {"cow/000.png"}) is source


def test_a_list_of_other_data_is_refused_and_so_is_one_of_all(tmp_path):
    source = open_source(write_classes(tmp_path, {"cat": 1, "dog": 1}))
    with pytest.raises(DataError, match=r"1 of 2 images.*cow/1.png"):
        refuse_unknown(source, {"cat/000.png", "cow/1.png"}, tmp_path / "fix.csv")
    refuse_unknown(source, {"cat/000.png"}, tmp_path / "fix.csv")
    with pytest.raises(DataError, match="all 2 images"):
        leave_out(source, {"cat/000.png", "dog/000.png"})

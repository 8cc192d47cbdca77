import pytest

from tests.images import write_classes
from vitreous.data.grouping import group_images
from vitreous.data.source import open_source
from vitreous.errors import DataError


@pytest.fixture
def source(tmp_path):
    write_classes(tmp_path, {"cat": 3, "dog": 2})
    rows = ["cat/000.png,cat,ann", "cat/001.png,cat,bob", "cat/002.png,cat,", "dog/000.png,dog,ann", "dog/001.png,dog,"]
    (tmp_path / "labels.csv").write_text("path,label,Patient\n" + "\n".join(rows) + "\n")
    return open_source(tmp_path / "labels.csv")


def test_a_column_is_a_group_and_an_empty_cell_none(source):
    for name in ("patient", "Patient"):
        grouped = group_images(source, name)
        assert grouped.groups == ("ann", "bob", "", "ann", "")
        assert grouped.remarks == (f"2 images have no group in {name}; each stands on its own",)


@pytest.mark.parametrize(
    ("pattern", "groups"),
    [
        (r"(\d+)\.png", ("000", "001", "002", "000", "001")),
        (r"/\d\d(\d)", ("0", "1", "2", "0", "1")),
        (r"^(?:cat/(.*1))?", ("", "001", "", "", "")),
        (r"(?P<animal>[^/]+)/", ("cat", "cat", "cat", "dog", "dog")),
    ],
)
def test_a_pattern_is_searched_for_in_the_name(source, pattern, groups):
    assert group_images(source, pattern).groups == groups


@pytest.mark.parametrize(
    ("group_by", "words"),
    [
        ("doctor", ["doctor", "column (patient)", "one (group)"]),
        ("(cat", ["(cat", "one (group)"]),
        (r"(c)(at)", ["one (group)"]),
        (r"(cat)/", ["2 of 5", "dog/000.png"]),
    ],
)
def test_what_groups_nothing_or_not_all_is_refused(source, group_by, words):
    with pytest.raises(DataError) as caught:
        group_images(source, group_by)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert len(str(caught.value).splitlines()) == 1

"""The fix list holds every file by its exact name, and training reads it back."""

from vitreous.checks.finding import Finding
from vitreous.checks.fix_list import write_fix_list
from vitreous.data.exclusion import read_exclusions
from vitreous.storage import read_csv


def finding(code, files, exclude=()):
    return Finding(code, "mend", "the files", "", "", "", files=files, count=len(files), exclude=exclude)


def test_names_from_hell_come_back(tmp_path):
    names = (
        "a,b.jpg",
        'quote".jpg',
        "new\nline.jpg",
        " space .jpg",
        "caf\udce9.jpg",
        "写真/été.jpg",
        "-rf",
        "=1+1.png",
    )
    kept = ("stays.jpg",)
    num = write_fix_list([finding("unreadable", names + kept, names)], tmp_path / "fixes.csv")
    assert num == len(names)
    assert read_exclusions(tmp_path / "fixes.csv") == set(names)
    rows = list(read_csv(tmp_path / "fixes.csv"))
    assert [row["path"] for row in rows] == [*names, *kept]
    assert rows[-1] == {"path": "stays.jpg", "finding": "unreadable", "action": "look"}


def test_a_file_in_two_findings_is_left_out_once(tmp_path):
    findings = [finding("leak", ("a", "b"), ("a",)), finding("label-conflict", ("a", "c"), ("a", "c"))]
    assert write_fix_list(findings, tmp_path / "fixes.csv") == 2
    assert read_exclusions(tmp_path / "fixes.csv") == {"a", "c"}


def test_no_finding_is_an_empty_list(tmp_path):
    assert write_fix_list([], tmp_path / "fixes.csv") == 0
    assert read_exclusions(tmp_path / "fixes.csv") == set()

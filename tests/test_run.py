import json

import pytest

from vitreous.config import Config
from vitreous.errors import RunError
from vitreous.run import Run, SplitRow, free_run_path, list_runs, run_path

MANIFEST = {"classes": ["cat", "dog"], "weights": None}
ROWS = [
    SplitRow("ab" * 32, 'a, "b"\nc.png', "cat", "train"),
    SplitRow("cd" * 32, "d.png", "dog", "test", 'ward "3", bed\n2', "ab" * 32),
]


def make(path):
    return Run.create(path, Config(seed=5), MANIFEST, ROWS)


def test_a_new_run_holds_config_manifest_and_splits_before_any_step(tmp_path):
    make(tmp_path / "runs" / "one")
    run = Run.open(tmp_path / "runs" / "one")
    assert run.status == "running"
    assert run.config == Config(seed=5)
    assert list(run.splits()) == ROWS
    assert run.classes == ("cat", "dog")


def test_splits_from_before_there_were_groups_and_pictures_are_read(tmp_path):
    run = make(tmp_path / "one")
    run.update_manifest(files={})
    run.path.joinpath("splits.csv").write_text("content_hash,path,class,group,split\nab,c.png,cat,,train\n")
    assert list(run.splits()) == [SplitRow("ab", "c.png", "cat", "train", "", "")]


def test_a_run_is_never_written_over(tmp_path):
    path = make(tmp_path / "one").path
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    with pytest.raises(RunError, match=r"exists already.*--run"):
        make(path)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before


def test_names_lie_below_runs_and_free_ones_are_found(tmp_path):
    assert run_path("a").parts == ("runs", "a")
    assert run_path("x/a").parts == ("x", "a")
    make(tmp_path / "a")
    make(tmp_path / "a-2")
    assert free_run_path("a", tmp_path).name == "a-3"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"schema": 1}', "damaged"),
        ('{"schema": 99, "status": "complete"}', "newer"),
    ],
)
def test_a_damaged_or_newer_manifest_is_refused_by_name(tmp_path, text, reason):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(RunError, match=reason):
        Run.open(tmp_path)


def test_a_folder_that_is_no_run_is_said_so(tmp_path):
    with pytest.raises(RunError, match="not a run folder"):
        Run.open(tmp_path)


def test_a_flipped_bit_in_the_weights_is_found(tmp_path):
    run = make(tmp_path / "one")
    with pytest.raises(RunError, match=r"no weights yet.*resume"):
        run.verified_weights()
    run.weights_path.write_bytes(b"weights")
    run.update_manifest(weights={"sha256": "0" * 64})
    with pytest.raises(RunError, match="not what training wrote"):
        run.verified_weights()


def test_metrics_are_appended_and_a_torn_last_line_is_left_out(tmp_path):
    run = make(tmp_path / "one")
    for epoch in (1, 2, 3):
        run.append_metrics({"epoch": epoch})
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"epo')
    assert [line["epoch"] for line in run.metrics()] == [1, 2, 3]
    run.rewind_metrics(2)
    assert (run.path / "metrics.jsonl").read_text() == '{"epoch": 1}\n{"epoch": 2}\n'


def test_an_unwritable_place_leaves_nothing_behind(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be made"):
        make(tmp_path / "file" / "run")


def test_runs_are_listed_by_name_and_other_folders_passed_over(tmp_path):
    make(tmp_path / "b")
    make(tmp_path / "a")
    (tmp_path / "c").mkdir()
    (make(tmp_path / "d").path / "manifest.json").write_text("{")
    runs, problems = list_runs(tmp_path)
    assert [run.name for run in runs] == ["a", "b"]
    assert len(problems) == 1
    assert "damaged" in problems[0]
    assert list_runs(tmp_path / "absent") == ([], [])


def test_a_manifest_is_plain_json(tmp_path):
    run = make(tmp_path / "one")
    run.update_manifest(status="complete", note="é")
    assert json.loads((run.path / "manifest.json").read_text(encoding="utf-8"))["note"] == "é"

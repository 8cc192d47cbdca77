import csv
import io
import json
import os
import subprocess
import sys

import pytest

import vitreous


@pytest.fixture
def run(photos, tmp_path):
    settings = {"model": "conv4s4 gap fc", "epochs": 1, "engine.precision": "fp32"}
    return vitreous.train(photos, run=tmp_path / "run", **settings)


def test_files_and_folders_as_table_json_and_csv(cli, run, photos):
    status, out, _ = cli("predict", run.path, photos / "dark" / "0.jpg")
    assert status == 0
    assert any(name in out for name in run.classes)
    status, out, _ = cli("predict", run.path, photos, "--json")
    document = json.loads(out)
    assert status == 0
    assert document["classes"] == ["bright", "dark", "middle"]
    assert document["model_sha256"] == run.manifest["weights"]["sha256"]
    assert len(document["predictions"]) == 72
    for row in document["predictions"]:
        assert sum(row["probabilities"].values()) == pytest.approx(1)
        assert row["confidence"] == max(row["probabilities"].values()) == row["probabilities"][row["label"]]
    _, out, _ = cli("predict", run.path, photos, "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [(row["path"], row["label"]) for row in rows] == [(r["path"], r["label"]) for r in document["predictions"]]


def test_a_broken_file_is_one_error_row_and_the_others_are_answered(cli, run, photos, tmp_path):
    (tmp_path / "broken.jpg").write_bytes((photos / "dark" / "0.jpg").read_bytes()[:200])
    paths = [photos / "dark" / "0.jpg", tmp_path / "broken.jpg", tmp_path / "absent.jpg", photos / "bright" / "0.jpg"]
    status, out, _ = cli("predict", run.path, *paths, "--json")
    rows = json.loads(out)["predictions"]
    assert status == 1
    assert [row["path"] for row in rows] == [str(path) for path in paths]
    assert ["error" in row for row in rows] == [False, True, True, False]
    status, out, err = cli("predict", run.path, *paths)
    assert status == 1
    assert "broken.jpg" in out
    assert "2 of 4" in err
    status, out, _ = cli("predict", run.path, *paths, "--csv")
    assert status == 1
    assert [bool(row["error"]) for row in csv.DictReader(io.StringIO(out))] == [False, True, True, False]


def test_stdin_as_an_image_and_as_a_list(run, photos, tmp_path):
    command = [sys.executable, "-m", "vitreous", "predict", run.path, "--json"]
    image = (photos / "dark" / "0.jpg").read_bytes()
    done = subprocess.run([*command, "-"], input=image, capture_output=True, check=True)
    (row,) = json.loads(done.stdout)["predictions"]
    assert row["path"] == "-"
    assert row["probabilities"] == dict(
        zip(run.classes, vitreous.load_run(run.path).predict(image).probabilities, strict=True)
    )
    awkward = photos / "dark" / "new\nline.jpg"
    awkward.write_bytes(image)
    listed = b"\0".join(os.fsencode(path) for path in (awkward, photos / "bright" / "0.jpg"))
    done = subprocess.run([*command, "--files-from", "-"], input=listed, capture_output=True, check=True)
    first, second = json.loads(done.stdout)["predictions"]
    assert (first["path"], second["path"]) == (str(awkward), str(photos / "bright" / "0.jpg"))


def test_one_image_gets_the_same_answer_from_path_bytes_and_array(run, photos):
    from vitreous.data.decode import decode

    predictor, path = vitreous.load_run(run.path), photos / "middle" / "3.jpg"
    answers = [predictor.predict(image) for image in (path, path.read_bytes(), decode(path))]
    assert answers[0] == answers[1] == answers[2]


def test_runs_and_report_commands(cli, run, tmp_path):
    status, out, _ = cli("runs", tmp_path, "--json")
    (row,) = json.loads(out)["runs"]
    assert (status, row["status"], row["model"]) == (0, "complete", "conv4s4 gap fc")
    status, out, _ = cli("runs", tmp_path)
    assert status == 0
    assert "complete" in out
    status, out, _ = cli("report", run.path, "--no-images")
    assert status == 0
    assert out.strip() == str(run.path / "report.html")


def test_models_and_cache_commands(cli):
    status, out, _ = cli("models", "--json")
    rows = {row["name"]: row for row in json.loads(out)["models"]}
    assert status == 0
    assert rows["lenet5"]["parameters"] == 61_706
    assert rows["lenet5-1998"]["parameters"] == 60_000
    status, out, _ = cli("cache", "--json")
    assert json.loads(out)["bytes"] >= 0
    assert cli("cache", "--clear")[0] == 0
    assert json.loads(cli("cache", "--json")[1])["packs"] == 0

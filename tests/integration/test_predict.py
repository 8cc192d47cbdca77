import csv
import io
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import vitreous
from tests.conftest import make_photos
from vitreous.progress import SILENT
from vitreous.run import Run
from vitreous.workflow.calibrating import mend_calibration


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


def test_what_too_small_a_run_cannot_promise_is_refused_before_anything_is_printed(cli, run, photos):
    for form in ((), ("--json",), ("--csv",)):
        status, out, err = cli("predict", run.path, photos / "dark" / "0.jpg", "--coverage", "0.9", *form)
        assert (status, out) == (2, "")
        assert "more validation images" in err
    prediction = vitreous.load_run(run.path).predict(photos / "dark" / "0.jpg")
    assert (prediction.candidates, prediction.is_familiar) == ((), None)
    status, out, err = cli("evaluate", run.path, "--coverage", "0.9")
    assert (status, out) == (2, "")


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    """A run with calibration images, and its photographs."""
    folder = tmp_path_factory.mktemp("calibrated")
    photos = make_photos(folder / "photos", num_per_class=80)
    asked = {"model": "conv8s2 conv8s2 gap fc", "epochs": 4, "engine.precision": "fp32", "data.val_fraction": 0.5}
    return vitreous.train(photos, run=folder / "run", **asked), photos


def test_candidates_and_familiarity_in_every_form(cli, calibrated, tmp_path):
    run, photos = calibrated
    stripes = np.zeros((30, 30, 3), np.uint8)
    stripes[::2, :, 0] = stripes[:, ::2, 1] = 255
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    paths = [photos / "dark" / "0.jpg", photos / "bright" / "1.jpg", tmp_path / "stripes.png"]
    status, out, _ = cli("predict", run.path, *paths, "--coverage", "0.9", "--json")
    rows = json.loads(out)["predictions"]
    assert status == 0
    for row in rows:
        assert row["candidates"][0] == row["label"]
        assert 0 < row["familiarity"] <= 1
        assert row["is_familiar"] is (row["familiarity"] > 0.05)
    assert not rows[2]["is_familiar"]
    _, out, err = cli("predict", run.path, *paths, "--coverage", "0.9")
    assert "unfamiliar (nearest" in out
    assert "candidates" in out
    assert "1 of 3 images" in err
    _, out, _ = cli("predict", run.path, *paths, "--coverage", "0.9", "--csv")
    table = list(csv.DictReader(io.StringIO(out)))
    assert [json.loads(row["candidates"]) for row in table] == [row["candidates"] for row in rows]
    assert [float(row["familiarity"]) for row in table] == [row["familiarity"] for row in rows]
    _, out, _ = cli("predict", run.path, *paths, "--json")
    assert all("candidates" not in row for row in json.loads(out)["predictions"])


def test_a_run_from_before_calibration_still_predicts_and_is_scored(cli, calibrated, tmp_path):
    run, photos = calibrated
    shutil.copytree(run.path, tmp_path / "old")
    old = Run.open(tmp_path / "old")
    old.manifest.pop("calibration")
    old.update_manifest()
    for name in ("calibration.json", "familiarity.safetensors"):
        (old.path / name).unlink()
    status, out, _ = cli("predict", old.path, photos / "dark" / "0.jpg", "--json")
    (row,) = json.loads(out)["predictions"]
    assert status == 0
    assert set(row) == {"path", "label", "confidence", "probabilities"}
    status, out, _ = cli("evaluate", old.path, "--json")
    scores = json.loads(out)
    assert (status, scores["temperature"]) == (0, 1.0)
    assert "coverage" not in scores
    assert scores["accuracy"] == json.loads(cli("evaluate", run.path, "--json")[1])["accuracy"]


def test_coverage_is_held_against_new_images_only(cli, calibrated):
    run, _ = calibrated
    scores = vitreous.evaluate(run.path, coverage=0.8)
    assert scores["coverage"]["asked"] == 0.8
    assert set(scores["coverage"]["per_class"]) == set(run.classes)
    assert "coverage" not in vitreous.evaluate(run.path, split="val")
    status, _, err = cli("evaluate", run.path, "--split", "val", "--coverage", "0.8")
    assert status == 2
    assert "--split test" in err
    status, out, _ = cli("evaluate", run.path)
    assert status == 0
    assert "sets for a coverage of 90.0%" in out


def test_a_damaged_calibration_is_not_used(cli, calibrated, tmp_path):
    run, photos = calibrated
    shutil.copytree(run.path, tmp_path / "damaged")
    file = tmp_path / "damaged" / "calibration.json"
    file.write_text(file.read_text().replace("0.", "1.", 1))
    status, out, err = cli("predict", tmp_path / "damaged", photos / "dark" / "0.jpg")
    assert (status, out) == (2, "")
    assert "calibration" in err
    mend_calibration(Run.open(tmp_path / "damaged"), SILENT)
    assert file.read_bytes() == (run.path / "calibration.json").read_bytes()


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


def test_the_mean_over_the_mirror_image_is_the_same_for_both(cli, run, photos, tmp_path):
    image = Image.open(photos / "dark" / "0.jpg")
    image.save(tmp_path / "one.png")
    image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "other.png")
    paths = tmp_path / "one.png", tmp_path / "other.png"
    one, other = json.loads(cli("predict", run.path, *paths, "--tta", "--json")[1])["predictions"]
    assert one["probabilities"] == pytest.approx(other["probabilities"], rel=1e-5)
    status, out, _ = cli("evaluate", run.path, "--tta", "--json")
    assert (status, json.loads(out)["tta"]) == (0, True)
    assert "mirror image" in cli("evaluate", run.path, "--tta")[1]
    assert "tta" not in json.loads(cli("evaluate", run.path, "--json")[1])
    for command in (("evaluate", run.path), ("predict", run.path, paths[0])):
        status, _, err = cli(*command, "--tta", "--coverage", "0.9")
        assert (status, "leave one out" in err) == (2, True)

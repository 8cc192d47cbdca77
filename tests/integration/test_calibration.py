"""What is learned from validation images, from training to the command line."""

import json

import numpy as np
import pytest

import vitreous
from vitreous.predictor.calibration import CALIBRATION_FILE


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    settings = {"model": "conv8s2 conv16s2 gap fc", "epochs": 2, "engine.precision": "fp32"}
    return vitreous.train("digits", run=tmp_path_factory.mktemp("runs") / "run", **settings)


def test_scores_keep_what_was_promised(cli, run):
    status, out, _ = cli("evaluate", run.path, "--json", "--coverage", 0.8)
    scores = json.loads(out)
    assert status == 0
    assert scores["coverage"]["asked"] == 0.8
    assert scores["coverage"]["seen"]["value"] > 0.6
    assert scores["temperature"] == run.manifest["calibration"]["temperature"]
    assert scores["log_loss"] == pytest.approx(run.manifest["scores"]["test"]["log_loss"])
    assert scores["familiarity"]["num_unfamiliar"] < scores["num_images"] / 4
    status, out, _ = cli("evaluate", run.path)
    assert status == 0
    assert "sets for a coverage of 90.0%" in out


def test_candidates_hold_the_answer_and_stay_away_unless_asked_for(run):
    from sklearn.datasets import load_digits

    predictor = vitreous.load_run(run.path)
    pixels = [image.clip(0, 15).astype(np.uint8) * 17 for image in load_digits().images[:40]]
    for plain, asked in zip(predictor.predict_many(pixels), predictor.predict_many(pixels, coverage=0.9), strict=True):
        assert plain.candidates == ()
        assert asked.candidates[0] == asked.label == plain.label
        assert 0 < plain.familiarity <= 1


def test_a_coverage_beyond_the_images_is_refused_before_anything_is_answered(cli, run, photos):
    status, out, err = cli("predict", run.path, photos, "--coverage", 0.9999)
    assert (status, out) == (2, "")
    assert "needs 9999 calibration images" in err


def test_a_damaged_calibration_is_found(cli, run, photos):
    file = run.path / CALIBRATION_FILE
    whole = file.read_bytes()
    file.write_bytes(whole[:-9])
    try:
        status, _, err = cli("predict", run.path, photos)
    finally:
        file.write_bytes(whole)
    assert status == 2
    assert "calibration" in err
    assert "damaged" in err


def test_a_run_without_enough_validation_images_says_so(cli, photos, tmp_path):
    run = vitreous.train(photos, run=tmp_path / "few", model="conv4s4 gap fc", epochs=1)
    status, _, err = cli("predict", run.path, photos, "--coverage", 0.9)
    assert status == 2
    assert "no images set aside for calibration" in err
    assert vitreous.load_run(run.path).predict(photos / "dark" / "0.jpg").is_familiar is None

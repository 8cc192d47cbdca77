import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import decimals, integers

from vitreous import storage
from vitreous.config import Config
from vitreous.errors import ConfigError, RunError
from vitreous.predictor.calibration import (
    Calibration,
    Familiarity,
    conformal_rank,
    conformal_scores,
    read_calibration,
    write_calibration,
)
from vitreous.run import Run

FAMILIARITY = Familiarity(
    np.eye(2, 3, dtype=np.float32), np.eye(3, 1, dtype=np.float32), np.array([2.0]), 0.5, np.arange(19.0)
)


@pytest.fixture
def run(tmp_path):
    run = Run.create(tmp_path / "run", Config(), {"classes": ["a", "b"]}, [])
    run.update_manifest(weights={"sha256": "0" * 64})
    return run


@given(coverage=decimals("0.01", "0.99", places=2), num=integers(1, 200))
def test_the_rank_is_the_smallest_that_covers(coverage, num):
    rank = conformal_rank(float(coverage), num)
    assert Fraction(rank, num + 1) >= Fraction(str(coverage)) > Fraction(rank - 1, num + 1)


@pytest.mark.parametrize(("coverage", "least"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99), (0.999, 999)])
def test_too_few_images_for_a_coverage_are_refused(coverage, least):
    assert Calibration(scores=np.arange(least)).threshold(coverage) == least - 1
    if least > 1:
        with pytest.raises(ConfigError, match=f"needs {least} calibration images, this run has {least - 1}"):
            Calibration(scores=np.linspace(0, 1, least - 1)).threshold(coverage)


@pytest.mark.parametrize("coverage", [0, 1, -0.1, 90, float("nan")])
def test_what_is_no_share_is_refused(coverage):
    with pytest.raises(ConfigError, match="between 0 and 1"):
        Calibration(scores=np.zeros(1000)).threshold(coverage)


def test_without_calibration_images_no_coverage_is_promised():
    with pytest.raises(ConfigError, match="no images set aside"):
        Calibration().threshold(0.5)


def test_the_answer_is_always_a_candidate_and_probabilities_are_left_alone():
    probabilities = np.array([[0.5, 0.3, 0.2], [0.98, 0.01, 0.01]])
    before = probabilities.copy()
    sure = Calibration(scores=np.zeros(99))
    assert sure.candidates(probabilities, 0.9).tolist() == [[True, False, False]] * 2
    unsure = Calibration(scores=np.full(99, 0.75))
    assert unsure.candidates(probabilities, 0.9).tolist() == [[True, True, False], [True, False, False]]
    assert (probabilities == before).all()
    assert conformal_scores(probabilities)[0].tolist() == [0, 0.7, 0.8]


@pytest.mark.parametrize("familiarity", [None, FAMILIARITY])
@pytest.mark.parametrize("scores", [None, np.array([0.0, 1 / 3, 0.7])])
def test_what_is_written_is_read(run, scores, familiarity):
    write_calibration(run, Calibration(1.7, 20, scores, familiarity))
    read = read_calibration(Run.open(run.path))
    assert (read.temperature, read.num_selecting) == (1.7, 20)
    assert (read.scores is None) == (scores is None)
    assert scores is None or (read.scores == scores).all()
    assert (read.familiarity is None) == (familiarity is None)
    if familiarity is not None:
        some = np.random.default_rng(0).normal(size=(5, 3))
        assert (read.familiarity.familiarity(some) == familiarity.familiarity(some)).all()
    again = {file.name: file.read_bytes() for file in run.path.glob("*.*")}
    write_calibration(run, Calibration(1.7, 20, scores, familiarity))
    assert {file.name: file.read_bytes() for file in run.path.glob("*.*")} == again


def test_a_run_of_an_older_version_has_none(run):
    assert read_calibration(run) is None


@pytest.mark.parametrize("name", ["calibration.json", "familiarity.safetensors"])
def test_every_damage_is_seen(run, name):
    write_calibration(run, Calibration(1.7, 20, np.array([0.5]), FAMILIARITY))
    file = run.path / name
    whole = file.read_bytes()
    random = np.random.default_rng(0)
    for number in range(200):
        place = int(random.integers(len(whole)))
        flipped = whole[:place] + bytes([whole[place] ^ (1 << number % 8)]) + whole[place + 1 :]
        file.write_bytes(whole[:place] if number % 2 else flipped)
        with pytest.raises(RunError, match=r"calibration of .* is damaged .* makes it again"):
            read_calibration(run)
    file.unlink()
    with pytest.raises(RunError, match="damaged"):
        read_calibration(run)
    file.write_bytes(whole)
    assert read_calibration(run) is not None


def test_a_calibration_of_other_weights_is_refused(run):
    write_calibration(run, Calibration(1.7, 20))
    run.update_manifest(weights={"sha256": "1" * 64})
    with pytest.raises(RunError, match="other weights"):
        read_calibration(run)


@pytest.mark.parametrize(
    "change",
    [
        *({"temperature": 0}, {"temperature": "x"}, {"temperature": None}, {"num_selecting": None}),
        *({"scores": {}}, {"scores": [[1]]}, {"scores": 3}, {"scores": [2]}, {"scores": []}),
        {"familiarity_sha256": "0" * 64},
    ],
)
def test_forged_contents_are_refused_though_the_hash_is_right(run, change):
    write_calibration(run, Calibration(1.7, 20, np.array([0.5])))
    document = json.loads((run.path / "calibration.json").read_text()) | change
    (run.path / "calibration.json").write_text(json.dumps(document))
    run.update_manifest(calibration={"sha256": storage.sha256_file(run.path / "calibration.json")})
    with pytest.raises(RunError, match="damaged"):
        read_calibration(run)


def test_distances_are_mahalanobis():
    """Variance 2 along the first axis, 0.5 across: by hand, after scaling to length 1."""
    assert FAMILIARITY.distance(np.array([[0.0, 0.0, 5.0]])) == pytest.approx([min(1 / 2 + 1 / 0.5, 1 / 0.5 + 1 / 0.5)])
    assert FAMILIARITY.distance(np.array([[2.0, 0.0, 0.0]])) == pytest.approx([0])
    assert FAMILIARITY.familiarity(np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])) == pytest.approx([1.0, 17 / 20])

import numpy as np
import pytest
from scipy.stats import betabinom

from tests.evaluation.test_calibration import world
from vitreous.evaluation.calibration import calibrate
from vitreous.evaluation.coverage import expected_coverage, measure_coverage
from vitreous.predictor import softmax

CLASSES = ("a", "b", "c", "d")
NONE = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64))


@pytest.mark.parametrize(("num_calibrating", "coverage"), [(19, 0.95), (40, 0.9), (101, 0.8)])
def test_the_promise_is_kept_over_many_data_sets(num_calibrating, coverage):
    """The mean over 400 worlds: at least the coverage, and 1 / (n + 1) above it at most where nothing ties."""
    seen = []
    for seed in range(400):
        calibration = calibrate(NONE, world(num_calibrating, 1.0, seed))
        logits, labels = world(500, 1.0, 10_000 + seed)
        seen.append(calibration.candidates(softmax(logits), coverage)[np.arange(500), labels].mean())
    error = 2.5 * np.std(seen) / np.sqrt(len(seen))
    assert coverage - error < np.mean(seen) < coverage + 1 / (num_calibrating + 1) + error
    expected = expected_coverage(coverage, num_calibrating, 500)
    inside = (np.array(seen) >= expected.low) & (np.array(seen) <= expected.high)
    assert inside.mean() == pytest.approx(0.95, abs=0.035)


def test_where_the_answer_suffices_every_set_is_one_class():
    logits, labels = world(300, 1.0, 1)
    logits = logits + 30 * np.eye(4, dtype=np.float32)[labels]
    calibration = calibrate(NONE, (logits, labels))
    measured = measure_coverage(calibration, softmax(logits), labels, CLASSES, 0.9)
    assert (measured.seen.value, measured.mean_size, measured.num_single, measured.is_kept) == (1.0, 1.0, 300, True)


def test_broken_promises_are_seen():
    calibration = calibrate(NONE, world(500, 1.0, 2))
    logits, labels = world(500, 1.0, 3)
    measured = measure_coverage(calibration, softmax(logits), (labels + 1) % 4, CLASSES, 0.9)
    assert not measured.is_kept
    assert measured.to_json()["is_kept"] is False


def test_coverage_is_counted_by_class():
    calibration = calibrate(NONE, world(99, 1.0, 4))
    logits, labels = world(400, 1.0, 5)
    labels = labels.clip(max=2)
    measured = measure_coverage(calibration, softmax(logits), labels, CLASSES, 0.9)
    counts = np.bincount(labels, minlength=4)
    covered = sum(share.value * counts[k] for k, share in enumerate(measured.per_class.values()))
    assert covered == pytest.approx(measured.seen.value * 400)
    assert (measured.per_class["d"].low, measured.per_class["d"].high) == (0.0, 1.0)


def test_the_interval_is_the_beta_binomials():
    interval = expected_coverage(0.9, 99, 1000)
    drawn = betabinom(1000, 90, 10).rvs(size=100_000, random_state=0) / 1000
    assert (interval.low, interval.high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.002)

import numpy as np
import pytest
from scipy.stats import norm

from vitreous.evaluation.reliability import calibration_error, is_by_chance, reliability_bins


def answers(num, overconfidence, seed):
    """Sorted confidences of a two-class network, and whether each answer is right; the true error in expectation."""
    random = np.random.default_rng(seed)
    leads = np.sort(np.abs(random.normal(2.2, 1.5, num)))
    true, said = 1 / (1 + np.exp(-leads)), 1 / (1 + np.exp(-leads * overconfidence))
    return said, random.random(num) < true, np.abs(said - true).mean()


def test_a_worked_example():
    """Two images, one bin: mean confidence 0.7, half of them right, so off by 0.2; that half is uncertain by 0.354."""
    corrected, counted = calibration_error(np.array([0.6, 0.8]), np.array([True, False]))
    assert counted == pytest.approx(0.2)
    spread = np.sqrt(0.25 / 2)
    expected = norm(0.2, spread).expect(abs)
    assert corrected == pytest.approx(max(0, 0.2 - (expected - 0.2)), abs=1e-6)


def test_bins_are_of_equal_mass_and_hold_all_images():
    confidence, is_right, _ = answers(1003, 1.5, 0)
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    bins = reliability_bins(probabilities, np.where(is_right, 0, 1))
    assert len(bins) == 15
    assert {each.num_images for each in bins} == {66, 67}
    assert [each.confidence for each in bins] == sorted(each.confidence for each in bins)
    assert sum(each.accuracy * each.num_images for each in bins) == pytest.approx(is_right.sum())
    counted = sum(abs(each.accuracy - each.confidence) * each.num_images for each in bins) / 1003
    assert calibration_error(confidence, is_right)[1] == pytest.approx(counted)


@pytest.mark.parametrize(("num", "overconfidence"), [(1000, 1.0), (300, 1.5), (1000, 1.2)])
def test_the_correction_comes_nearer_to_the_truth(num, overconfidence):
    runs = [answers(num, overconfidence, seed) for seed in range(60)]
    truth = np.mean([true for _, _, true in runs])
    corrected, counted = np.mean([calibration_error(confidence, right) for confidence, right, _ in runs], axis=0)
    assert abs(corrected - truth) < abs(counted - truth)
    assert corrected == pytest.approx(truth, abs=0.025)


def test_true_confidence_is_told_from_false():
    by_chance = [is_by_chance(calibration_error(c, r)[1], c) for c, r, _ in (answers(500, 1.0, s) for s in range(10))]
    false = [is_by_chance(calibration_error(c, r)[1], c) for c, r, _ in (answers(500, 2.5, s) for s in range(10))]
    assert sum(by_chance) >= 8
    assert sum(false) == 0


def test_one_image_has_one_bin():
    assert len(reliability_bins(np.array([[0.3, 0.7]]), np.array([1]))) == 1

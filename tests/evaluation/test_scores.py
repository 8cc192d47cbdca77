import numpy as np
import pytest

from vitreous.evaluation.scores import log_loss, score, wilson


def test_the_figures_of_a_worked_example():
    """Six images, three classes, counted by hand."""
    answers = [0, 0, 1, 1, 1, 2]
    labels = np.array([0, 1, 1, 1, 0, 2])
    logits = np.eye(3, dtype=np.float32)[answers] * 2
    scores = score(logits, labels, ("a", "b", "c"))
    assert scores.accuracy.value == pytest.approx(4 / 6)
    assert scores.confusion == ((1, 1, 0), (1, 2, 0), (0, 0, 1))
    assert scores.per_class["b"].precision == pytest.approx(2 / 3)
    assert scores.per_class["b"].recall.value == pytest.approx(2 / 3)
    assert scores.per_class["a"].f1 == pytest.approx(0.5)
    assert scores.balanced_accuracy == pytest.approx((1 / 2 + 2 / 3 + 1) / 3)
    right, wrong = np.exp(2) / (np.exp(2) + 2), 1 / (np.exp(2) + 2)
    assert scores.log_loss == pytest.approx(-(4 * np.log(right) + 2 * np.log(wrong)) / 6)


def test_a_class_that_no_image_shows_does_not_enter_the_averages():
    scores = score(np.eye(3, dtype=np.float32)[[0, 1]], np.array([0, 1]), ("a", "b", "absent"))
    assert scores.balanced_accuracy == 1.0
    assert scores.macro_f1 == 1.0
    assert scores.per_class["absent"].support == 0
    assert (scores.per_class["absent"].recall.low, scores.per_class["absent"].recall.high) == (0.0, 1.0)


def test_wilsons_interval_is_the_published_one():
    """Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662; 0 of 20 gives 0 to 0.1611."""
    assert (wilson(81, 263).low, wilson(81, 263).high) == (
        pytest.approx(0.2553, abs=1e-4),
        pytest.approx(0.3662, abs=1e-4),
    )
    assert (wilson(0, 20).low, wilson(0, 20).high) == (pytest.approx(0, abs=1e-12), pytest.approx(0.1611, abs=1e-4))


def test_certain_and_wrong_is_a_large_finite_loss():
    assert log_loss(np.array([[2000.0, 0.0]], np.float32), np.array([1])) == pytest.approx(-np.log(1e-15))

import numpy as np
import pytest
from sklearn import metrics

from vitreous.evaluation.scores import log_loss, score
from vitreous.predictor import softmax


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


def test_certain_and_wrong_is_a_large_finite_loss():
    assert log_loss(np.array([[2000.0, 0.0]], np.float32), np.array([1])) == pytest.approx(-np.log(1e-15))


def answers(num, num_classes, seed, sharpness=2.0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, num_classes, num)
    logits = random.normal(0, 1, (num, num_classes)) + sharpness * np.eye(num_classes)[labels]
    return logits.astype(np.float32), labels


@pytest.mark.parametrize("num_classes", [2, 3, 8])
@pytest.mark.parametrize("temperature", [1.0, 0.4])
def test_the_figures_are_scikit_learns(num_classes, temperature):
    logits, labels = answers(300, num_classes, seed=num_classes)
    names = [str(k) for k in range(num_classes)]
    scores = score(logits, labels, names, temperature)
    probabilities, said = softmax(logits, temperature), logits.argmax(axis=1)
    assert scores.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(labels, said))
    assert scores.macro_f1 == pytest.approx(metrics.f1_score(labels, said, average="macro"))
    assert scores.log_loss == pytest.approx(metrics.log_loss(labels, probabilities))
    one_hot = np.eye(num_classes)[labels]
    by_class = [metrics.brier_score_loss(one_hot[:, k], probabilities[:, k]) for k in range(num_classes)]
    assert scores.brier == pytest.approx(sum(by_class))
    if num_classes > 2:
        top_k = metrics.top_k_accuracy_score(labels, logits, k=scores.k, labels=range(num_classes))
        assert scores.top_k.value == pytest.approx(top_k)
    else:
        assert scores.top_k is None
    for name, interval in scores.intervals.items():
        assert interval.low <= getattr(scores, name) <= interval.high, name
    for each in scores.per_class.values():
        assert each.f1_interval.low <= each.f1 <= each.f1_interval.high
        assert each.precision_interval.low <= each.precision <= each.precision_interval.high


def test_of_equal_logits_the_first_class_counts():
    """As argmax has it, so that no network is among the best by giving all classes the same."""
    scores = score(np.zeros((7, 7), np.float32), np.arange(7), [str(k) for k in range(7)])
    assert (scores.accuracy.value, scores.top_k.value) == (pytest.approx(1 / 7), pytest.approx(5 / 7))


def test_without_a_mistake_nothing_is_certain():
    scores = score(np.eye(3, dtype=np.float32)[np.arange(30) % 3] * 9, np.arange(30) % 3, ("a", "b", "c"))
    for name in ("balanced_accuracy", "macro_f1"):
        assert scores.intervals[name].low < 0.99
        assert scores.intervals[name].high > 0.99
    assert scores.per_class["a"].f1_interval.low < 0.99


def test_the_same_answers_give_the_same_bits():
    logits, labels = answers(100, 4, seed=1)
    assert score(logits, labels, "abcd") == score(logits, labels, "abcd")


def test_one_image_is_scored():
    scores = score(np.array([[1.0, 0.0, 0.0]], np.float32), np.array([0]), ("a", "b", "c"))
    assert scores.accuracy.value == 1.0
    assert scores.to_json()["intervals"]["log_loss"]["low"] == pytest.approx(scores.log_loss)


@pytest.mark.slow
@pytest.mark.parametrize(("num", "num_classes", "sharpness"), [(100, 3, 3.0), (300, 5, 3.0)])
def test_intervals_hold_the_truth(num, num_classes, sharpness):
    """Of 150 data sets of one world; the truth is that of 200,000 images."""
    names = [str(k) for k in range(num_classes)]
    logits, labels = answers(200_000, num_classes, seed=0, sharpness=sharpness)
    probabilities, said = softmax(logits), logits.argmax(axis=1)
    truth = {
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, said),
        "macro_f1": metrics.f1_score(labels, said, average="macro"),
        "log_loss": metrics.log_loss(labels, probabilities),
        "brier": ((probabilities - np.eye(num_classes)[labels]) ** 2).sum(axis=1).mean(),
    }
    drawn = [score(*answers(num, num_classes, 1 + seed, sharpness), names).intervals for seed in range(150)]
    for name, value in truth.items():
        assert np.mean([each[name].low <= value <= each[name].high for each in drawn]) > 0.87, name

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import floats, integers
from sklearn.metrics import log_loss

from vitreous.evaluation.calibration import calibrate, fit_temperature
from vitreous.predictor import softmax

NONE = (np.zeros((0, 3), np.float32), np.zeros(0, np.int64))


def world(num, temperature, seed, num_classes=4):
    """Logits whose softmax over the temperature is the truth."""
    random = np.random.default_rng(seed)
    logits = (random.normal(0, 2, (num, num_classes)) * temperature).astype(np.float32)
    labels = (softmax(logits, temperature).cumsum(axis=1) < random.random((num, 1))).sum(axis=1)
    return logits, labels.clip(max=num_classes - 1)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_temperature_is_found_again(temperature):
    assert fit_temperature(*world(20_000, temperature, 0)) == pytest.approx(temperature, rel=0.05)


@settings(max_examples=20)
@given(seed=integers(0, 10_000), temperature=floats(0.2, 5))
def test_no_other_temperature_has_a_much_lower_log_loss(seed, temperature):
    """The made-up image may cost a little, never more than a few parts in ``num``."""
    logits, labels = world(300, temperature, seed)
    fitted = fit_temperature(logits, labels)
    classes = range(logits.shape[1])
    losses = [log_loss(labels, softmax(logits, each), labels=classes) for each in np.geomspace(0.1, 10, 11)]
    assert log_loss(labels, softmax(logits, fitted), labels=classes) < min(losses) + 0.02


@pytest.mark.parametrize("num", [19, 100, 1000])
def test_where_all_answers_are_right_confidence_stays_below_certainty(num):
    labels = np.arange(num) % 3
    logits = np.eye(3, dtype=np.float32)[labels] * 7
    confidence = softmax(logits, fit_temperature(logits, labels)).max(axis=1).mean()
    assert confidence == pytest.approx(1 - 2 / 3 / (num + 1), abs=1e-4)


def test_the_size_of_logits_does_not_matter():
    logits, labels = world(500, 1.0, 3)
    assert fit_temperature(logits * 16, labels) == pytest.approx(16 * fit_temperature(logits, labels), rel=1e-3)
    assert fit_temperature(logits + 100, labels) == pytest.approx(fit_temperature(logits, labels), rel=1e-3)


def test_equal_logits_and_no_images_do_no_harm():
    assert 0 < fit_temperature(np.zeros((30, 3), np.float32), np.arange(30) % 3) < np.inf
    empty = calibrate(NONE, NONE)
    assert (empty.temperature, empty.scores, empty.familiarity) == (1.0, None, None)


def test_scores_are_sorted_and_0_where_the_answer_is_right():
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.6, 0.1, 0.3]], np.float32))
    calibration = calibrate(NONE, (logits, np.array([0, 2, 1])))
    assert calibration.scores == pytest.approx([0, 0.8, 0.9])

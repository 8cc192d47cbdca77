"""Confident learning: planted errors are found, hard images are not accused, and the counts are those of the paper."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from vitreous.evaluation.doubt import doubtful_labels


def test_by_hand():
    # Thresholds: class 0 (0.9 + 0.9 + 0.9 + 0.9 + 0.2)/5 = 0.76; class 1 (0.8 + 0.8 + 0.8 + 0.8 + 0.3)/5 = 0.70.
    zero = [0.9, 0.9, 0.9, 0.9, 0.2, 0.2, 0.2, 0.2, 0.2, 0.7]
    probabilities = np.array([[p, 1 - p] for p in zero])
    labels = np.array([0] * 5 + [1] * 5)
    found = doubtful_labels(probabilities, labels)
    # Row 4 gives class 1 0.8 >= 0.70. Row 9 gives class 0 only 0.7 < 0.76: hard, but counted nowhere.
    assert [(each.row, each.label, each.likely) for each in found] == [(4, 0, 1)]
    assert found[0].margin == pytest.approx(0.6)


def test_an_unsure_class_has_a_low_threshold():
    # Class 1 gets 0.4 on average for its own: 0.45 is more than that, though below a half.
    probabilities = np.array([[0.9, 0.05, 0.05]] * 6 + [[0.3, 0.4, 0.3]] * 6 + [[0.2, 0.2, 0.6]] * 6)
    probabilities[0] = [0.4, 0.45, 0.15]
    found = doubtful_labels(probabilities, np.repeat([0, 1, 2], 6))
    assert [(each.row, each.likely) for each in found] == [(0, 1)]


def test_planted_errors_among_digits():
    images, labels = load_digits(return_X_y=True)
    random = np.random.default_rng(0)
    wrong = random.choice(len(labels), 90, replace=False)  # 5 %
    noisy = labels.copy()
    noisy[wrong] = (noisy[wrong] + random.integers(1, 10, 90)) % 10
    model = LogisticRegression(C=0.5, max_iter=300)
    answers = cross_val_predict(model, images / 16, noisy, cv=4, method="predict_proba")
    found = doubtful_labels(answers, noisy)
    hits = [each for each in found if each.row in set(wrong)]
    assert len(hits) >= 0.65 * len(wrong)
    assert len(hits) >= 0.85 * len(found)
    assert np.mean([each.likely == labels[each.row] for each in hits]) > 0.9
    first = found[: len(wrong) // 2]
    assert np.mean([each.row in set(wrong) for each in first]) > 0.9  # the most doubtful come first


@settings(max_examples=50)
@given(st.integers(2, 5), st.integers(10, 60), st.integers(0, 1000))
def test_properties(num_classes, num, seed):
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.full(num_classes, 0.5), num)
    labels = random.integers(0, num_classes, num)
    found = doubtful_labels(probabilities, labels)
    order = random.permutation(num)
    moved = doubtful_labels(probabilities[order], labels[order])
    assert {int(order[each.row]) for each in moved} == {each.row for each in found}
    assert all(each.likely != each.label == labels[each.row] for each in found)
    margins = [each.margin for each in found]
    assert margins == sorted(margins, reverse=True)
    renamed = doubtful_labels(probabilities[:, ::-1], num_classes - 1 - labels)
    assert {each.row for each in renamed} == {each.row for each in found}


def test_right_and_sure_answers_doubt_nothing():
    labels = np.repeat(np.arange(4), 10)
    assert doubtful_labels(np.eye(4)[labels], labels) == []

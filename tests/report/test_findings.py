import numpy as np
import pytest

from vitreous.evaluation.scored import ScoredSplit
from vitreous.evaluation.scores import score
from vitreous.report.findings import baseline, class_rows, confused_pairs, ordinary_right, worst_mistakes

CLASSES = ("ant", "bee", "cat")


def scored(labels, logits, classes=CLASSES):
    labels_N, logits_NK = np.array(labels, np.int64), np.array(logits, np.float32)
    names = tuple(f"{number}.png" for number in range(len(labels)))
    return ScoredSplit("test", score(logits_NK, labels_N, classes), labels_N, logits_NK, names, names, None)


def one_hot(answers, sureness=1.0):
    return (np.eye(3)[answers] * np.reshape(sureness, (-1, 1) if np.ndim(sureness) else ())).tolist()


def test_the_answer_to_beat_is_the_largest_class():
    found = baseline(scored([1, 1, 1, 0], one_hot([0, 0, 0, 0])).scores)
    assert (found.value, found.label) == (0.75, "bee")


def test_equally_large_classes_leave_the_answer_to_beat_unnamed():
    found = baseline(scored([1, 1, 0, 0], one_hot([0, 0, 0, 0])).scores)
    assert (found.value, found.label) == (0.5, None)


def test_classes_come_weakest_first_and_those_without_images_last():
    rows = class_rows(scored([0, 0, 1, 1], one_hot([0, 0, 0, 1])).scores)
    assert [(row.label, row.num_answers) for row in rows] == [("bee", 1), ("ant", 3), ("cat", 0)]


def test_confused_pairs_count_both_ways():
    pairs = confused_pairs(scored([0, 0, 0, 0, 1, 2], one_hot([1, 1, 0, 2, 0, 2])).scores, 2)
    assert [(pair.truth, pair.answer, pair.count, pair.support, pair.back) for pair in pairs] == [
        ("ant", "bee", 2, 4, 1),
        ("ant", "cat", 1, 4, 0),
    ]
    assert pairs[0].share == 0.5


def test_the_worst_mistakes_are_the_surest_wrong_answers():
    found = worst_mistakes(scored([0, 0, 0, 0], one_hot([1, 2, 0, 1], [3, 5, 9, 1])), CLASSES, 2)
    assert [answer.index for answer in found] == [1, 0]
    assert (found[0].truth, found[0].label) == ("ant", "cat")
    expected = np.exp(5) / (np.exp(5) + 2)
    assert found[0].confidence == pytest.approx(expected)
    assert found[0].truth_confidence == pytest.approx((1 - expected) / 2)


def test_confidences_that_round_to_certainty_are_still_told_apart():
    found = worst_mistakes(scored([0, 0, 0], one_hot([1, 1, 1], [500, 700, 600])), CLASSES, 3)
    assert [answer.index for answer in found] == [1, 2, 0]
    assert {answer.confidence for answer in found} == {1.0}


def test_the_ordinary_right_answer_is_neither_the_surest_nor_the_least_sure():
    found = ordinary_right(scored([0, 0, 0, 1], one_hot([0, 0, 0, 0], [1, 9, 5, 7])), CLASSES)
    assert found is not None
    assert found.index == 2


def test_no_right_answer_gives_no_example():
    assert ordinary_right(scored([0], one_hot([1])), CLASSES) is None

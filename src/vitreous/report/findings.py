"""What the page says about the answers, before anything is drawn: rows, pairs, mistakes, the answer to beat."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitreous.evaluation.scored import ScoredSplit
from vitreous.evaluation.scores import ClassScore, Scores


@dataclass(frozen=True, slots=True)
class Baseline:
    """What always giving the same answer would score; ``label`` is None where several classes are equally frequent."""

    value: float
    label: str | None


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One class of the table; ``num_answers`` counts the images that were given this answer."""

    label: str
    score: ClassScore
    num_answers: int


@dataclass(frozen=True, slots=True)
class ConfusedPair:
    """``count`` of ``support`` images of ``truth`` were answered with ``answer``; ``back`` is the reverse count."""

    truth: str
    answer: str
    count: int
    support: int
    back: int

    @property
    def share(self) -> float:
        return self.count / self.support


@dataclass(frozen=True, slots=True)
class Answer:
    """What the network said of image ``index`` of a split."""

    index: int
    truth: str
    label: str
    confidence: float
    truth_confidence: float


def baseline(scores: Scores) -> Baseline:
    """The best that one answer for all images could score."""
    supports = {label: score.support for label, score in scores.per_class.items()}
    largest = max(supports.values())
    most_frequent = [label for label, support in supports.items() if support == largest]
    return Baseline(largest / scores.num_images, most_frequent[0] if len(most_frequent) == 1 else None)


def class_rows(scores: Scores) -> list[ClassRow]:
    """The classes, those that are found least often first; classes without images last."""
    answers_K = np.asarray(scores.confusion).sum(axis=0)
    rows = [
        ClassRow(label, score, int(num_answers))
        for (label, score), num_answers in zip(scores.per_class.items(), answers_K, strict=True)
    ]
    return sorted(rows, key=lambda row: (row.score.support == 0, row.score.recall.value))


def confused_pairs(scores: Scores, num: int) -> list[ConfusedPair]:
    """The pairs (true class, wrong answer) with the most images, most first."""
    labels = list(scores.per_class)
    confusion = np.asarray(scores.confusion)
    pairs = [
        ConfusedPair(
            labels[truth],
            labels[answer],
            int(confusion[truth, answer]),
            int(confusion[truth].sum()),
            int(confusion[answer, truth]),
        )
        for truth, answer in np.argwhere(confusion).tolist()
        if truth != answer
    ]
    return sorted(pairs, key=lambda pair: -pair.count)[:num]


def worst_mistakes(scored: ScoredSplit, classes: Sequence[str], num: int) -> list[Answer]:
    """The wrong answers that the network was surest of, surest first."""
    wrong = np.flatnonzero(scored.logits_NK.argmax(axis=1) != scored.labels_N)
    return [_answer(scored, classes, index) for index in _surest_first(scored, wrong)[:num]]


def ordinary_right(scored: ScoredSplit, classes: Sequence[str]) -> Answer | None:
    """The right answer of middling confidence: half of the right answers are surer. None where all are wrong."""
    right = np.flatnonzero(scored.logits_NK.argmax(axis=1) == scored.labels_N)
    if not len(right):
        return None
    return _answer(scored, classes, _surest_first(scored, right)[len(right) // 2])


def _surest_first(scored: ScoredSplit, indices: NDArray[np.intp]) -> list[int]:
    """By confidence; those that round to the same number are told apart by the lead of the largest logit."""
    logits_NK = scored.logits_NK[indices]
    confidence_N = scored.probabilities[indices].max(axis=1)
    two_largest_N2 = np.sort(logits_NK, axis=1)[:, -2:]
    lead_N = two_largest_N2[:, -1] - two_largest_N2[:, 0]
    order = np.lexsort((indices, -lead_N, -confidence_N))
    return [int(index) for index in indices[order]]


def _answer(scored: ScoredSplit, classes: Sequence[str], index: int) -> Answer:
    probabilities_K = scored.probabilities[index]
    truth, label = int(scored.labels_N[index]), int(scored.logits_NK[index].argmax())
    return Answer(index, classes[truth], classes[label], float(probabilities_K[label]), float(probabilities_K[truth]))

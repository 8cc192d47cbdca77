"""How good the answers are: figures from logits and labels, each proportion with its interval.

Counts and averages are scikit-learn's; the intervals of proportions are Wilson's (1927) at 95 %, from SciPy.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitreous.predictor import softmax


@dataclass(frozen=True, slots=True)
class Proportion:
    """A share with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2%} (95% interval {self.low:.2%} to {self.high:.2%})"


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One class: precision, recall and their harmonic mean, on ``support`` images that show it."""

    precision: float
    recall: Proportion
    f1: float
    support: int


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one set of images.

    Attributes:
        confusion: K,K counts, rows the true class, columns the answer.
        log_loss: mean negative log-probability of the true class, in nats.
    """

    num_images: int
    accuracy: Proportion
    balanced_accuracy: float
    macro_f1: float
    log_loss: float
    per_class: dict[str, ClassScore]
    confusion: tuple[tuple[int, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values, keys as the attributes."""
        return asdict(self)


def score(logits_NK: NDArray[np.float32], labels_N: NDArray[np.int64], classes: Sequence[str]) -> Scores:
    """Score the answers; classes that no image shows have a support of 0 and do not enter the averages."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    answers_N = logits_NK.argmax(axis=1)
    numbers = np.arange(len(classes))
    precision, recall, f1, support = precision_recall_fscore_support(
        labels_N, answers_N, labels=numbers, zero_division=0
    )
    confusion = confusion_matrix(labels_N, answers_N, labels=numbers)
    shown = support > 0
    per_class = {
        name: ClassScore(
            float(precision[k]), wilson(int(confusion[k, k]), int(support[k])), float(f1[k]), int(support[k])
        )
        for k, name in enumerate(classes)
    }
    return Scores(
        num_images=len(labels_N),
        accuracy=wilson(int((answers_N == labels_N).sum()), len(labels_N)),
        balanced_accuracy=float(recall[shown].mean()),
        macro_f1=float(f1[shown].mean()),
        log_loss=log_loss(logits_NK, labels_N),
        per_class=per_class,
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
    )


def accuracy(logits_NK: NDArray[np.float32], labels_N: NDArray[np.int64]) -> float:
    """The share of images whose largest logit is the true class's; the first of equal ones counts."""
    return float((logits_NK.argmax(axis=1) == labels_N).mean())


def log_loss(logits_NK: NDArray[np.float32], labels_N: NDArray[np.int64]) -> float:
    """Mean negative log-probability of the true class, in nats; a probability of 0 counts as 1e-15."""
    truth = softmax(logits_NK)[np.arange(len(labels_N)), labels_N]
    return float(-np.log(np.maximum(truth, 1e-15)).mean())


def wilson(successes: int, trials: int) -> Proportion:
    """A proportion with Wilson's 95 % score interval; nothing is known of no trials.

    >>> print(wilson(9, 10))
    90.00% (95% interval 59.58% to 98.21%)
    """
    from scipy.stats import binomtest

    if trials == 0:
        return Proportion(0.0, 0.0, 1.0)
    interval = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    return Proportion(successes / trials, float(interval.low), float(interval.high))

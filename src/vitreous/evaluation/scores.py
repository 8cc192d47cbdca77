"""How good the answers are: figures from logits and labels, each with its interval (``intervals``).

Counts are scikit-learn's. Log-loss, Brier score and calibration error judge probabilities, those that prediction gives:
the softmax of the logits over the run's temperature.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitreous.evaluation.intervals import Interval, Proportion, central, resampled, resampled_confusion, wilson
from vitreous.evaluation.reliability import calibration_error, calibration_errors, is_by_chance, sureness
from vitreous.predictor import softmax

_LEAST_PROBABILITY = 1e-15
_HEADLINES = (
    *("num_images", "accuracy", "top_k", "k", "balanced_accuracy", "macro_f1"),
    *("log_loss", "brier", "calibration_error", "temperature", "intervals"),
)


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One class: precision, recall and their harmonic mean, on ``support`` images that show it."""

    precision: float
    recall: Proportion
    f1: float
    support: int
    precision_interval: Interval
    f1_interval: Interval


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one set of images.

    Attributes:
        top_k: the share of images whose true class is among the ``k`` likeliest: 5, of few classes 2; None of two.
        log_loss: mean negative log-probability of the true class, in nats.
        brier: mean over images of the squared errors of all probabilities, 0 to 2.
        calibration_error: by how much confidence and accuracy differ on average (see ``reliability``).
        temperature: which divided the logits before the softmax.
        intervals: of those figures that are plain numbers, by name.
        confusion: K,K counts, rows the true class, columns the answer.
    """

    num_images: int
    accuracy: Proportion
    top_k: Proportion | None
    k: int | None
    balanced_accuracy: float
    macro_f1: float
    log_loss: float
    brier: float
    calibration_error: float
    temperature: float
    intervals: dict[str, Interval]
    per_class: dict[str, ClassScore]
    confusion: tuple[tuple[int, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values, keys as the attributes."""
        return asdict(self)

    def headline(self) -> dict[str, Any]:
        """What the manifest keeps: all but the classes."""
        values = self.to_json()
        return {name: values[name] for name in _HEADLINES}


def score(
    logits_NK: NDArray[np.float32], labels_N: NDArray[np.int64], classes: Sequence[str], temperature: float = 1.0
) -> Scores:
    """Score the answers; classes that no image shows have a support of 0 and do not enter the averages.

    Args:
        temperature: divides the logits before the softmax.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    answers_N = logits_NK.argmax(axis=1)
    numbers = np.arange(len(classes))
    precision, recall, f1, support = precision_recall_fscore_support(
        labels_N, answers_N, labels=numbers, zero_division=0
    )
    confusion = confusion_matrix(labels_N, answers_N, labels=numbers)
    shown = support > 0
    recalls = [wilson(int(confusion[k, k]), int(support[k])) for k in numbers]
    right_BK, answers_BK = resampled_confusion(confusion)
    f1_BK = 2 * right_BK / np.maximum(answers_BK + support, 1)
    recall_BK = right_BK / np.maximum(support, 1)
    per_class = {
        name: ClassScore(
            precision=float(precision[k]),
            recall=recalls[k],
            f1=float(f1[k]),
            support=int(support[k]),
            precision_interval=_interval(wilson(int(confusion[k, k]), int(confusion[:, k].sum()))),
            f1_interval=central(f1_BK[:, k]) if shown[k] else Interval(0.0, 1.0),
        )
        for k, name in enumerate(classes)
    }
    probabilities_NK = softmax(logits_NK, temperature)
    judged, intervals = _judged_probabilities(probabilities_NK, labels_N)
    k = 5 if len(classes) > 5 else 2
    return Scores(
        num_images=len(labels_N),
        accuracy=wilson(int((answers_N == labels_N).sum()), len(labels_N)),
        top_k=wilson(_num_among(logits_NK, labels_N, k), len(labels_N)) if len(classes) > 2 else None,
        k=k if len(classes) > 2 else None,
        balanced_accuracy=float(recall[shown].mean()),
        macro_f1=float(f1[shown].mean()),
        **judged,
        temperature=temperature,
        intervals={
            "balanced_accuracy": central(recall_BK[:, shown].mean(axis=1)),
            "macro_f1": central(f1_BK[:, shown].mean(axis=1)),
            **intervals,
        },
        per_class=per_class,
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
    )


def accuracy(logits_NK: NDArray[np.float32], labels_N: NDArray[np.int64]) -> float:
    """The share of images whose largest logit is the true class's; the first of equal ones counts."""
    return float((logits_NK.argmax(axis=1) == labels_N).mean())


def log_loss(logits_NK: NDArray[np.float32], labels_N: NDArray[np.int64]) -> float:
    """Mean negative log-probability of the true class, in nats; a probability of 0 counts as 1e-15."""
    return float(log_losses(softmax(logits_NK), labels_N).mean())


def log_losses(probabilities_NK: NDArray[np.float64], labels_N: NDArray[np.int64]) -> NDArray[np.float64]:
    """The negative log-probability of each image's true class, in nats: N."""
    truth_N = probabilities_NK[np.arange(len(labels_N)), labels_N]
    return np.asarray(-np.log(np.maximum(truth_N, _LEAST_PROBABILITY)))


def _brier_scores(probabilities_NK: NDArray[np.float64], labels_N: NDArray[np.int64]) -> NDArray[np.float64]:
    errors_NK = probabilities_NK.copy()
    errors_NK[np.arange(len(labels_N)), labels_N] -= 1
    return np.asarray((errors_NK**2).sum(axis=1))


def _num_among(logits_NK: NDArray[np.float32], labels_N: NDArray[np.int64], k: int) -> int:
    """Images with fewer than ``k`` logits above the true class's; of equal ones the first class comes first."""
    truth_N1 = logits_NK[np.arange(len(labels_N)), labels_N][:, None]
    is_before_NK = np.arange(logits_NK.shape[1]) < labels_N[:, None]
    num_above_N = ((logits_NK > truth_N1) | ((logits_NK == truth_N1) & is_before_NK)).sum(axis=1)
    return int((num_above_N < k).sum())


def _judged_probabilities(
    probabilities_NK: NDArray[np.float64], labels_N: NDArray[np.int64]
) -> tuple[dict[str, float], dict[str, Interval]]:
    """Log-loss, Brier score and calibration error, and the interval of each."""
    confidence_N, is_right_N = sureness(probabilities_NK, labels_N)
    order = np.argsort(confidence_N, kind="stable")  # once: what is drawn from sorted images is sorted
    confidence_N, is_right_N, labels_N = confidence_N[order], is_right_N[order], labels_N[order]
    losses_N = log_losses(probabilities_NK[order], labels_N)
    briers_N = _brier_scores(probabilities_NK[order], labels_N)

    def figures(counts_BN: NDArray[np.int64]) -> NDArray[np.float64]:
        num_rows, num = counts_BN.shape
        drawn_BN = np.repeat(np.tile(np.arange(num), num_rows), counts_BN.ravel()).reshape(num_rows, num)
        corrected_B, _ = calibration_errors(confidence_N[drawn_BN], is_right_N[drawn_BN])
        return np.stack([counts_BN @ losses_N / num, counts_BN @ briers_N / num, corrected_B], axis=1)

    resampled_B3 = resampled(labels_N, figures)
    corrected, counted = calibration_error(confidence_N, is_right_N)
    judged = {"log_loss": float(losses_N.mean()), "brier": float(briers_N.mean()), "calibration_error": corrected}
    # A sample of the sample is off by chance once more, which raises its error: the upper end serves both sides.
    high = max(corrected, central(resampled_B3[:, 2]).high)
    low = 0.0 if is_by_chance(counted, confidence_N) else max(0.0, 2 * corrected - high)
    intervals = {
        "log_loss": central(resampled_B3[:, 0]),
        "brier": central(resampled_B3[:, 1]),
        "calibration_error": Interval(low, high),
    }
    return judged, intervals


def _interval(share: Proportion) -> Interval:
    return Interval(share.low, share.high)

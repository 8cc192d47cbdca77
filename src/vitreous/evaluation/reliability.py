"""Whether confidence can be believed, so that of the answers given with 80 % four in five are right."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitreous.evaluation.intervals import rows_at_once

NUM_BINS = 15


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of about equal confidence: its mean, the share of them that is right, and how many they are."""

    confidence: float
    accuracy: float
    num_images: int


def reliability_bins(probabilities_NK: NDArray[np.float64], labels_N: NDArray[np.int64]) -> list[Bin]:
    """The answers in 15 bins of equally many, least sure first; in fewer where there are under 30.

    >>> reliability_bins(np.array([[0.6, 0.4], [0.2, 0.8]]), np.array([0, 0]))
    [Bin(confidence=0.7, accuracy=0.5, num_images=2)]
    """
    confidence_N, is_right_N = sureness(probabilities_NK, labels_N)
    order = np.argsort(confidence_N, kind="stable")
    return [
        Bin(float(confidence_N[rows].mean()), float(is_right_N[rows].mean()), len(rows))
        for rows in np.array_split(order, _num_bins(len(order)))
    ]


def sureness(
    probabilities_NK: NDArray[np.float64], labels_N: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The probability of each answer, and whether it is right: N, N."""
    answers_N = probabilities_NK.argmax(axis=1)
    return probabilities_NK[np.arange(len(labels_N)), answers_N], answers_N == labels_N


def calibration_error(confidence_N: NDArray[np.float64], is_right_N: NDArray[np.bool_]) -> tuple[float, float]:
    """The expected calibration error, corrected for chance and as it is counted (Guo et al. 2017).

    It is the mean over ``reliability_bins`` of how far confidence and accuracy are apart. Counted in bins of few
    images, it is above 0 even where every confidence is true; the correction subtracts the excess that accuracies as
    uncertain as these would add (Kumar, Liang, Ma 2019, "Verified Uncertainty Calibration", section 5).

    Args:
        confidence_N: sorted, rising.
    """
    (corrected,), (counted,) = calibration_errors(confidence_N[None], is_right_N[None])
    return float(corrected), float(counted)


def calibration_errors(
    confidence_BN: NDArray[np.float64], is_right_BN: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same of many samples of equally many images at once: B, B."""
    from scipy.special import erf

    num_images = confidence_BN.shape[1]
    starts = _starts(num_images)
    sizes = np.diff([*starts, num_images])
    accuracies = np.add.reduceat(is_right_BN.astype(np.float64), starts, axis=1) / sizes
    gaps = np.abs(np.add.reduceat(confidence_BN, starts, axis=1) / sizes - accuracies)
    deviations = np.maximum(np.sqrt(accuracies * (1 - accuracies) / sizes), 1e-12)
    ratios = gaps / deviations
    expected = deviations * np.sqrt(2 / np.pi) * np.exp(-(ratios**2) / 2) + gaps * erf(ratios / np.sqrt(2))
    counted = np.average(gaps, axis=1, weights=sizes)
    return np.maximum(0.0, 2 * counted - np.average(expected, axis=1, weights=sizes)), counted


def is_by_chance(counted: float, confidence_N: NDArray[np.float64]) -> bool:
    """Whether answers whose confidence is exactly true would now and then (2.5 %) be counted as off by so much.

    Args:
        counted: the error without the correction.
        confidence_N: sorted, rising.
    """
    random = np.random.default_rng(0)
    drawn = []
    for num_rows in rows_at_once(400, len(confidence_N)):
        is_right_BN = random.random((num_rows, len(confidence_N))) < confidence_N
        drawn.append(calibration_errors(np.broadcast_to(confidence_N, is_right_BN.shape), is_right_BN)[1])
    return bool(counted <= np.quantile(np.concatenate(drawn), 0.975))


def _num_bins(num_images: int) -> int:
    return max(1, min(NUM_BINS, num_images // 2))


def _starts(num_images: int) -> NDArray[np.int64]:
    """Where ``numpy.array_split`` begins each bin."""
    num_bins = _num_bins(num_images)
    size, rest = divmod(num_images, num_bins)
    return np.cumsum([0, *[size + 1] * rest, *[size] * (num_bins - rest)])[:-1]

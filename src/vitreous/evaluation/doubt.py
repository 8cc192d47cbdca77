"""Which labels are probably wrong, from what a network says of images that it was not trained on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LEAST_OF_A_CLASS = 5  # images, below which its mean confidence says nothing


@dataclass(frozen=True, slots=True)
class DoubtfulLabel:
    """An image whose label is probably wrong: row in the given answers, and the probabilities of two classes."""

    row: int
    label: int
    likely: int
    label_probability: float
    likely_probability: float

    @property
    def margin(self) -> float:
        """How much more the likely class gets than the label: the measure by which they are ranked."""
        return self.likely_probability - self.label_probability


def doubtful_labels(probabilities_NK: NDArray[np.float64], labels_N: NDArray[np.int64]) -> list[DoubtfulLabel]:
    """The most doubtful first: images counted as another class by that class's own standard.

    Confident learning (Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset
    Labels", eq. 1 and 2): a class's threshold is the mean probability that its own images get for it; an image belongs
    to the likeliest class whose threshold it reaches. Those that belong to another class than their label says are
    off the diagonal of the confident joint. Of these, those that are likelier of the other class than of their label,
    ranked by how much.

    Args:
        probabilities_NK: of a network that was not trained on these images (out of fold, or val and test).
        labels_N: the given classes.

    >>> sure = np.array([[0.9, 0.1]] * 6 + [[0.1, 0.9]] * 6)
    >>> [(each.row, each.likely) for each in doubtful_labels(sure, np.array([0] * 6 + [1] * 5 + [0]))]
    [(11, 1)]
    """
    num_classes = probabilities_NK.shape[1]
    counts = np.bincount(labels_N, minlength=num_classes)
    own_N = probabilities_NK[np.arange(len(labels_N)), labels_N]
    sums = np.bincount(labels_N, weights=own_N, minlength=num_classes)
    thresholds_K = np.where(counts >= _LEAST_OF_A_CLASS, sums / np.maximum(counts, 1), np.inf)
    reached_NK = probabilities_NK >= thresholds_K - 1e-9  # a mean of equal numbers may round above them
    likely_N = np.where(reached_NK, probabilities_NK, -1.0).argmax(axis=1)
    is_likelier_N = probabilities_NK[np.arange(len(labels_N)), likely_N] > own_N
    rows = np.flatnonzero(reached_NK.any(axis=1) & is_likelier_N)
    found = [
        DoubtfulLabel(
            int(row),
            int(labels_N[row]),
            int(likely_N[row]),
            float(own_N[row]),
            float(probabilities_NK[row, likely_N[row]]),
        )
        for row in rows
    ]
    return sorted(found, key=lambda each: (-each.margin, each.row))

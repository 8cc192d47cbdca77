"""One part of the data, scored: the scores and everything they were counted from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitreous.evaluation.scores import Scores
from vitreous.predictor import softmax


@dataclass(frozen=True, slots=True)
class ScoredSplit:
    """The answers for one part of the data.

    Attributes:
        split: "train", "val" or "test".
        labels_N: the true classes.
        logits_NK: the answers; the largest of a row counts.
        hashes: of each image's content.
        names: of each image, as its source gives it.
        pixels_NHWC: what the network saw, before normalization; may lie on the disk. None when not at hand.
        familiarity_N: the share of ordinary images that are at least as strange; None where that was not calibrated.
    """

    split: str
    scores: Scores
    labels_N: NDArray[np.int64]
    logits_NK: NDArray[np.float32]
    hashes: tuple[str, ...]
    names: tuple[str, ...]
    pixels_NHWC: NDArray[np.uint8] | None
    familiarity_N: NDArray[np.float64] | None = None

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """N,K, as prediction gives them: the softmax of the logits over the temperature that was scored with."""
        return softmax(self.logits_NK, self.scores.temperature)

"""Whether conformal sets keep their promise on other images, and how large they are."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitreous.evaluation.intervals import LEVEL, Interval, Proportion, wilson
from vitreous.predictor.calibration import Calibration, conformal_rank


@dataclass(frozen=True, slots=True)
class Coverage:
    """Conformal sets on images that were not calibrated on.

    Attributes:
        asked: the share of images whose true class was to be among the candidates.
        seen: that share here.
        expected: where it lies at 95 % if these images are of the same kind as those that were calibrated on, from the
            chance in both. It may also lie above: where the answer alone is right more often than was asked.
        mean_size, num_single: candidates an image; images with one only.
        per_class: the share for each class, which is not promised.
    """

    asked: float
    seen: Proportion
    expected: Interval
    num_calibrating: int
    mean_size: float
    num_single: int
    per_class: dict[str, Proportion]

    @property
    def is_kept(self) -> bool:
        """Whether it is as promised, or more."""
        return self.seen.value >= self.expected.low

    def to_json(self) -> dict[str, Any]:
        """Plain values, keys as the attributes."""
        return {**asdict(self), "is_kept": self.is_kept}


def measure_coverage(
    calibration: Calibration,
    probabilities_NK: NDArray[np.float64],
    labels_N: NDArray[np.int64],
    classes: Sequence[str],
    coverage: float,
) -> Coverage:
    """The conformal sets of a run at a coverage, held against the truth.

    Raises:
        ConfigError: the run cannot promise this coverage.
    """
    remain_NK = calibration.candidates(probabilities_NK, coverage)
    is_covered_N = remain_NK[np.arange(len(labels_N)), labels_N]
    sizes_N = remain_NK.sum(axis=1)
    covered_K = np.bincount(labels_N[is_covered_N], minlength=len(classes))
    counts_K = np.bincount(labels_N, minlength=len(classes))
    return Coverage(
        asked=coverage,
        seen=wilson(int(is_covered_N.sum()), len(labels_N)),
        expected=expected_coverage(coverage, calibration.num_calibrating, len(labels_N)),
        num_calibrating=calibration.num_calibrating,
        mean_size=float(sizes_N.mean()),
        num_single=int((sizes_N == 1).sum()),
        per_class={name: wilson(int(covered_K[k]), int(counts_K[k])) for k, name in enumerate(classes)},
    )


def expected_coverage(coverage: float, num_calibrating: int, num_images: int) -> Interval:
    """Where the share covered lies at 95 %: a beta-binomial distribution (Vovk 2012; Angelopoulos and Bates 2023).

    Of n calibration images the one of rank k set the threshold; what it covers follows Beta(k, n + 1 - k).
    """
    from scipy.stats import betabinom

    rank = conformal_rank(coverage, num_calibrating)
    covered = betabinom(num_images, rank, num_calibrating + 1 - rank)
    low, high = covered.ppf([(1 - LEVEL) / 2, (1 + LEVEL) / 2]) / num_images
    return Interval(float(low), float(high))

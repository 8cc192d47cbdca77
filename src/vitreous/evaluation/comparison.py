"""Whether one of two networks is better, or only luckier: the same images, answered by both."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitreous.evaluation.intervals import Interval, Proportion, central, resampled, wilson
from vitreous.evaluation.scores import log_losses

_SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two networks on the same images.

    Attributes:
        num_both, num_first, num_second, num_neither: images that both, only the first, only the second, and neither
            network answers right; only the second and third tell them apart.
        difference: accuracy of the second minus that of the first.
        p_value: how often chance alone would set them apart by as much, were they equally good (McNemar's exact test).
        log_loss_difference: of the second minus the first; below 0 the second is better.
    """

    num_images: int
    num_both: int
    num_first: int
    num_second: int
    num_neither: int
    accuracies: tuple[Proportion, Proportion]
    difference: float
    difference_interval: Interval
    p_value: float
    log_losses: tuple[float, float]
    log_loss_difference: float
    log_loss_difference_interval: Interval

    @property
    def is_real(self) -> bool:
        """Whether chance would rarely (in under 5 %) make such a difference of accuracy."""
        return self.p_value < _SIGNIFICANT

    def to_json(self) -> dict[str, Any]:
        """Plain values, keys as the attributes."""
        return {**asdict(self), "is_real": self.is_real}


def compare(first_NK: NDArray[np.float64], second_NK: NDArray[np.float64], labels_N: NDArray[np.int64]) -> Comparison:
    """Compare the probabilities of two networks for the same images (at least one)."""
    is_first_N, is_second_N = first_NK.argmax(axis=1) == labels_N, second_NK.argmax(axis=1) == labels_N
    num, num_first = len(labels_N), int((is_first_N & ~is_second_N).sum())
    num_second, num_both = int((is_second_N & ~is_first_N).sum()), int((is_first_N & is_second_N).sum())
    losses_N2 = np.stack([log_losses(first_NK, labels_N), log_losses(second_NK, labels_N)], axis=1)
    change_N = losses_N2[:, 1] - losses_N2[:, 0]
    drawn_B1 = resampled(labels_N, lambda counts_BN: (counts_BN @ change_N / num)[:, None])
    return Comparison(
        num_images=num,
        num_both=num_both,
        num_first=num_first,
        num_second=num_second,
        num_neither=num - num_both - num_first - num_second,
        accuracies=(wilson(int(is_first_N.sum()), num), wilson(int(is_second_N.sum()), num)),
        difference=(num_second - num_first) / num,
        difference_interval=paired_difference(num_second, num_first, num),
        p_value=mcnemar(num_first, num_second),
        log_losses=(float(losses_N2[:, 0].mean()), float(losses_N2[:, 1].mean())),
        log_loss_difference=float(change_N.mean()),
        log_loss_difference_interval=central(drawn_B1[:, 0]),
    )


def mcnemar(num_first: int, num_second: int) -> float:
    """The two-sided exact p-value (McNemar 1947): images that only one answers right are as if a coin were tossed.

    >>> mcnemar(1, 9)
    0.021484375
    """
    from scipy.stats import binomtest

    discordant = num_first + num_second
    return float(binomtest(num_first, discordant).pvalue) if discordant else 1.0


def paired_difference(num_gained: int, num_lost: int, num_images: int) -> Interval:
    """The 95 % interval of (gained - lost) / images, by Tango's score test (1998), which is sound for few images too.

    It holds the differences that the test would not reject; ``num_gained`` images are right with one network only,
    ``num_lost`` with the other only.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    critical = float(norm.ppf(0.975))

    def statistic(difference: float) -> float:
        linear = -num_gained - num_lost + (2 * num_images - num_gained + num_lost) * difference
        constant = -num_lost * difference * (1 - difference)
        lost = (np.sqrt(max(0.0, linear**2 - 8 * num_images * constant)) - linear) / (4 * num_images)
        variance = num_images * max(2 * lost + difference * (1 - difference), 1e-15)
        return float((num_gained - num_lost - num_images * difference) / np.sqrt(variance))

    seen, edge = (num_gained - num_lost) / num_images, 1 - 1e-9

    def end(outermost: float, wanted: float) -> float:
        if (statistic(outermost) - wanted) * (statistic(seen) - wanted) >= 0:
            return round(outermost)
        return float(brentq(lambda difference: statistic(difference) - wanted, outermost, seen))

    return Interval(end(-edge, critical), end(edge, -critical))

"""Whether a map names the pixels that the network goes by: hide them in its order, and see how fast the class falls.

Deletion hides the pixels that the map calls important first, and should bring the class down early; insertion starts
from nothing and shows these first, and should bring it up early. The score is the area between the two curves. A map
must beat random orders of squares as coarse as itself: those have 0 on average, since an order and its reverse have
opposite scores, but the coarser they are the further from it some come by chance. How coarse is measured on the map
itself: beside single pixels, too many smooth maps that mean nothing would look good.

Source: Petsiuk, Das, Saenko 2018, "RISE: Randomized Input Sampling for Explanation of Black-box Models", section 4.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitreous.errors import UserError
from vitreous.explanation.attribution import Attribution, answers_without, probabilities

DEVIATIONS = (
    2  # above chance, to be called better: of random orders beside ten others, one in 27 gets there (Student's t)
)
_SMALLEST = 1e-4  # deviation of a probability: below that the class does not depend on what is hidden


@dataclass(frozen=True)
class Curves:
    """The class's probability while the image is hidden, and while it is shown, from 0 to all of its pixels."""

    shares: Tensor  # of the pixels, hidden or shown
    deletion: Tensor  # probability with these hidden
    insertion: Tensor  # probability with only these shown

    @property
    def deletion_area(self) -> float:
        """Under the curve, from 0 to 1; the lower the better."""
        return float(torch.trapezoid(self.deletion, self.shares))

    @property
    def insertion_area(self) -> float:
        """Under the curve, from 0 to 1; the higher the better."""
        return float(torch.trapezoid(self.insertion, self.shares))

    @property
    def score(self) -> float:
        """Insertion less deletion, from -1 to 1; the opposite order has the opposite score."""
        return self.insertion_area - self.deletion_area


@dataclass(frozen=True)
class Faithfulness:
    """A map's curves, and what random orders of squares as coarse as the map come to."""

    attribution: Attribution
    curves: Curves
    grain: int  # side of the squares, in pixels
    chance: tuple[Curves, ...]  # of the random orders

    @property
    def chance_scores(self) -> tuple[float, ...]:
        """Of the random orders; their reverses, which count as well, have the opposite."""
        return tuple(each.score for each in self.chance)

    @property
    def score(self) -> float:
        """Insertion area less deletion area."""
        return self.curves.score

    @property
    def chance_deviation(self) -> float:
        """Standard deviation of a random order's score about 0, its mean."""
        return math.sqrt(sum(score**2 for score in self.chance_scores) / len(self.chance_scores))

    @property
    def deviations(self) -> float:
        """How many standard deviations the score is above chance."""
        return self.score / max(self.chance_deviation, _SMALLEST)

    @property
    def is_better_than_chance(self) -> bool:
        """By DEVIATIONS at least."""
        return self.deviations >= DEVIATIONS

    @property
    def verdict(self) -> str:
        """In words."""
        return "better than chance" if self.is_better_than_chance else "not better than chance"


def judge(
    network: nn.Module,
    image_1CHW: Tensor,
    target: int,
    attributions: Sequence[Attribution],
    seed: int = 0,
    *,
    steps: int = 32,
    orders: int = 10,
    baseline: float | Tensor = 0,
) -> list[Faithfulness]:
    """Put maps of one image and one class to the test, each beside chance of its own grain.

    Args:
        network: any; it is run in evaluation mode and left as it was found.
        image_1CHW: as the network takes it.
        target: the class that the maps are about, as the number of its logit.
        attributions: maps at the image's resolution.
        seed: of the random orders; the same for every grain, so that a map's verdict hangs on no other map.
        steps: in which the image is hidden.
        orders: how many random ones.
        baseline: what a pixel is replaced by, in the network's own units: a number, or a tensor of the image's shape.

    Raises:
        UserError: no such class, a map of another size, or less than one step or order.
    """
    size = tuple(image_1CHW.shape[2:])
    if steps < 1 or orders < 1:
        raise UserError(f"steps={steps} and orders={orders} must be 1 or more.")
    for each in attributions:
        if tuple(each.map_HW.shape) != size:
            raise UserError(f"the map of {each.method} is {tuple(each.map_HW.shape)}, the image {size}; draw it there.")

    def measured(map_HW: Tensor) -> Curves:
        return curves(network, image_1CHW, target, map_HW, steps=steps, baseline=baseline)

    grains = [max(each.grain, grain(each.map_HW)) for each in attributions]
    chance: dict[int, tuple[Curves, ...]] = {}
    for side in set(grains):
        generator = torch.Generator().manual_seed(seed)
        maps = (random_squares(size, side, generator) for _ in range(orders))
        chance[side] = tuple(map(measured, maps))
    return [
        Faithfulness(each, measured(each.map_HW), side, chance[side])
        for each, side in zip(attributions, grains, strict=True)
    ]


def most_faithful(judged: Sequence[Faithfulness]) -> Faithfulness | None:
    """The one with the highest score of those that are better than chance, if any is."""
    better = [each for each in judged if each.is_better_than_chance]
    return max(better, key=lambda each: each.score, default=None)


def curves(
    network: nn.Module,
    image_1CHW: Tensor,
    target: int,
    map_HW: Tensor,
    *,
    steps: int = 32,
    baseline: float | Tensor = 0,
) -> Curves:
    """The class's probability while the pixels are hidden, or shown, in the order of the map, the highest first.

    Equal pixels go row by row.
    """
    order = map_HW.flatten().sort(descending=True, stable=True).indices
    ranks = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    counts = torch.tensor([step * len(order) // steps for step in range(steps + 1)])
    hidden_SHW = (ranks.cpu() < counts[:, None]).reshape(-1, *map_HW.shape)
    states = torch.cat([hidden_SHW, ~hidden_SHW[1:-1]])  # all hidden is nothing shown, nothing hidden is all shown
    logits_NK = answers_without(network, image_1CHW, states, target, baseline)
    hiding, showing = torch.split(probabilities(logits_NK)[:, target], [steps + 1, steps - 1])
    return Curves(counts / len(order), hiding, torch.cat([hiding[-1:], showing, hiding[:1]]))


def random_squares(size: Sequence[int], side: int, generator: torch.Generator) -> Tensor:
    """A map, H,W, of squares in random order; those at the far ends may be cut."""
    height, width = size
    squares = torch.rand(-(-height // side), -(-width // side), generator=generator)
    return squares.repeat_interleave(side, dim=0).repeat_interleave(side, dim=1)[:height, :width]


def grain(map_HW: Tensor) -> int:
    """Side of the random squares, in pixels, whose order hangs together as far as that of a map: 1 for noise.

    The autocorrelation of random squares falls to 0 in a straight line, so that its sum along an axis is their side;
    the same sum, up to the first 0, is taken of the map's ranks. At most half of the map's shorter side.
    """
    in_order = map_HW.flatten().sort().values
    below_HW, not_above_HW = (torch.searchsorted(in_order, map_HW.contiguous(), right=end) for end in (False, True))
    ranks_HW = (below_HW + not_above_HW).double()  # equal pixels have equal ranks
    spectrum = torch.fft.rfft2(ranks_HW - ranks_HW.mean()).abs() ** 2
    correlation_HW = torch.fft.irfft2(spectrum, s=map_HW.shape)
    side = math.sqrt(_length(correlation_HW[:, 0]) * _length(correlation_HW[0]))
    return max(1, min(round(side), min(map_HW.shape) // 2))


def _length(correlation: Tensor) -> float:
    """Sum over the lags on either side of 0 up to where nothing hangs together any more, of a circular correlation."""
    if correlation[0] <= 0:
        return len(correlation)  # all the same
    half = correlation[1 : len(correlation) // 2 + 1] / correlation[0]
    return 1 + 2 * float((half * (half > 0).cumprod(dim=0)).sum())

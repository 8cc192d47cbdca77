"""The learning rate over a run, as a share of its highest value."""

import math


def rate_at(step: int, num_steps: int, *, schedule: str, warmup_fraction: float) -> float:
    """The share of the highest rate that step ``step`` of ``num_steps`` uses, above 0 and at most 1.

    Rises linearly during the warm-up, then falls to 0 along a line or half a cosine, or stays.

    >>> [round(rate_at(step, 8, schedule="linear", warmup_fraction=0.25), 3) for step in (0, 1, 2, 5, 7)]
    [0.25, 0.75, 0.917, 0.417, 0.083]
    """
    place = (step + 0.5) / num_steps  # the middle of the step: neither its first nor its last is wasted on a rate of 0
    if place < warmup_fraction:
        return place / warmup_fraction
    fallen = (place - warmup_fraction) / (1 - warmup_fraction)
    match schedule:
        case "linear":
            return 1 - fallen
        case "cosine":
            return (1 + math.cos(math.pi * fallen)) / 2
        case _:
            return 1.0

"""Where the time of training goes."""

import time
from collections.abc import Mapping

PARTS = ("data", "forward", "backward", "optimizer", "evaluation")


class Clock:
    """Adds up seconds by part; a lap is the time since the last one.

    A GPU works behind the program's back, and waiting for it to be timed would cost more than is learned: there,
    ``is_exact`` is False and nothing is added.

    >>> clock = Clock(is_exact=True)
    >>> clock.start()
    >>> clock.lap("forward")
    >>> clock.seconds["forward"] > 0
    True
    """

    def __init__(self, *, is_exact: bool) -> None:
        self.is_exact = is_exact
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._last = 0.0

    def start(self) -> None:
        """What was before does not count."""
        self._last = time.perf_counter()

    def lap(self, part: str) -> None:
        """The time since the last lap went into this part."""
        if self.is_exact:
            now = time.perf_counter()
            self.seconds[part] += now - self._last
            self._last = now

    def take(self) -> dict[str, float]:
        """The seconds so far, by part; then the clock begins at 0 again. Empty where it is not exact."""
        taken = {part: round(seconds, 3) for part, seconds in self.seconds.items()} if self.is_exact else {}
        self.seconds = dict.fromkeys(PARTS, 0.0)
        return taken


def told(seconds: Mapping[str, float]) -> str:
    """Shares of the whole, in the order of a step.

    >>> told({"data": 1, "forward": 30, "backward": 60, "optimizer": 5, "evaluation": 4})
    'data 1%, forward 30%, backward 60%, optimizer 5%, evaluation 4%'
    """
    whole = sum(seconds.values()) or 1.0
    return ", ".join(f"{part} {each / whole:.0%}" for part, each in seconds.items())

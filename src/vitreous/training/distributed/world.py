"""What a process can ask of the others with which it trains one run; one process alone asks nobody."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vitreous.checkpoint import Checkpoint, load_newest_checkpoint
from vitreous.config import Config
from vitreous.errors import ConfigError
from vitreous.predictor import Predictor
from vitreous.run import Run

_T = TypeVar("_T")


class World:
    """One process alone."""

    rank = 0
    size = 1
    local_rank = 0  # on this host
    local_size = 1

    @property
    def is_first(self) -> bool:
        """Whether this process decides, speaks and writes."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """The device of this rank where the run's is ``name``."""
        return torch.device(name)

    # What one rank does for all

    def shared(self, work: Callable[[], _T]) -> _T:
        """What ``work`` gives the first rank, which alone does it; the others wait, as long as it lives.

        The value has to survive JSON.

        Raises:
            NotFiniteError: the first rank met it; it is raised on all.
        """
        return work()

    def shared_run(self, make: Callable[[], Run], *, with_splits: bool = False) -> Run:
        """The run that the first rank makes or opens; the others only follow it."""
        return make()

    def shared_checkpoint(self, folder: Path, identity: str | None) -> tuple[Checkpoint | None, list[str]]:
        """The newest whole checkpoint of the first rank's folder, on all ranks; and what is said of damaged ones."""
        return load_newest_checkpoint(folder, identity)

    def by_turns(self, work: Callable[[], _T]) -> _T:
        """What ``work`` gives each rank; one of each host does it first, so that the others find it in the cache."""
        return work()

    def require_equal(self, what: str, value: Mapping[str, Any]) -> None:
        """Check that all ranks have the same value.

        Raises:
            ConfigError: they have not; the message names the first key that differs.
        """

    # Within a step

    def voted(self, number: int) -> int:
        """The largest of the numbers that the ranks bring."""
        return number

    def part(self, index_N: Tensor) -> Tensor:
        """Of a global batch the images that this rank computes."""
        return index_N

    def loss_share(self, num_images: int) -> float:
        """What this rank's mean loss counts, so that the mean over the ranks is that over the global batch."""
        return 1.0

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the ranks of each value."""
        return values

    def replicated(self, network: nn.Module) -> nn.Module:
        """The network whose backward pass leaves the mean of all ranks' gradients."""
        return network

    # Between epochs

    def align(self, *networks: nn.Module) -> None:
        """Give every rank the first one's weights and statistics."""

    def logits(
        self, predictor: Predictor, pixels_NHWC: NDArray[np.uint8], before_batch: Callable[[], None] = lambda: None
    ) -> NDArray[np.float32]:
        """N,K logits to the bits of ``Predictor.logits``: the same batches, each run by one rank.

        ``before_batch`` is called as often by each rank, so it may ask them all, and may raise on all.
        """
        return predictor.logits(pixels_NHWC, before_batch)

    # When something fails

    def ended_by(self, error: BaseException) -> BaseException:
        """What to raise in this process when ``error`` ends it."""
        return error

    def leave(self) -> None:
        """Say goodbye."""


ALONE = World()


def with_processes(config: Config, world: World) -> Config:
    """The settings for this world: how many processes, and for each its share of the host's threads."""
    engine: dict[str, Any] = {"processes": world.size}
    if config.engine.threads is None and world.local_size > 1:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        engine["threads"] = max(1, cores // world.local_size)
    return config.updated({"engine": engine})


def require_shares(world: World, batch_size: int, num_parts: int) -> None:
    """Check that a batch has an image for each rank, and where it is added up in ``num_parts``, as many for each.

    Raises:
        ConfigError: it has not.
    """
    if num_parts > 1 and batch_size % world.size:
        raise ConfigError(
            f"training.accumulate = {num_parts} wants batches that {world.size} processes share evenly, not of "
            f"{batch_size} images; --set training.batch_size={max(1, batch_size // world.size) * world.size}."
        )
    if batch_size < world.size:
        raise ConfigError(
            f"a batch of {batch_size} images cannot be shared by {world.size} processes; "
            f"--set training.batch_size={world.size} or start fewer."
        )

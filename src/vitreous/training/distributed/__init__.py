"""Several processes that train one run: who they are, how they agree, and what one of them does for all.

``torchrun`` starts the processes (ranks) and tells each its place in the environment. Every rank prepares the same
images and the same network; of each global batch it takes its slice, and DDP makes the gradients those of the whole
batch. The first rank alone measures, decides, speaks and writes the run folder. Without ``torchrun`` there is one
process, ``ALONE``, for which everything here does nothing, so that the loop reads the same.

``world`` says what a process can ask of the others, ``ranks`` asks it of several, through the process group and the
``board``; ``torchrun`` reads the environment, and ``shared_norm`` gives batch norms the statistics of the whole batch.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from vitreous.errors import ConfigError
from vitreous.training.distributed.torchrun import number_in
from vitreous.training.distributed.world import ALONE, World

_NAMED_BY_TORCHRUN = ("RANK", "MASTER_ADDR", "MASTER_PORT")


@contextmanager
def joined() -> Iterator[World]:
    """The processes that ``torchrun`` started, with this one among them; ``ALONE`` where there is one.

    An error of one rank ends all: it is told once on each host, and every process ends with its status.

    Raises:
        ConfigError: the environment names a world that cannot be.
        MachineError: another rank no longer answers.
    """
    world = _join(os.environ)
    try:
        yield world
    except BaseException as error:
        ending = world.ended_by(error)
        if ending is error:
            raise
        raise ending from error
    finally:
        world.leave()


def _join(environment: Mapping[str, str]) -> World:
    size = number_in(environment, "WORLD_SIZE", 1)
    if size == 1:
        return ALONE
    if size < 1:
        raise ConfigError(f"WORLD_SIZE = {size}: it is the number of processes; torchrun sets it.")
    if missing := [name for name in _NAMED_BY_TORCHRUN if not environment.get(name)]:
        raise ConfigError(
            f"WORLD_SIZE = {size} asks for several processes, but {' and '.join(missing)} is not set; start them with "
            f"torchrun --nproc-per-node {size} -m vitreous train DATA, or unset WORLD_SIZE."
        )
    rank = number_in(environment, "RANK", 0)
    if not 0 <= rank < size:
        raise ConfigError(f"RANK = {rank} must be in 0 .. {size - 1}, below WORLD_SIZE; torchrun sets both.")
    number_in(environment, "MASTER_PORT", 0)
    from vitreous.training.distributed.ranks import Ranks  # loads what one process alone never needs

    return Ranks(environment, rank, size)

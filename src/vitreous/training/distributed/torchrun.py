"""What ``torchrun`` tells each process that it starts, in its environment."""

import os
import socket
from collections.abc import Mapping

from vitreous.errors import ConfigError

_SECONDS_TO_ANSWER = 120.0  # of a step, and without a sign of life, until a rank counts as lost


def refuse_ranks(why: str) -> None:
    """Do nothing if this is one process alone.

    Raises:
        ConfigError: ``torchrun`` started several.
    """
    if number_in(os.environ, "WORLD_SIZE", 1) > 1:
        raise ConfigError(f"{why}; start it without torchrun.")


def is_restart() -> bool:
    """Whether ``torchrun`` started this process in place of one that failed."""
    return number_in(os.environ, "TORCHELASTIC_RESTART_COUNT", 0) > 0


def launch_name() -> str | None:
    """What all processes of one call of ``torchrun`` on this host have in common, restarted ones too."""
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    return None if name is None else f"{name} on {socket.gethostname()}, process {os.getppid()}"


def number_in(environment: Mapping[str, str], name: str, default: int) -> int:
    """The whole number that a variable holds.

    Raises:
        ConfigError: it holds something else.
    """
    try:
        return int(environment.get(name, default))
    except ValueError:
        raise ConfigError(f"{name} = {environment[name]!r} wants a whole number; torchrun sets it.") from None


def seconds_to_answer(environment: Mapping[str, str]) -> float:
    """How long a rank may be silent until it counts as lost; ``VITREOUS_ANSWER_SECONDS`` says otherwise."""
    text = environment.get("VITREOUS_ANSWER_SECONDS", "")
    try:
        seconds = float(text) if text else _SECONDS_TO_ANSWER
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 86_400:
        raise ConfigError(f"VITREOUS_ANSWER_SECONDS = {text!r} wants a number of seconds from 1 to 86400.")
    return seconds

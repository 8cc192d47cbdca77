"""Architectures, and nothing but: networks by name or by a line of the pattern language.

A network knows no data, settings or optimisers. Importing this package does not import torch; building does.
"""

import difflib
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from vitreous.errors import ConfigError
from vitreous.models.pattern_language import is_word, parse
from vitreous.models.pattern_plan import plan
from vitreous.models.table import ARCHITECTURES, Architecture

if TYPE_CHECKING:
    from torch import nn

__all__ = ["ARCHITECTURES", "Architecture", "build_network", "check_network", "is_pattern"]


def is_pattern(model: str) -> bool:
    """Whether this is meant as a line of the pattern language rather than as a name.

    >>> is_pattern("conv8 pool flatten fc"), is_pattern("lenet5"), is_pattern("resnet81")
    (True, False, False)
    """
    words = model.replace("[", " [ ").split()
    return len(words) != 1 or is_word(words[0].lower())


def check_network(model: str, *, num_classes: int, in_channels: int, image_size: tuple[int, int]) -> None:
    """Refuse a network that does not exist or does not fit the data, before torch is loaded.

    Raises:
        ConfigError: the name is not in the table.
        PatternError: the line cannot be read, or a layer does not fit.
        ShapeError: the named architecture does not take images of this size.
    """
    if is_pattern(model):
        plan(parse(model), in_channels=in_channels, image_size=image_size, num_classes=num_classes)
    else:
        _architecture(model).check(image_size)


def build_network(
    model: str,
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    classes: Sequence[str] | None = None,
    seed: int = 0,
) -> "nn.Module":
    """A network with fresh weights, N,C,H,W -> logits N,K. The seed decides the weights; no global state changes.

    Raises:
        ConfigError, PatternError, ShapeError: see check_network.
    """
    check_network(model, num_classes=num_classes, in_channels=in_channels, image_size=image_size)
    from vitreous.models.initialisation import seeded  # torch comes with the first network

    with seeded(seed):
        if is_pattern(model):
            from vitreous.models.pattern import pattern_network

            return pattern_network(model, in_channels=in_channels, image_size=image_size, num_classes=num_classes)
        architecture = _architecture(model)
        module, _, function = architecture.target.partition(":")
        names = {"classes": classes} if architecture.wants_class_names else {}
        network: nn.Module = getattr(import_module(module), function)(
            num_classes=num_classes, in_channels=in_channels, **architecture.arguments, **names
        )
        return network


def _architecture(name: str) -> Architecture:
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    near = difflib.get_close_matches(name.lower(), ARCHITECTURES, n=2)
    meant = f"did you mean {' or '.join(near)}?" if near else "`vitreous models` lists the names."
    raise ConfigError(
        f"there is no network named '{name}'; {meant}\n"
        "A line of words builds one of your own: conv32 pool conv64 pool flatten fc"
    )

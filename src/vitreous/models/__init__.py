"""Architectures, and nothing but: networks by name, by a line of the pattern language, from timm or from a file.

A network knows no data, settings or optimisers. Importing this package does not import torch; building does.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from vitreous.models.foreign import describe_foreign, foreign_network, is_factory, is_foreign, is_timm
from vitreous.models.pattern_language import is_word, parse
from vitreous.models.pattern_plan import plan
from vitreous.models.table import ARCHITECTURES, Architecture, architecture_named

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "architecture_named",
    "build_network",
    "check_network",
    "describe",
    "is_factory",
    "is_pattern",
    "is_timm",
]


def is_pattern(model: str) -> bool:
    """Whether this is meant as a line of the pattern language rather than as a name.

    >>> is_pattern("conv8 pool flatten fc"), is_pattern("lenet5"), is_pattern("resnet81")
    (True, False, False)
    """
    if is_foreign(model):
        return False
    words = model.replace("[", " [ ").split()
    return len(words) != 1 or is_word(words[0].lower())


def check_network(model: str, *, num_classes: int, in_channels: int, image_size: tuple[int, int]) -> None:
    """Refuse a network that does not exist or does not fit the data, before torch is loaded.

    A network of timm's or of a file's is built, by torch, and given zeros: how else would one know?

    Raises:
        ConfigError: the name is not in the table, or there is no such foreign network; see ``foreign_network``.
        PatternError: the line cannot be read, or a layer does not fit.
        ShapeError: the network does not take images of this size.
    """
    if is_foreign(model):
        build_network(model, num_classes=num_classes, in_channels=in_channels, image_size=image_size)
    elif is_pattern(model):
        plan(parse(model), in_channels=in_channels, image_size=image_size, num_classes=num_classes)
    else:
        architecture_named(model).check(image_size)


def build_network(
    model: str,
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    classes: Sequence[str] | None = None,
    seed: int = 0,
    probe: bool = True,
) -> "nn.Module":
    """A network with fresh weights, N,C,H,W -> logits N,K. The seed decides the weights; no global state changes.

    Args:
        model: a name of the table, a line of the pattern language, ``timm:NAME``, or ``file.py:factory``, which runs
            that file.
        probe: give a foreign network zeros first, and refuse it if it answers anything but N,K; not needed where the
            caller runs it anyway.

    Raises:
        ConfigError, PatternError, ShapeError: see check_network.
    """
    if not is_foreign(model):
        check_network(model, num_classes=num_classes, in_channels=in_channels, image_size=image_size)
    from vitreous.models.initialisation import seeded  # torch comes with the first network

    with seeded(seed):
        if is_foreign(model):
            return foreign_network(
                model, num_classes=num_classes, in_channels=in_channels, image_size=image_size, probe=probe
            )
        if is_pattern(model):
            from vitreous.models.pattern import pattern_network

            return pattern_network(model, in_channels=in_channels, image_size=image_size, num_classes=num_classes)
        architecture = architecture_named(model)
        module, _, function = architecture.target.partition(":")
        names = {"classes": classes} if architecture.wants_class_names else {}
        network: nn.Module = getattr(import_module(module), function)(
            num_classes=num_classes, in_channels=in_channels, **architecture.arguments, **names
        )
        return network


def describe(model: str) -> dict[str, Any]:
    """What a manifest says of a network: its name, and of a file's network the SHA-256 of the source.

    >>> describe("resnet18")
    {'name': 'resnet18'}
    """
    return describe_foreign(model) if is_foreign(model) else {"name": model}

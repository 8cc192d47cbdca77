"""Which architecture a set of names and shapes belongs to, whatever the network it was given for."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn

from vitreous.models import ARCHITECTURES, build_network

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

COUNTER = ".num_batches_tracked"  # of a batch norm; files from before 2018 have none, and nothing needs them
_LEAST_LIKENESS = 0.8  # below, no architecture is named


@dataclass(frozen=True, slots=True)
class Likeness:
    """The architectures that fit best, equally well: ``num_fitting`` of the file's ``num_tensors`` tensors.

    ``share`` is the likeness in both directions: 1 where nothing is missing and nothing is too much.
    """

    names: tuple[str, ...]
    num_fitting: int
    num_tensors: int
    share: float

    def __str__(self) -> str:
        return f"{' or '.join(self.names)} ({self.num_fitting} of {self.num_tensors} tensors fit)"


@dataclass(frozen=True, slots=True)
class Outline:
    """The names and shapes of a network's state, and the two layers that may differ: the first and the last."""

    shapes: Shapes
    head: str | None
    first: str | None

    @classmethod
    def of(cls, network: nn.Module, head: str | None) -> "Outline":
        """The outline of a network whose last layer is ``head``."""
        shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        return cls(shapes, head, first_convolution(network))

    def likeness(self, shapes: Shapes) -> tuple[int, float]:
        """How many of the file's tensors fit, and the share of both sides that they are (Dice's coefficient)."""
        fitting = [name for name, shape in shapes.items() if name in self.shapes and self._fits(name, shape)]
        share = 2 * _num_needed(fitting) / max(1, _num_needed(self.shapes) + _num_needed(shapes))
        return len(fitting), share

    def _fits(self, name: str, shape: Shape) -> bool:
        own = self.shapes[name]
        if self.head is not None and name.startswith(f"{self.head}."):
            return len(own) == len(shape)
        if name == f"{self.first}.weight":
            return len(own) == len(shape) and (own[0], own[2:]) == (shape[0], shape[2:])
        return own == shape


def looks_like(shapes: Shapes) -> Likeness | None:
    """The architectures of the table that the tensors fit best, whatever the classes and colours; None if none is near.

    >>> str(looks_like({"fc.weight": (10, 84), "fc.bias": (10,)}))
    'None'
    """
    found = {name: outline.likeness(shapes) for name, outline in _outlines().items()}
    num_fitting, share = max(found.values(), key=lambda each: each[1])
    if share < _LEAST_LIKENESS:
        return None
    names = tuple(name for name, each in found.items() if each == (num_fitting, share))
    return Likeness(names, num_fitting, len(shapes), share)


def first_convolution(network: nn.Module) -> str | None:
    """The name of the convolution that sees the image: the first one."""
    return next((name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)), None)


def _num_needed(names: Iterable[str]) -> int:
    return sum(not name.endswith(COUNTER) for name in names)


@cache
def _outlines() -> dict[str, Outline]:
    """Of every architecture; built without memory for weights."""
    outlines = {}
    for architecture in ARCHITECTURES.values():
        if architecture.arguments.get("is_blurred"):  # the same tensors as without; who wants the blur names it
            continue
        channels, height, width = architecture.input
        with torch.device("meta"):
            network = build_network(
                architecture.name,
                num_classes=architecture.num_classes,
                in_channels=channels,
                image_size=(height, width),
                classes=[str(number) for number in range(architecture.num_classes)],
            )
        linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
        outlines[architecture.name] = Outline.of(network, linear[-1] if linear else None)
    return outlines

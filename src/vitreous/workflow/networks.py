"""What is known of a network before it is trained."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vitreous.errors import ConfigError, UserError, VitreousError
from vitreous.models import (
    ARCHITECTURES,
    Architecture,
    architecture_named,
    build_network,
    is_factory,
    is_pattern,
    is_timm,
)
from vitreous.models.foreign import timm_input
from vitreous.run import Run
from vitreous.trace import receptive_field_json, trace
from vitreous.trace.shapes import ShapesOnly
from vitreous.trace.summary import Summary

_PHOTOGRAPH = (3, 224, 224)
_NUM_CLASSES = 1000  # where nothing says otherwise: ImageNet's


def summary(model: str | nn.Module, input: Sequence[int] | None = None, *, num_classes: int | None = None) -> Summary:
    """What a network does layer by layer: shapes, parameters, MACs, memory, receptive fields. No weights, no data.

    Args:
        model: a name, a line of the pattern language, ``timm:NAME``, ``file.py:factory``, a run folder, or any module.
        input: (C, H, W) of one image; by default the model's own.
        num_classes: of a network that is built here; by default its own.

    Raises:
        UserError: no such model, or it does not take such images.

    >>> found = summary(nn.Conv2d(3, 64, 7, stride=2, padding=3), (3, 224, 224))
    >>> found.layers[0].output_shape, found.layers[0].macs
    ((64, 112, 112), 118013952)
    """
    if isinstance(model, nn.Module):
        if input is None:
            raise UserError("of a module the input's shape is needed too: summary(module, (3, 224, 224)).")
        return Summary(type(model).__name__, tuple(input), trace(model, input))
    if Path(model, "manifest.json").is_file():
        name, shape, classes = _of_run(Path(model), num_classes)
    else:
        name, shape, classes = model, own_input(model), num_classes or _own_classes(model)
    shape = shape if input is None else _checked(input)
    network = network_of_shapes(name, shape, classes)
    return Summary(model, shape, trace(network, shape))


def network_of_shapes(model: str, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """A network without numbers, on torch's meta device; a foreign one that cannot be built there has its numbers."""
    channels, height, width = shape
    build = partial(
        build_network, model, num_classes=num_classes, in_channels=channels, image_size=(height, width), probe=False
    )
    try:
        with torch.device("meta"), ShapesOnly():
            return build()
    except VitreousError:
        if not (is_timm(model) or is_factory(model)):
            raise
        return build()


def own_input(model: str) -> tuple[int, int, int]:
    """The shape of the images that a network was designed for; a photograph's where nothing says so."""
    if is_timm(model):
        return timm_input(model)
    return _PHOTOGRAPH if is_factory(model) or is_pattern(model) else architecture_named(model).input


def _own_classes(model: str) -> int:
    return ARCHITECTURES[model].num_classes if model in ARCHITECTURES else _NUM_CLASSES


def _of_run(path: Path, num_classes: int | None) -> tuple[str, tuple[int, int, int], int]:
    """What a run says of its network.

    Raises:
        ConfigError: a file of the user's builds it, and a run folder never causes code to be loaded.
    """
    found = Run.open(path).manifest["model"]
    if "source_sha256" in found:
        raise ConfigError(
            f"the network of {path} came from {found['name']}, and a run folder never causes code to be loaded; "
            f"name that file: vitreous summary path/to/{found['name']}"
        )
    arguments = found["arguments"]
    shape = (arguments["in_channels"], *arguments["image_size"])
    return found["name"], shape, num_classes or arguments["num_classes"]


def _checked(shape: Sequence[int]) -> tuple[int, int, int]:
    if len(shape) != 3 or min(shape) < 1:
        raise UserError(f"an image has a shape of C x H x W, such as 3x224x224, not {'x'.join(map(str, shape))}.")
    channels, height, width = shape
    return channels, height, width


def list_models(name: str | None = None) -> list[dict[str, Any]]:
    """The architectures that go by a name, or one of them: what they are, what they cost and see, what was published.

    Counts and receptive fields are those of the built network, traced on an image of its own size; the receptive field
    is that of the last units that still have places on the image.

    Raises:
        ConfigError: there is no such name.
    """
    architectures = ARCHITECTURES.values() if name is None else [architecture_named(name)]
    return [_model_facts(architecture) for architecture in architectures]


def _model_facts(architecture: Architecture) -> dict[str, Any]:
    network = network_of_shapes(architecture.name, architecture.input, architecture.num_classes)
    found = trace(network, architecture.input)
    fields = () if found.last_map is None else found.fields[found.last_map]
    return {
        "name": architecture.name,
        "year": architecture.year,
        "depth": architecture.depth,
        "input": "x".join(map(str, architecture.input)),
        "parameters": found.parameters,
        "macs": found.macs,
        "computed_macs": found.computed_macs,
        "receptive_field": receptive_field_json(fields),
        "published": [dataclasses.asdict(published) for published in architecture.published],
        "idea": architecture.idea,
        "source": architecture.source,
        "note": architecture.note,
    }

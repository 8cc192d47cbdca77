"""What is known of a network before it is trained."""

import dataclasses
from typing import Any

import torch

from vitreous.models import Architecture, architecture_named, build_network
from vitreous.models.table import ARCHITECTURES
from vitreous.trace import receptive_field_json, trace
from vitreous.trace.shapes import ShapesOnly


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
    channels, height, width = architecture.input
    with torch.device("meta"), ShapesOnly():
        network = build_network(
            architecture.name,
            num_classes=architecture.num_classes,
            in_channels=channels,
            image_size=(height, width),
        )
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

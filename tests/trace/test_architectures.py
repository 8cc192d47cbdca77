"""The published figures of every network in the table: parameters, multiply-accumulates, receptive fields."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vitreous.models import ARCHITECTURES, build_network
from vitreous.trace import trace
from vitreous.trace.shapes import ShapesOnly


def network_of(name):
    row = ARCHITECTURES[name]
    with torch.device("meta"), ShapesOnly():
        return build_network(
            name, num_classes=row.num_classes, in_channels=row.input[0], image_size=row.input[1:]
        ), row.input


# Recomputed by hand from the papers' tables; the receptive field is that before the pooling to 1x1, and its jump.
PUBLISHED = {
    "lenet5-1998": (60_000, 326_520, 32, None),
    "lenet5": (61_706, 416_520, 32, None),
    "alexnet": (61_100_840, 714_188_480, 195, 32),
    "vgg16": (138_357_544, 15_470_264_320, 212, 32),
    "resnet18": (11_689_512, 1_814_073_344, 435, 32),
    "resnet34": (21_797_672, 3_663_761_408, 899, 32),
    "resnet50": (25_557_032, 4_089_184_256, 427, 32),
    "resnet101": (44_549_160, 7_801_405_440, 971, 32),
    "resnet152": (60_192_808, 11_513_626_624, 1451, 32),
    "resnet50-paper": (25_557_032, 3_857_973_248, 483, 32),
    "mobilenet_v2": (3_504_872, 300_774_272, 491, 32),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_figures(name):
    found = trace(*network_of(name))
    fields = found.fields[found.last_map]
    size, jump = ({getattr(field, key) for field in fields} for key in ("size", "jump"))
    assert (found.parameters, found.macs, *size, *jump) == PUBLISHED[name]
    assert {field.status for field in fields} == {"exact"}


def test_lenets_layers():
    found = trace(*network_of("lenet5"))
    sizes = {step.path: field[0].size for step, field in zip(found.operations, found.fields, strict=True)}
    assert [sizes[layer] for layer in ("c1", "s2", "c3", "s4", "c5")] == [5, 6, 14, 16, 32]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_network_agrees_with_torch_and_with_itself(name):
    network, shape = network_of(name)
    found = trace(network, shape)
    with FlopCounterMode(display=False) as flops, torch.no_grad(), torch.device("meta"):
        network.eval()(torch.empty(1, *shape))
    assert 2 * found.computed_macs == flops.get_total_flops()
    assert sum(step.parameters for step in found.operations) == found.parameters
    assert all(field.status == "exact" for fields in found.fields for field in fields if field.has_places)
    assert not any(field.status == "unknown" for fields in found.fields for field in fields)
    assert found.macs == found.computed_macs or name == "lenet5-1998"  # whose C3 is computed with its zeros


def test_resnet50s_last_units_are_centred_at_multiples_of_32():
    found = trace(*network_of("resnet50"))
    field = found.fields[found.last_map][0].field
    assert [field.centre(unit) for unit in range(7)] == [0, 32, 64, 96, 128, 160, 192]

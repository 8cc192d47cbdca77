import pytest
import torch

from vitreous.models import ARCHITECTURES, build_network
from vitreous.weights.likeness import looks_like

TWINS = {  # the same names and shapes, other strides or shortcuts
    **{f"resnet{depth}": {f"resnet{depth}", f"resnet{depth}-paper"} for depth in (50, 101, 152)},
    **{f"resnet{depth}-paper": {f"resnet{depth}", f"resnet{depth}-paper"} for depth in (50, 101, 152)},
    "resnet18-blur": {"resnet18"},  # never guessed
    "resnet34-blur": {"resnet34"},
    "resnet50-blur": {"resnet50", "resnet50-paper"},
    **{
        f"{kind}{depth}-cifar": {f"resnet{depth}-cifar", f"plain{depth}-cifar"}
        for depth in (20, 32, 44, 56, 110)
        for kind in ("resnet", "plain")
    },
}


def shapes_of(name, num_classes=7, channels=3):
    _, height, width = ARCHITECTURES[name].input
    with torch.device("meta"):
        network = build_network(
            name, num_classes=num_classes, in_channels=channels, image_size=(height, width), classes="abcdefg"
        )
    return {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_is_recognised_whatever_its_classes_and_colours(name):
    shapes = shapes_of(name, channels=1)
    alike = looks_like(shapes)
    assert set(alike.names) == TWINS.get(name, {name})
    assert (alike.num_fitting, alike.num_tensors) == (len(shapes), len(shapes)) or name == "lenet5-1998"  # its codes
    assert alike.share > 0.9


def test_a_file_without_head_or_counters_is_recognised():
    shapes = {key: shape for key, shape in shapes_of("resnet34").items() if not key.startswith("fc.")}
    assert looks_like(shapes).names == ("resnet34",)
    old = {key: shape for key, shape in shapes_of("resnet34").items() if not key.endswith("num_batches_tracked")}
    assert str(looks_like(old)) == "resnet34 (182 of 182 tensors fit)"
    assert looks_like(old).share == 1


def test_strangers_are_not_named():
    assert looks_like({"blocks.0.attn.qkv.weight": (2304, 768)}) is None
    assert looks_like(dict(list(shapes_of("resnet50").items())[:20])) is None

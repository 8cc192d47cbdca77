"""The article's architectures: published counts, torchvision's keys, the smallest images, and shortcuts that add.

Nothing is computed where shapes suffice: networks are built and run on torch's "meta" device.
"""

from contextlib import ExitStack
from functools import cache

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vitreous.errors import ShapeError
from vitreous.geometry import ReceptiveField
from vitreous.models import ARCHITECTURES, build_network, check_network, is_pattern
from vitreous.models.resnet import BasicBlock, Bottleneck, PaddedShortcut, plain_block

NAMES = [name for name in ARCHITECTURES if not name.startswith("lenet")]
EVERY_BLOCK = ["alexnet", "vgg11_bn", "resnet18", "resnet50", "resnet20-cifar", "plain20-cifar", "mobilenet_v2"]


@cache  # no test changes it
def on_meta(name, *, num_classes=1000, in_channels=3):
    with torch.device("meta"):
        network = build_network(name, num_classes=num_classes, in_channels=in_channels, image_size=(224, 224))
    return network.eval()


def shape_through(network, *, in_channels=3, image_size=(224, 224)):
    return network(torch.empty(1, in_channels, *image_size, device="meta")).shape


def num_parameters(network):
    return sum(weights.numel() for weights in network.parameters())


def test_all_names_of_the_families_are_there():
    assert set(NAMES) == {
        "alexnet",
        *(f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")),
        *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
        *(f"resnet{depth}-paper" for depth in (50, 101, 152)),
        *(f"resnet{depth}-blur" for depth in (18, 34, 50)),
        *(f"{kind}{depth}-cifar" for kind in ("resnet", "plain") for depth in (20, 32, 44, 56, 110)),
        "mobilenet_v2",
    }
    assert not any(is_pattern(name) for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_any_number_of_classes_and_channels(name):
    usual, grey, four = on_meta(name), on_meta(name, in_channels=1), on_meta(name, in_channels=4, num_classes=10)
    first = next(module for module in usual.modules() if isinstance(module, nn.Conv2d))
    last = [module for module in usual.modules() if isinstance(module, nn.Linear)][-1]
    per_channel, per_class = first.weight[:, 0].numel(), last.in_features + 1
    assert num_parameters(grey) == num_parameters(usual) - 2 * per_channel
    assert num_parameters(four) == num_parameters(usual) + per_channel - 990 * per_class
    smallest = ARCHITECTURES[name].smallest_side
    assert shape_through(four, in_channels=4, image_size=(smallest, smallest + 1)) == (1, 10)


# --- published counts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "published"),
    {
        "alexnet": 61_100_840,
        "vgg11": 132_863_336,
        "vgg13": 133_047_848,
        "vgg16": 138_357_544,
        "vgg16_bn": 138_365_992,
        "vgg19": 143_667_240,
        "resnet18": 11_689_512,
        "resnet34": 21_797_672,
        "resnet50": 25_557_032,
        "resnet101": 44_549_160,
        "resnet152": 60_192_808,
        "resnet50-paper": 25_557_032,
        "resnet101-paper": 44_549_160,
        "resnet152-paper": 60_192_808,
        "mobilenet_v2": 3_504_872,
    }.items(),
)
def test_parameters(name, published):
    assert num_parameters(on_meta(name)) == published


@pytest.mark.parametrize(("depth", "millions"), {20: "0.27", 32: "0.46", 44: "0.66", 56: "0.85", 110: "1.7"}.items())
def test_parameters_for_cifar(depth, millions):
    """The paper's table 6; a plain network has exactly as many as the residual one beside it."""
    residual, plain = (on_meta(f"{kind}{depth}-cifar", num_classes=10) for kind in ("resnet", "plain"))
    assert f"{num_parameters(residual) / 1e6:.{len(millions) - 2}f}" == millions
    assert {key: weights.shape for key, weights in residual.state_dict().items()} == {
        key: weights.shape for key, weights in plain.state_dict().items()
    }


@pytest.mark.parametrize(
    ("name", "macs"),
    {
        "alexnet": 714_188_480,
        "vgg16": 15_470_264_320,
        "resnet18": 1_814_073_344,
        "resnet34": 3_663_761_408,
        "resnet50": 4_089_184_256,
        "resnet50-paper": 3_857_973_248,
        "resnet101": 7_801_405_440,
        "resnet152": 11_513_626_624,
        "mobilenet_v2": 300_774_272,
    }.items(),
)
def test_macs_at_224_px(name, macs):
    network = on_meta(name)
    with FlopCounterMode(display=False) as flops:
        shape_through(network)
    assert flops.get_total_flops() == 2 * macs


@pytest.mark.parametrize(
    ("name", "size"),
    {
        "alexnet": 195,
        "vgg16": 212,
        "resnet18": 435,
        "resnet34": 899,
        "resnet50": 427,
        "resnet101": 971,
        "resnet152": 1451,
        "resnet50-paper": 483,
        "resnet101-paper": 1027,
        "resnet152-paper": 1507,
        "mobilenet_v2": 491,
    }.items(),
)
def test_receptive_field_before_the_last_pooling(name, size):
    """DESIGN's section 5, and for the paper's form the figures of Araujo, Norris, Sim 2019."""
    field = ReceptiveField()
    for path, module in on_meta(name).named_modules():
        if isinstance(module, nn.Conv2d | nn.MaxPool2d) and "downsample" not in path:  # the branches see more
            kernel, stride, padding = (
                value[0] if isinstance(value, tuple) else value
                for value in (module.kernel_size, module.stride, module.padding)
            )
            field = field.through(kernel, stride, padding)
    assert (field.size, field.jump) == (size, 32)


@pytest.mark.parametrize("name", NAMES)
def test_depth_is_the_number_of_layers_with_weights(name):
    """As the papers count: without the convolutions of the shortcuts."""
    layers = [
        path
        for path, module in on_meta(name).named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and "downsample" not in path
    ]
    assert len(layers) == ARCHITECTURES[name].depth


# --- torchvision's keys -----------------------------------------------------------------------------------------------


def numbered(prefix, numbers):
    return [f"{prefix}.{number}.{kind}" for number in numbers for kind in ("weight", "bias")]


def test_keys_of_alexnet():
    keys = numbered("features", (0, 3, 6, 8, 10)) + numbered("classifier", (1, 4, 6))
    assert list(on_meta("alexnet").state_dict()) == keys


def test_keys_of_vgg():
    convolutions = numbered("features", (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28))
    weights = on_meta("vgg16").state_dict()
    assert list(weights) == convolutions + numbered("classifier", (0, 3, 6))
    assert weights["classifier.0.weight"].shape == (4096, 25_088)


def test_keys_of_vgg_with_batch_norm():
    places = (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)
    weights = on_meta("vgg16_bn").state_dict()
    assert {key for key in weights if weights[key].ndim == 4} == {f"features.{place}.weight" for place in places}
    norms = {key.removesuffix(".running_var") for key in weights if key.endswith("running_var")}
    assert norms == {f"features.{place + 1}" for place in places}
    assert f"features.{places[0]}.bias" in weights


@pytest.mark.parametrize("name", ["resnet50", "resnet50-paper"])
def test_keys_of_resnet(name):
    weights = on_meta(name).state_dict()
    assert len(weights) == 320
    assert list(weights)[:3] == ["conv1.weight", "bn1.weight", "bn1.bias"]
    first_block = dict.fromkeys(key.rpartition(".")[0] for key in weights if key.startswith("layer1.0."))
    parts = ["conv1", "bn1", "conv2", "bn2", "conv3", "bn3", "downsample.0", "downsample.1"]
    assert list(first_block) == [f"layer1.0.{part}" for part in parts]
    projected = {key.partition(".downsample")[0] for key in weights if "downsample" in key}
    assert projected == {"layer1.0", "layer2.0", "layer3.0", "layer4.0"}
    assert list(weights)[-2:] == ["fc.weight", "fc.bias"]
    assert weights["layer4.2.conv3.weight"].shape == (2048, 512, 1, 1)


def test_keys_of_mobilenet():
    weights = on_meta("mobilenet_v2").state_dict()
    assert len(weights) == 314
    shapes = {
        "features.0.0.weight": (32, 3, 3, 3),
        "features.1.conv.0.0.weight": (32, 1, 3, 3),
        "features.1.conv.1.weight": (16, 32, 1, 1),
        "features.1.conv.2.weight": (16,),
        "features.2.conv.0.0.weight": (96, 16, 1, 1),
        "features.2.conv.1.0.weight": (96, 1, 3, 3),
        "features.2.conv.2.weight": (24, 96, 1, 1),
        "features.17.conv.3.running_var": (320,),
        "features.18.0.weight": (1280, 320, 1, 1),
        "classifier.1.weight": (1000, 1280),
    }
    assert {key: tuple(weights[key].shape) for key in shapes} == shapes


# --- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_smaller_images_are_refused_and_no_others(name):
    smallest = ARCHITECTURES[name].smallest_side
    assert shape_through(on_meta(name), image_size=(smallest, smallest)) == (1, 1000)
    for size in ((smallest - 1, smallest), (smallest, smallest - 1)):
        with pytest.raises(ShapeError, match=f"^{name} takes images with sides of {smallest} px or more .*; scale"):
            check_network(name, num_classes=10, in_channels=3, image_size=size)


@pytest.mark.parametrize("name", [name for name in NAMES if ARCHITECTURES[name].smallest_side > 1])
def test_what_is_refused_would_not_have_worked(name):
    smallest = ARCHITECTURES[name].smallest_side
    with pytest.raises(RuntimeError, match=r"too small|should be less than"):
        shape_through(on_meta(name), image_size=(smallest - 1, smallest))


def test_the_refusal_names_the_layer_and_the_smallest_size():
    with pytest.raises(ShapeError) as caught:
        check_network("vgg16", num_classes=10, in_channels=3, image_size=(28, 28))
    assert str(caught.value) == (
        "vgg16 takes images with sides of 32 px or more (the fifth max pool, 2x2, must find a 2x2 map), not 28x28; "
        "scale them with --image-size 224"
    )


# --- blocks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [BasicBlock(8, 8), Bottleneck(8, 8)], ids=["basic", "bottleneck"])
def test_a_block_without_its_branch_hands_its_input_on(block):
    last_norm = block.bn3 if isinstance(block, Bottleneck) else block.bn2
    nn.init.zeros_(last_norm.weight)
    x = torch.randn(2, 8, 5, 5)
    assert block(x).equal(F.relu(x))


@pytest.mark.parametrize("stride", [1, 2])
def test_a_residual_block_is_the_plain_one_plus_its_shortcut(stride):
    residual, plain = BasicBlock(4, 8, stride, PaddedShortcut).eval(), plain_block(4, 8, stride).eval()
    plain.load_state_dict(residual.state_dict())
    x = torch.randn(2, 4, 7, 7)
    assert residual(x).allclose(F.relu(plain[:-1](x) + residual.downsample(x)))


def test_a_padded_shortcut_takes_every_other_position_and_adds_channels_of_zeros():
    x = torch.arange(2 * 25.0).view(1, 2, 5, 5)
    y = PaddedShortcut(2, 4, stride=2)(x)
    assert y.shape == (1, 4, 3, 3)
    assert y[0, 0].tolist() == [[0, 2, 4], [10, 12, 14], [20, 22, 24]]
    assert y[0, 2:].eq(0).all()


@pytest.mark.parametrize(("name", "strides"), [("resnet50", (1, 2)), ("resnet50-paper", (2, 1))])
def test_where_a_bottleneck_halves_the_map(name, strides):
    network = on_meta(name)
    for layer in (network.layer2, network.layer3, network.layer4):
        assert (layer[0].conv1.stride[0], layer[0].conv2.stride[0]) == strides
        assert layer[0].downsample[0].stride == (2, 2)


def test_shortcuts_of_mobilenet_join_blocks_of_the_same_shape():
    network = on_meta("mobilenet_v2")
    joined = [number for number in range(1, 18) if network.features[number].has_shortcut]
    assert joined == [3, 5, 6, 8, 9, 10, 12, 13, 15, 16]  # all but the first block of each row of table 2


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY_BLOCK)
def test_every_weight_is_reached_by_the_loss(name):
    side = max(32, ARCHITECTURES[name].smallest_side)
    names, weights = zip(*on_meta(name).named_parameters(), strict=True)
    loss = on_meta(name)(torch.empty(1, 3, side, side, device="meta")).sum()
    gradients = torch.autograd.grad(loss, weights, allow_unused=True)
    assert [name for name, gradient in zip(names, gradients, strict=True) if gradient is None] == []


@pytest.mark.parametrize("name", EVERY_BLOCK)
def test_no_activation_changes_its_input_or_is_shared(name):
    network = on_meta(name)
    activations = [module for module in network.modules() if isinstance(module, nn.ReLU | nn.ReLU6)]
    assert not any(module.inplace for module in activations)
    calls = []
    with ExitStack() as hooks:
        for module in activations:
            hooks.enter_context(module.register_forward_hook(lambda module, _inputs, _output: calls.append(module)))
        shape_through(network, image_size=(64, 64))
    assert calls == activations


def test_first_weights_follow_the_sources():
    network = build_network("mobilenet_v2", num_classes=1000, in_channels=3, image_size=(32, 32))
    last = network.features[18][0].weight
    assert last.std().item() == pytest.approx((2 / 1280) ** 0.5, rel=0.01)  # He et al., eq. 14: fan-out
    assert network.classifier[1].weight.std().item() == pytest.approx(0.01, rel=0.01)
    assert network.classifier[1].bias.eq(0).all()


@pytest.mark.parametrize("name", ["resnet18", "resnet20-cifar", "plain20-cifar", "mobilenet_v2"])
def test_logits_of_a_fresh_network_are_of_ordinary_size(name):
    network = build_network(name, num_classes=10, in_channels=3, image_size=(32, 32))
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    logits = network(x)
    assert logits.shape == (4, 10)
    assert 0.01 < logits.std().item() < 10

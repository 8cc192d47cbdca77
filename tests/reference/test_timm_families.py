"""Networks that we did not write: of every family of timm's convolutional ones, one, traced and held against torch.

Parameters and multiply-accumulates are counted on the image that the network was made for. What its units see is
compared on a small one with a backward pass in which every value and every gradient is set to one after each layer, and
everything that could take one away stands for what it reads: a maximum for an average, a product for a sum.
"""

import math

import pytest
import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from vitreous.trace import trace
from vitreous.trace.borrowing import borrowed
from vitreous.trace.receptive_field import receptive_fields
from vitreous.trace.recording import Recorder
from vitreous.trace.shapes import ShapesOnly
from vitreous.trace.support import support

timm = pytest.importorskip("timm")
pytestmark = pytest.mark.reference

FAMILIES = (
    "resnet26 resnet18d resnet26t resnext26ts seresnet18 skresnet18 ecaresnet26t resnest14d res2net50_14w_8s",
    "resnetblur18 resnetaa50 resnetrs50 wide_resnet50_2 resnetv2_50 nf_resnet26 bat_resnext26ts gcresnext26ts",
    "eca_resnext26ts lambda_resnet26t halonet26t botnet26t_256 regnetx_002 regnety_002 regnetz_005 densenet121",
    "efficientnet_b0 efficientnet_lite0 tf_efficientnetv2_b0 tf_efficientnet_b0 mobilenetv1_100 mobilenetv2_050",
    "mobilenetv3_small_050 mobilenetv4_conv_small_050 mnasnet_050 semnasnet_050 ghostnet_050 convnext_atto",
    "convnextv2_atto inception_v3 inception_v4 inception_next_atto inception_resnet_v2 xception41 legacy_xception",
    "hrnet_w18_small dla34 dpn48b nfnet_l0 dm_nfnet_f0 repvgg_a0 vovnet39a ese_vovnet19b_dw cspresnet50",
    "cspdarknet53 darknet53 tinynet_e lcnet_035 fbnetc_100 fbnetv3_b hardcorenas_a rexnet_100 selecsls42b gernet_s",
    "mixnet_s edgenext_xx_small mobileone_s0 fastvit_t8 repghostnet_050 repvit_m0_9 starnet_s1 focalnet_tiny_srf",
    "hgnet_tiny hgnetv2_b0 vgg11_bn tresnet_m convmixer_768_32 poolformer_s12 visformer_tiny nasnetalarge",
    "pnasnet5large spnasnet_100 test_resnet",
)
NAMES = [name for line in FAMILIES for name in line.split()]
SMALL = 96  # pixels a side
IN_BLOCKS = ("halonet26t", "bat_resnext26ts")  # take maps apart into blocks, which come out even for their own size
TARGETS = 4  # convolutions whose units are looked at, spread over the depth


def size_of(network):
    return network.default_cfg["input_size"]


@pytest.mark.parametrize("name", NAMES)
def test_parameters_and_macs_are_torchs(name):
    with torch.device("meta"), ShapesOnly():
        network = timm.create_model(name)
    found = trace(network, size_of(network))
    assert not found.recording.is_one_path
    assert found.parameters == sum(parameter.numel() for parameter in network.parameters())
    with FlopCounterMode(display=False) as flops, torch.no_grad(), torch.device("meta"):
        network.eval()(torch.empty(1, *size_of(network)))
    assert 2 * found.macs == flops.get_total_flops()


class Reading(TorchFunctionMode):
    """Inside, a function gives ones that depend on all that it reads, and gradients are 0 or 1."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        plain = name.strip("_").removeprefix("i") if name.startswith("__i") else name.strip("_")
        result = _READING[plain](func, *args, **kwargs) if plain in _READING else func(*args, **kwargs)
        for each in result if isinstance(result, tuple | list) else [result]:
            if isinstance(each, torch.Tensor) and each.requires_grad and not each.is_leaf:
                each.register_hook(lambda gradient: gradient if gradient is None else (gradient != 0).float())
        is_alone = isinstance(result, torch.Tensor) and result._base is None and result.requires_grad
        return result - result.detach() + 1 if is_alone and not (args and result is args[0]) else result


def _by_ones(func, input, weight, bias=None, *args, **kwargs):
    return func(input, torch.ones_like(weight), None, *args, **kwargs)


def _same(func, input, *args, **kwargs):
    return input * 1


def _sum_of_all(func, *args, **kwargs):
    tensors = [each for each in args if isinstance(each, torch.Tensor)]
    return sum(tensors[1:], tensors[0] * 1)


def _along(func, input, dim=-1, *args, **kwargs):
    return input + input.sum(kwargs.get("dim", dim), keepdim=True)


def _layer_norm(func, input, normalized_shape, *args, **kwargs):
    return input + input.sum(tuple(range(-len(normalized_shape), 0)), keepdim=True)


def _group_norm(func, input, num_groups, *args, **kwargs):
    groups = input.unflatten(1, (num_groups, -1))
    return (groups + groups.sum(tuple(range(2, groups.dim())), keepdim=True)).flatten(1, 2)


def _batch_norm(func, input, *args, **kwargs):
    return input * 1


def _normalize(func, input, p=2.0, dim=1, *args, **kwargs):
    return _along(func, input, dim)


def _variance(func, input, dim=None, *args, **kwargs):
    return input.mean(dim, keepdim=kwargs.get("keepdim", False))


def _average(func, input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, **kwargs):
    assert dilation in (1, (1, 1))
    return functional.avg_pool2d(input, kernel_size, stride, padding, ceil_mode)


def _adaptive_average(func, input, output_size, *args, **kwargs):
    return functional.adaptive_avg_pool2d(input, output_size)


_READING = {
    **dict.fromkeys(("conv1d", "conv2d", "linear"), _by_ones),
    **dict.fromkeys(("relu", "relu6", "leaky_relu", "gelu", "silu", "mish", "elu", "prelu", "tanh", "sigmoid"), _same),
    **dict.fromkeys(("hardswish", "hardsigmoid", "hardtanh", "clamp", "softplus", "dropout", "rsqrt", "sqrt"), _same),
    **dict.fromkeys(("mul", "rmul", "truediv", "div", "sub", "add", "radd", "pow", "maximum"), _sum_of_all),
    "softmax": _along,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "batch_norm": _batch_norm,
    "normalize": _normalize,
    **dict.fromkeys(("var", "std", "amax"), _variance),
    **dict.fromkeys(("max_pool2d", "max_pool2d_with_indices"), _average),
    "adaptive_max_pool2d": _adaptive_average,
}


def read(network, image):
    """The forward with everything read: the recording, and the tensors that its operations gave."""
    tensors = {}
    with borrowed(network) as bare:
        names = {id(tensor): name for name, tensor in (*bare.named_buffers(), *bare.named_parameters())}
        recorder = Recorder(names, {}, lambda operation, output, tensor: tensors.update({(operation, output): tensor}))
        with recorder.following(bare):
            copy = image.clone()
            recorder.add("input", ((), {}), [copy])
            with Reading(), recorder:
                bare(copy)
    return recorder.recording(0), tensors


@pytest.mark.parametrize("name", NAMES)
def test_units_see_what_a_backward_pass_finds(name):
    with ShapesOnly():
        network = timm.create_model(name)
    side = size_of(network)[1] if name in IN_BLOCKS or network.default_cfg.get("fixed_input_size") else SMALL
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point():
                tensor.fill_(1)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    image = torch.ones(1, 3, side, side, requires_grad=True)
    recording, tensors = read(network, image)
    fields = receptive_fields(recording)
    convolutions = [n for n, each in enumerate(recording.operations) if each.name == "conv2d" and fields[n]]
    maps = [n for n in convolutions if math.prod(recording.operations[n].outputs[0][2:]) > 1] or convolutions
    for number in maps[:: -(-len(maps) // TARGETS)]:
        shape = recording.operations[number].outputs[0]
        at = tuple(extent // 2 for extent in shape[1:])
        (gradient,) = torch.autograd.grad(tensors[number, 0][(0, *at)], image, retain_graph=True)
        seen = (gradient[0] != 0).any(0)
        found = support(recording, number, at)
        assert found.status == "exact", [recording.operations[each].name for each in found.not_followed]
        assert torch.equal(found.mask, seen)
        for axis, (place, field) in enumerate(zip(at[1:], fields[number], strict=True)):
            pixels = seen.any(1 - axis).nonzero().flatten().tolist()
            if field.status != "unknown":
                first = field.start + place * (field.jump or 0)
                window = first, first + field.size - 1
                assert max(window[0], 0) <= pixels[0] <= pixels[-1] <= min(window[1], side - 1)
                if field.status == "exact" and window[0] >= 0 and window[1] < side:
                    assert (pixels[0], pixels[-1]) == window


GATED = {  # the last convolution's map, and the jump of its units
    "seresnet18": ("layer4.1.act2", 32),
    "efficientnet_b0": ("bn2.act", 32),
    "mobilenetv3_small_100": ("blocks.5.0.bn1.act", 32),
    "mobilenetv3_small_050": ("blocks.5.0.bn1.act", 32),
    "regnety_002": ("s4.b7.act3", 32),
    "gcresnext26ts": ("stages.3.1.act", 32),
    "ese_vovnet19b_dw": ("stages.3.blocks.0.attn:mul", 32),
    "convnextv2_atto": ("stages.3.blocks.1:add", 32),
}
OPEN = {"se", "attn", "grn"}  # what timm calls the gates of these


class Open(torch.nn.Module):
    def forward(self, x):
        return x * torch.ones_like(x)


@pytest.mark.parametrize("name", GATED)
def test_behind_gates_units_stand_where_they_stand_without(name):
    with torch.device("meta"), ShapesOnly():
        network = timm.create_model(name)
    gated = trace(network, size_of(network))
    for module in list(network.modules()):
        for child, _ in list(module.named_children()):
            if child in OPEN:
                setattr(module, child, Open())
    plain = trace(network, size_of(network))
    layer, jump = GATED[name]
    assert gated.recording.names[gated.last_map] == layer
    for given, expected in zip(gated.fields[gated.last_map], plain.fields[plain.last_map], strict=True):
        assert (given.jump, expected.jump, given.place.jump) == (None, jump, jump)
        assert given.place == expected.field

"""The sum behind a number, beside what timm's networks computed: one of every family, two numbers of each operation."""

import random

import pytest
import torch

from vitreous.explanation.arithmetic import NotFollowed, explain_number
from vitreous.trace.values import record_values

timm = pytest.importorskip("timm")
pytestmark = pytest.mark.reference

FAMILIES = (
    "resnet26 resnext26ts seresnet18 ecaresnet26t skresnet18 res2net50_14w_8s resnetv2_50 nf_resnet26 gcresnext26ts",
    "lambda_resnet26t resnest14d resnetblur18 densenet121 inception_v3 efficientnet_b0 mobilenetv3_small_050",
    "mobilenetv4_conv_small_050 ghostnet_050 convnext_atto convnextv2_atto inception_next_atto regnetx_002 regnetz_005",
    "repvgg_a0 hrnet_w18_small dla34 nfnet_l0 xception41 mnasnet_050 hardcorenas_a fbnetv3_b rexnet_100 tinynet_e",
    "vovnet39a selecsls42b cspdarknet53 dpn48b edgenext_xx_small focalnet_tiny_srf poolformer_s12 starnet_s1 mixnet_s",
    "fastvit_t8 repvit_m0_9 shvit_s1 mambaout_femto rdnet_tiny efficientvit_b0 davit_tiny xcit_nano_12_p16_224",
)
OF_ONE_SIZE = ("levit_128s", "coat_lite_tiny", "pit_ti_224", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224")
NAMES = [name for line in FAMILIES for name in line.split()]
SMALL = 64  # pixels a side
LARGER = {"inception_v3": 96}
EACH = 2  # numbers of one operation
MOST_SHOWN = 4  # terms of one number whose addresses are gone to


@pytest.mark.parametrize("name", [*NAMES, *OF_ONE_SIZE])
def test_numbers_are_the_sums_of_what_stands_at_their_addresses(name, with_statistics):
    network = with_statistics(timm.create_model(name, num_classes=10))
    side = network.default_cfg["input_size"][1] if name in OF_ONE_SIZE else LARGER.get(name, SMALL)
    values = record_values(network, torch.randn(1, 3, side, side))
    chooser = random.Random(name)
    asked, refused = 0, []
    for number, operation in enumerate(values.recording.operations):
        limits = limits_of(operation.outputs[0])
        for _ in range(EACH):
            at = tuple(chooser.randrange(limit) for limit in limits)
            asked += 1
            try:
                found = explain_number(values, values.recording.names[number], at, operation.call)
            except NotFollowed as error:
                refused.append(str(error))
                continue
            assert found.value == float(tensor_at(values.outputs[number][0], at))
            assert found.holds, (found.address, found.how, found.difference, found.bound)
            for term in found.terms if found.num_terms <= MOST_SHOWN else found.largest(MOST_SHOWN):
                require_it_stands_there(values, term)
    assert len(refused) <= 0.03 * asked, sorted(set(refused))


def limits_of(shape):
    return shape[1:] if len(shape) > 1 and shape[0] == 1 else shape


def tensor_at(tensor, at):
    return tensor[at] if len(at) == tensor.dim() else tensor[(0, *at)]


def require_it_stands_there(values, term):
    if term.padding or term.source.is_parameter:
        return
    try:
        stands = explain_number(values, term.source.layer, term.source.at, term.source.call)
    except NotFollowed:
        return
    assert stands.value == term.activation

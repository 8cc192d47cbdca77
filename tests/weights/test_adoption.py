from pathlib import Path

import pytest
import torch

from vitreous.errors import ConfigError
from vitreous.models import build_network
from vitreous.weights.adoption import adopt
from vitreous.weights.foreign import WeightFile
from vitreous.weights.preprocessing import PRESETS, WeightPreprocessing

IMAGENET = WeightPreprocessing(mean=PRESETS["imagenet"][0], std=PRESETS["imagenet"][1])


def build(name="resnet18", num_classes=3, channels=3, seed=0):
    return build_network(name, num_classes=num_classes, in_channels=channels, image_size=(64, 64), seed=seed).eval()


def file_of(tensors, preprocessing=IMAGENET, remarks=()):
    return WeightFile(Path("x.safetensors"), "0" * 64, dict(tensors), preprocessing, "a test", remarks)


def file_from(network, **changes):
    return file_of(network.state_dict(), **changes)


def state(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def refusal(network, tensors, head="fc"):
    before = state(network)
    with pytest.raises(ConfigError) as raised:
        adopt(network, file_of(tensors), head=head)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    return str(raised.value)


# --- the head ---------------------------------------------------------------------------------------------------------


def test_the_same_classes_take_everything():
    given, network = build(seed=1), build(seed=2)
    adoption = adopt(network, file_from(given, remarks=("the file stores float16; made float32",)), head="fc")
    assert all(torch.equal(tensor, given.state_dict()[name]) for name, tensor in network.state_dict().items())
    assert not adoption.is_head_new
    assert adoption.lines == (
        "122 of the 122 tensors in x.safetensors are taken",
        "the file stores float16; made float32",
        "the head fc is the file's: it too tells 3 classes apart",
    )


def test_other_classes_keep_the_networks_own_head():
    given, network = build(num_classes=1000, seed=1), build(seed=2)
    own_head = network.fc.weight.clone()
    adoption = adopt(network, file_from(given), head="fc")
    assert adoption.is_head_new
    assert adoption.lines[-1] == "the head fc is new: the file's tells 1000 classes apart, this network 3"
    assert torch.equal(network.fc.weight, own_head)
    assert torch.equal(network.layer4[1].bn2.weight, given.layer4[1].bn2.weight)
    assert torch.equal(network.conv1.weight, given.conv1.weight)


@pytest.mark.parametrize("dropped", [("fc.weight", "fc.bias"), ("fc.bias",)])
def test_a_file_without_a_whole_head_is_taken_with_a_new_one(dropped):
    tensors = {name: tensor for name, tensor in state(build(seed=1)).items() if name not in dropped}
    adoption = adopt(build(seed=2), file_of(tensors), head="fc")
    assert adoption.is_head_new
    assert "the head fc is new" in adoption.lines[-1]


def test_only_the_head_may_differ():
    given = state(build(num_classes=5))
    assert "fc.weight is (5, 512) in the file, (3, 512) in the network" in refusal(build(), given, head=None)


def test_without_a_head_the_same_tensors_fit():
    given = build(seed=1)
    assert not adopt(build(seed=2), file_from(given), head=None).is_head_new


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "state_dict.model.", "module._orig_mod."])
def test_what_a_wrapper_put_before_all_names_is_taken_away(prefix):
    given, network = build(seed=1), build(seed=2)
    adoption = adopt(network, file_of({prefix + name: each for name, each in state(given).items()}), head="fc")
    assert f"all names in the file begin with {prefix!r}; it was taken away" in adoption.lines
    assert torch.equal(network.fc.weight, given.fc.weight)


def test_a_networks_own_prefix_stays():
    def wrap():
        return torch.nn.ModuleDict({"model": torch.nn.Linear(3, 2)})

    given, network = wrap(), wrap()
    adopt(network, file_from(given), head="model")
    assert torch.equal(network["model"].weight, given["model"].weight)


def test_counters_of_batches_may_be_absent():
    tensors = {name: each for name, each in state(build(seed=1)).items() if not name.endswith("num_batches_tracked")}
    network = build(seed=2)
    adopt(network, file_of(tensors), head="fc")
    assert torch.equal(network.bn1.running_mean, tensors["bn1.running_mean"])


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_half_of_the_file_missing_is_counted():
    tensors = dict(list(state(build()).items())[:61])
    text = refusal(build(), tensors)
    assert "61 of its 61 tensors do, and the network has 122; 49 missing." in text
    assert "look like" not in text
    assert "layer3.1.bn1.running_var is missing" not in text.splitlines()[0]
    assert text.endswith("and 43 more")
    assert len(text.splitlines()) == 8


def test_both_shapes_are_shown():
    tensors = state(build())
    tensors["layer1.0.conv1.weight"] = torch.ones(64, 64, 1, 1)
    tensors["extra\n"] = torch.ones(1)
    text = refusal(build(), tensors)
    assert "layer1.0.conv1.weight is (64, 64, 1, 1) in the file, (64, 64, 3, 3) in the network" in text
    assert r"extra\n is not in the network" in text
    assert "1 not in the network, 1 of another shape" in text


def test_quantized_weights_are_not_taken_for_weights():
    tensors = state(build())
    tensors["layer1.0.conv1.weight"] = tensors["layer1.0.conv1.weight"].to(torch.int8)
    assert "layer1.0.conv1.weight is int8 in the file, float32 in the network" in refusal(build(), tensors)


@pytest.mark.parametrize(("given", "wanted"), [("resnet34", "resnet18"), ("resnet18", "mobilenet_v2")])
def test_another_architecture_is_named(given, wanted):
    other = build(given, num_classes=1000)
    text = refusal(build(wanted), state(other), head="fc" if wanted == "resnet18" else "classifier.1")
    num = len(other.state_dict())
    assert f"These look like the weights of {given} ({num} of {num} tensors fit); try --model {given}." in text


# --- the first convolution --------------------------------------------------------------------------------------------


@pytest.fixture
def grey():
    return torch.rand(4, 1, 64, 64, generator=torch.Generator().manual_seed(0))


def normalized(x, preprocessing):
    mean, std = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
    return (x - mean[:, None, None]) / std[:, None, None]


def test_grey_weights_answer_alike_to_grey_pictures_in_colours(grey):
    given, network = build(channels=1, seed=1), build(seed=2)
    preprocessing = WeightPreprocessing(mean=(0.4,), std=(0.2,))
    adoption = adopt(network, file_from(given, preprocessing=preprocessing), head="fc")
    assert "the filters of conv1 are repeated, divided by 3" in adoption.lines[1]
    with torch.no_grad():
        wanted = given(normalized(grey, preprocessing))
        colours = grey.expand(-1, 3, -1, -1)
        torch.testing.assert_close(network(normalized(colours, preprocessing.for_channels(3))), wanted)


@pytest.mark.parametrize(("name", "head"), [("resnet18", "fc"), ("alexnet", "classifier.6")])
def test_colour_weights_answer_about_alike_to_grey_pictures(name, head, grey):
    """Within the shift a batch norm or a bias takes up; at the border, where padding is 0, a little is left."""
    given, network = build(name, seed=1), build(name, channels=1, seed=2)
    adoption = adopt(network, file_from(given), head=head)
    assert "are summed over the colours" in adoption.lines[1]
    with torch.no_grad():
        wanted = given(normalized(grey.expand(-1, 3, -1, -1), IMAGENET))
        got = network(normalized(grey, IMAGENET.for_channels(1)))
    assert (got - wanted).std() < 0.02 * wanted.std()


def test_colour_filters_translate_exactly_away_from_the_border(grey):
    given, network = build("vgg11", seed=1), build("vgg11", channels=1, seed=2)
    adopt(network, file_from(given), head="classifier.6")
    with torch.no_grad():
        wanted = given.features[0](normalized(grey.expand(-1, 3, -1, -1), IMAGENET))
        got = network.features[0](normalized(grey, IMAGENET.for_channels(1)))
    torch.testing.assert_close(got[..., 1:-1, 1:-1], wanted[..., 1:-1, 1:-1], rtol=1e-4, atol=1e-5)


def test_without_known_deviations_colour_filters_are_summed_as_they_are():
    given, network = build(seed=1), build(channels=1, seed=2)
    adopt(network, file_from(given, preprocessing=None), head="fc")
    torch.testing.assert_close(network.conv1.weight, given.conv1.weight.sum(1, keepdim=True))


@pytest.mark.parametrize("channels", [1, 3])
def test_blue_first_becomes_red_first(channels, grey):
    """The network that was shown blue first, reversed, answers to red first what it answered to blue first."""
    given, network = build(seed=1), build(channels=channels, seed=2)
    blue_first = WeightPreprocessing(mean=(0.2, 0.5, 0.6), std=(0.3, 0.2, 0.1), is_bgr=True)
    adoption = adopt(network, file_from(given, preprocessing=blue_first), head="fc")
    assert "blue first" in adoption.lines[1]
    x = grey.expand(-1, 3, -1, -1) if channels == 1 else torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        wanted = given(normalized(x, blue_first).flip(1))
        got = network(normalized(x[:, :channels], blue_first.for_channels(channels)))
    assert (got - wanted).std() < 0.05 * wanted.std()


def test_other_numbers_of_channels_are_refused():
    assert "conv1.weight is (64, 4, 7, 7) in the file, (64, 3, 7, 7)" in refusal(build(), state(build(channels=4)))

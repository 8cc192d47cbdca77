"""torchvision's own MobileNetV2, from its pickle into a network."""

import pytest
import torch

from benchmarks.registry import mobilenet_v2
from vitreous.models import build_network
from vitreous.weights.adoption import adopt
from vitreous.weights.conversion import convert
from vitreous.weights.foreign import open_weights
from vitreous.weights.preprocessing import torchvision_preprocessing

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    return convert(mobilenet_v2(), tmp_path_factory.mktemp("weights") / "renamed.safetensors")


def network(num_classes=1000, channels=3):
    return build_network("mobilenet_v2", num_classes=num_classes, in_channels=channels, image_size=(224, 224)).eval()


def test_it_is_recognised_by_its_content(converted):
    assert (converted.num_tensors, converted.num_parameters) == (314, 3_504_872)
    assert converted.looks_like == "mobilenet_v2 (314 of 314 tensors fit)"
    assert converted.origin == "torchvision's mobilenet_v2-b0353104, known by its SHA-256"
    assert converted.remarks == ()


def test_it_is_adopted_strictly(converted):
    file = open_weights(converted.path)
    assert file.preprocessing == torchvision_preprocessing("mobilenet_v2-b0353104")
    whole = network()
    adoption = adopt(whole, file, head="classifier.1")
    assert not adoption.is_head_new
    given = torch.load(mobilenet_v2(), weights_only=True)
    assert all(torch.equal(tensor, given[name]) for name, tensor in whole.state_dict().items())
    adoption = adopt(network(num_classes=10), file, head="classifier.1")
    assert adoption.is_head_new
    assert "1000 classes apart, this network 10" in adoption.lines[-1]


def test_in_grey_it_answers_as_to_grey_pictures_in_colours(converted):
    file = open_weights(converted.path)
    colour, grey = network(), network(channels=1)
    adopt(colour, file, head="classifier.1")
    adopt(grey, file, head="classifier.1")
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(4, 1, 14, 14, generator=generator)
    x = torch.nn.functional.interpolate(coarse, size=(224, 224), mode="bicubic").clamp(0, 1)
    mean, std = torch.tensor(file.preprocessing.mean), torch.tensor(file.preprocessing.std)
    (grey_mean,), (grey_std,) = file.preprocessing.for_channels(1).mean, file.preprocessing.for_channels(1).std
    with torch.no_grad():
        wanted = colour((x - mean[:, None, None]) / std[:, None, None])
        got = grey((x - grey_mean) / grey_std)
    assert torch.equal(wanted.argmax(1), got.argmax(1))
    assert (got - wanted).std() < 0.02 * wanted.std()  # measured 0.45 % on photographs

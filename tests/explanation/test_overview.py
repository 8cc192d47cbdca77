"""An image explained: files, a page, a document, and plain words where a network has not what a picture needs."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from vitreous.errors import UserError
from vitreous.explanation.overview import explain_image
from vitreous.models import build_network

CLASSES = ("cat", "dog", "<b>owl</b>")


def explained(network, out, shape=(3, 32, 32), **options):
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (*shape[1:], shape[0]), dtype=np.uint8)
    image = torch.from_numpy(pixels / 255).float().permute(2, 0, 1)[None]
    return explain_image(network, image, pixels, CLASSES, out, name="a & b.png", **options)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    torch.manual_seed(0)
    line = "conv8 pool res[conv16bn conv16bn] pool conv16 gap fc"
    network = build_network(line, num_classes=3, in_channels=3, image_size=(32, 32))
    fresh = build_network(line, num_classes=3, in_channels=3, image_size=(32, 32), seed=1)
    return explained(network, tmp_path_factory.mktemp("explained") / "out", fresh=fresh)


def test_every_part_has_its_picture(small):
    assert [part.name for part in small.parts] == [
        *("attribution", "faithfulness", "maps-1", "maps-2", "maps-3", "filters", "field", "residual", "routing"),
        "shifts",
    ]
    for part in small.parts:
        with Image.open(small.out / part.file) as picture:
            assert min(picture.size) > 100
            assert np.asarray(picture.convert("L")).std() > 1  # something is drawn


def test_the_document_holds_the_numbers(small):
    document = json.loads((small.out / "explanation.json").read_text())
    assert document == json.loads(json.dumps(small.to_json()))
    assert document["label"] in CLASSES
    methods = [method["method"] for method in document["attribution"]["methods"]]
    assert len(methods) == 3
    assert document["believe"] in (None, *methods)
    assert set(document["influence"]) == {"before training", "after training"}
    (block,) = document["residual"]
    assert block["skip"]["projection"] + block["branch"]["projection"] == pytest.approx(1)
    assert [route["layer"] for route in document["routing"]] == ["pool1", "pool2", "pool3.pool"]


def test_the_page_shows_every_picture_and_escapes_names(small):
    page = (small.out / "index.html").read_text()
    for part in small.parts:
        assert f'src="{part.file}"' in page
    assert "a &amp; b.png" in page
    assert "<b>owl" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_the_terminal_says_what_to_believe_and_where_the_pictures_are(small):
    lines = list(small.lines())
    assert lines[0].startswith("a & b.png: ")
    assert "believe" in lines[1]
    assert lines[-1] == f"pictures: {small.out / 'index.html'}"


def test_another_class_can_be_explained(tmp_path):
    network = build_network("conv4 pool gap fc", num_classes=3, in_channels=3, image_size=(16, 16))
    made = explained(network, tmp_path / "out", (3, 16, 16), target=2)
    assert made.target == "<b>owl</b>"


def test_a_network_without_maps_pools_and_skips_is_told_so(tmp_path):
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 3))
    made = explained(network, tmp_path / "out", (3, 8, 8))
    absent = {part.name: part.text for part in made.parts if part.file is None}
    assert {"maps", "filters", "field", "residual", "routing"} <= absent.keys()
    assert "no nn.Conv2d" in absent["filters"]
    assert "Grad-CAM is not there" in made.parts[0].text
    assert made.parts[0].file is not None  # the pixels can still be asked


def test_a_folder_that_exists_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    network = build_network("conv4 gap fc", num_classes=3, in_channels=3, image_size=(16, 16))
    with pytest.raises(UserError, match="exists"):
        explained(network, tmp_path, (3, 16, 16))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_network_is_left_as_it_was(tmp_path):
    network = build_network("conv4bn pool gap fc", num_classes=3, in_channels=3, image_size=(16, 16)).train()
    network[0].requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    modes = [(module.training, len(module._forward_hooks)) for module in network.modules()]
    explained(network, tmp_path / "out", (3, 16, 16))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert [(module.training, len(module._forward_hooks)) for module in network.modules()] == modes
    assert all(parameter.grad is None for parameter in network.parameters())

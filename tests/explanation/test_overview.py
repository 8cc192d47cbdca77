"""An image explained: files, a page, a document, and plain words where a network has not what a picture needs."""

import base64
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from vitreous.errors import UserError
from vitreous.explanation import pictures
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
        data = base64.b64encode((small.out / part.file).read_bytes()).decode()
        assert f'src="data:image/png;base64,{data}" alt="{part.title}' in page  # one file, which opens anywhere
        assert part.reading
    assert "a &amp; b.png" in page
    assert "<b>owl" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("src=") == len(small.parts)


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


def test_shifts_are_told_of_the_answer_whatever_class_is_explained(tmp_path, monkeypatch):
    names = []
    draw = pictures.consistency_figure
    monkeypatch.setattr(pictures, "consistency_figure", lambda found, name: names.append(name) or draw(found, name))
    network = build_network("conv4 pool gap fc", num_classes=3, in_channels=3, image_size=(16, 16))
    answer = CLASSES.index(explained(network, tmp_path / "1", (3, 16, 16)).label)
    explained(network, tmp_path / "2", (3, 16, 16), target=(answer + 1) % 3)
    assert names == [CLASSES[answer]] * 2


class Cut(nn.Module):
    """Its answer has no gradient."""

    def forward(self, x):
        return torch.relu(x.detach()[:, :, ::2]).amax(dim=(2, 3))


def test_without_a_gradient_there_is_what_needs_none(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 3, 3), nn.MaxPool2d(2), Cut())
    made = explained(network, tmp_path / "out", (3, 16, 16))
    (method,) = made.numbers["attribution"]["methods"]
    assert method["method"] == "occlusion"
    assert set(made.numbers["attribution"]["absent"]) == {"Grad-CAM", "Integrated gradients"}
    absent = {part.name: part.text for part in made.parts if part.file is None}
    assert absent["routing"].startswith("the answer has no gradient")
    assert (made.out / "attribution.png").is_file()


class ChannelsLast(nn.Module):
    """Maps of 4x4 units with ten channels, these last."""

    def __init__(self):
        super().__init__()
        self.patches, self.norm, self.head = nn.Conv2d(3, 10, 4, stride=4), nn.LayerNorm(10), nn.Linear(10, 3)

    def forward(self, x):
        return self.head(self.norm(self.patches(x).permute(0, 2, 3, 1)).relu().mean(dim=(1, 2)))


def test_channels_may_be_last(tmp_path):
    made = explained(ChannelsLast(), tmp_path / "out", (3, 16, 16))
    (stage,) = made.numbers["maps"]
    assert (stage["layer"], stage["shape"]) == ("relu", [10, 4, 4])
    assert set(stage["channels"]) == set(range(10))


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (nn.Conv2d(3, 3, 3), {}, r"gives \(1, 3, 6, 6\) for one image, not one logit for each of 3 classes"),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), {}, r"gives \(1, 5\)"),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), {"target": 3}, "no class 3; the network's 3"),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), {"target": -1}, "no class -1"),
    ],
)
def test_what_cannot_be_explained_leaves_no_folder(tmp_path, network, options, message):
    with pytest.raises(UserError, match=message):
        explained(network, tmp_path / "out", (3, 8, 8), **options)
    assert list(tmp_path.iterdir()) == []


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

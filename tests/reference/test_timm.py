"""timm's networks trained here, and our networks exported to timm: the same weights, the same answers."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import vitreous
from vitreous.data.preprocess import Preprocess
from vitreous.errors import ConfigError, RunError, ShapeError, VerificationError
from vitreous.exports import timm_folder
from vitreous.exports.timm_folder import timm_architecture, timm_state
from vitreous.models import build_network
from vitreous.models.foreign import timm_name
from vitreous.models.head import head_of

timm = pytest.importorskip("timm")
pytestmark = pytest.mark.reference
QUICK = {"epochs": 1, "engine.precision": "fp32", "engine.threads": 1}  # measured, another run may choose otherwise


def ours(name, side=64, in_channels=3):
    return build_network(name, num_classes=5, in_channels=in_channels, image_size=(side, side))


# --- timm:NAME --------------------------------------------------------------------------------------------------------


def test_every_name_of_the_registry_can_be_asked_for():
    assert len([timm_name(f"timm:{name}") for name in (*timm.list_models(), *timm.list_pretrained())]) > 2000


@pytest.mark.parametrize(
    ("model", "side", "head"),
    [
        ("timm:resnet18.a1_in1k", 32, "fc"),
        ("timm:mobilenetv3_small_100", 48, "classifier"),
        ("timm:resnetv2_50x1_bit", 32, "head.fc"),  # a 1x1 convolution
        ("timm:vit_tiny_patch16_224", 224, "head"),
    ],
)
def test_a_network_is_built_from_a_seed(model, side, head, monkeypatch):
    monkeypatch.setattr("socket.socket", None)  # nothing is fetched
    one, same = (ours(model, side, in_channels=1) for _ in range(2))
    assert head_of(one, 1, (side, side)) == head
    assert all(torch.equal(each, same.state_dict()[name]) for name, each in one.state_dict().items())


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("timm:resnt18", "no network named 'resnt18'; did you mean timm:resnet18"),
        ("timm:resnet18.a1_in2k", "resnet18 has no tag 'a1_in2k', such as a1_in1k"),
    ],
)
def test_unknown_names_are_refused_with_near_ones(model, words):
    with pytest.raises(ConfigError, match=words):
        ours(model)


@pytest.mark.parametrize(
    ("model", "side", "words"),
    [
        (
            "timm:vit_tiny_patch16_224",
            64,
            r"patch_embed \(PatchEmbed\), given \(2, 3, 64, 64\): .*\n.*--image-size 224",
        ),
        ("timm:inception_v3", 64, r"Mixed_7a.* Kernel size.*\n.*--image-size 75"),
    ],
)
def test_images_that_do_not_fit_are_refused_with_the_size_that_does(model, side, words):
    with pytest.raises(ShapeError, match=words):
        ours(model, side)


# --- export -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [96, 224])
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vgg11", "vgg16_bn", "mobilenet_v2"])
def test_answers_are_equal_under_timms_names(name, side, with_statistics):
    mine = with_statistics(ours(name, side))
    theirs = timm.create_model(timm_architecture(name), num_classes=5).eval()
    theirs.load_state_dict(timm_state(name, mine.state_dict()))
    x = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        torch.testing.assert_close(mine(x), theirs(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", timm_folder._ARCHITECTURES)
def test_every_network_on_the_list_has_a_counterpart_of_the_same_shapes(name):
    with torch.device("meta"):
        mine, theirs = ours(name), timm.create_model(timm_architecture(name), num_classes=5)
    shapes = {key: tuple(value.shape) for key, value in timm_state(name, mine.state_dict()).items()}
    assert shapes == {key: tuple(value.shape) for key, value in theirs.state_dict().items()}


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("timm:resnet10t", {"data.fit": "crop", "data.crop_fraction": 0.875}),
        ("mobilenet_v2", {"data.fit": "squash", "data.channels": 1}),
        ("resnet18", {"data.fit": "pad"}),
    ],
)
def test_timm_loads_and_scores_the_same(photos, tmp_path, cli, model, settings):
    run = vitreous.train(photos, run=tmp_path / "run", model=model, image_size=32, **QUICK, **settings)
    status, out, _ = cli("export", run.path, "--format", "timm", "--json")
    said = json.loads(out)
    folder = run.path / "exports" / "timm"
    assert (status, said["path"], said["num_inputs"]) == (0, str(folder), 3)
    assert said["largest_difference"] < 1e-4
    assert any("border" in remark for remark in said["remarks"]) is (settings["data.fit"] == "pad")
    assert {file.name for file in folder.iterdir()} == {"config.json", "model.safetensors"}
    assert list(folder.parent.iterdir()) == [folder]
    with pytest.raises(RunError, match="never written over"):
        vitreous.export(run.path)

    network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    assert list(network.pretrained_cfg["label_names"]) == list(run.classes)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network), is_training=False)
    predictor = vitreous.load_run(run.path)
    for name in run.classes:
        with Image.open(photos / name / "0.jpg") as file:
            picture = file.convert("L" if predictor.preprocess.channels == 1 else "RGB")
        with torch.inference_mode():
            logits = network(transform(picture)[None])
            theirs = (logits / predictor.calibration.temperature).softmax(1)[0].numpy()
        mine = predictor.predict(photos / name / "0.jpg").probabilities
        np.testing.assert_allclose(mine, theirs, atol=0.05)  # other resampling and, where padded, another border


def test_the_config_has_what_timm_itself_would_write(photos, tmp_path):
    run = vitreous.train(photos, run=tmp_path / "run", model="timm:resnet10t", image_size=32, **QUICK)
    ours = json.loads((vitreous.export(run.path, out=tmp_path / "ours").path / "config.json").read_text())
    assert ours.pop("temperature") == vitreous.load_run(run.path).calibration.temperature
    network = timm.create_model(f"local-dir:{tmp_path / 'ours'}", pretrained=True)
    timm.models.save_for_hf(network, tmp_path / "theirs", model_config={"label_names": list(run.classes)})
    theirs = json.loads((tmp_path / "theirs" / "config.json").read_text())
    facts, their_facts = ours.pop("pretrained_cfg"), theirs.pop("pretrained_cfg")
    assert ours == {key: value for key, value in theirs.items() if key in ours}
    assert facts == {key: value for key, value in their_facts.items() if key in facts}
    assert set(theirs) - set(ours) <= {"global_pool", "model_args"}


def test_what_timm_scores_otherwise_is_not_kept(photos, tmp_path, cli, monkeypatch):
    run = vitreous.train(photos, run=tmp_path / "run", model="timm:resnet10t", image_size=32, **QUICK)

    def wrong(model, state):
        return {name: tensor * 2 if name == "fc.weight" else tensor for name, tensor in state.items()}

    monkeypatch.setattr(timm_folder, "timm_state", wrong)
    status, out, err = cli("export", run.path, "--format", "timm")
    assert (status, out) == (1, "")
    assert "logits differ by up to" in err
    monkeypatch.setattr(timm_folder, "timm_state", lambda model, state: {"fc.weight": state["fc.weight"]})
    with pytest.raises(VerificationError, match="timm cannot load"):
        vitreous.export(run.path)
    assert list((run.path / "exports").iterdir()) == []


def test_what_timm_cannot_do_is_refused(photos, tmp_path):
    run = vitreous.train(photos, run=tmp_path / "run", model="timm:resnet10t", **{**QUICK, "data.fit": "centre"})
    with pytest.raises(ConfigError, match=r"data.fit = centre.* data.fit=pad"):
        vitreous.export(run.path)
    contract = Preprocess(height=256, width=200, channels=3, fit="pad")
    with pytest.raises(ConfigError, match=r"averaged to 7 x 7, .* --image-size 224"):
        timm_folder._require_same_pooling("vgg16", contract)

"""What can be known of an export without timm; `make test-reference` has the rest."""

import pytest
import torch

import vitreous
from vitreous.errors import ConfigError
from vitreous.exports.timm_folder import timm_architecture, timm_state
from vitreous.models import build_network


def state_of(name):
    with torch.device("meta"):
        return build_network(name, num_classes=5, in_channels=3, image_size=(64, 64)).state_dict()


@pytest.mark.parametrize("name", ["mobilenet_v2", "vgg11", "vgg19_bn", "resnet18"])
def test_every_tensor_is_kept_under_a_name_of_its_own(name):
    ours = state_of(name)
    theirs = timm_state(name, ours)
    assert [each.numel() for each in theirs.values()] == [each.numel() for each in ours.values()]
    assert not {key for key in theirs if key.startswith("classifier.") and key[11].isdigit()}
    if name == "mobilenet_v2":
        assert not {key for key in theirs if "features" in key or ".conv." in key}
        assert theirs["blocks.6.0.conv_pwl.weight"].shape == (320, 960, 1, 1)


@pytest.mark.parametrize("name", ["alexnet", "lenet5", "resnet50-paper", "resnet20-cifar", "conv8 gap fc", "n.py:make"])
def test_networks_that_timm_has_not_are_refused_by_name(name):
    with pytest.raises(ConfigError, match=f"no network like '{name}'; resnet18, .* can be exported"):
        timm_architecture(name)


def test_a_run_of_another_network_and_another_format_are_refused(photos, tmp_path):
    run = vitreous.train(photos, run=tmp_path / "run", model="conv4s4 gap fc", epochs=1)
    with pytest.raises(ConfigError, match="no network like"):
        vitreous.export(run.path)
    with pytest.raises(ConfigError, match="no export format 'onnx'"):
        vitreous.export(run.path, format="onnx")
    assert not (run.path / "exports").exists()

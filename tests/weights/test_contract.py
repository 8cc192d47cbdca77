"""What a weight file asks of a run: its network, and images as it is used to them."""

import json
from pathlib import Path

import pytest
from safetensors.torch import save_file

from vitreous.config import DataConfig
from vitreous.errors import ConfigError
from vitreous.models import build_network
from vitreous.weights.contract import architecture_of, sees_colours, with_asked_statistics, with_contract_of
from vitreous.weights.foreign import WeightFile, open_weights
from vitreous.weights.preprocessing import PRESETS, WeightPreprocessing

KNOWN = WeightPreprocessing(
    mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.3), size=(96, 128), crop_fraction=0.875, interpolation="bicubic"
)


def weight_file(known):
    return WeightFile(Path("x.safetensors"), "0" * 64, {}, known, "nothing came with the file")


def saved(folder, model, channels=3):
    network = build_network(model, num_classes=10, in_channels=channels, image_size=(32, 32))
    save_file(network.state_dict(), folder / "model.safetensors")
    return folder / "model.safetensors"


def test_what_was_not_asked_comes_from_the_file():
    data = with_contract_of(KNOWN, DataConfig(), sees_colours=True)
    assert (data.image_size, data.channels, data.fit) == ((96, 128), 3, "crop")
    assert (data.crop_fraction, data.interpolation) == (0.875, "bicubic")
    assert (data.mean, data.std) == (KNOWN.mean, KNOWN.std)


def test_what_was_asked_stays():
    asked = DataConfig(image_size=(64, 64), fit="pad", interpolation="box")
    data = with_contract_of(KNOWN, asked, sees_colours=True)
    assert (data.image_size, data.fit, data.interpolation) == ((64, 64), "pad", "box")
    assert data.crop_fraction is None  # of a crop, and there is none


def test_grey_images_get_one_number():
    data = with_contract_of(KNOWN, DataConfig(channels=1), sees_colours=True)
    assert data.channels == 1
    assert data.mean == pytest.approx((0.5,))
    assert len(data.std) == 1


@pytest.mark.parametrize(
    ("asked", "mean", "std"),
    [
        (DataConfig(), KNOWN.mean, KNOWN.std),
        (DataConfig(preset="imagenet"), *PRESETS["imagenet"]),
        (DataConfig(mean=(0.5,)), (0.5,) * 3, KNOWN.std),
        (DataConfig(preset="inception", std=(0.25,)), (0.5,) * 3, (0.25,) * 3),
    ],
)
def test_the_users_statistics_win(asked, mean, std):
    known = with_asked_statistics(weight_file(KNOWN), asked).preprocessing
    assert (known.mean, known.std) == (mean, std)
    assert known.size == KNOWN.size


@pytest.mark.parametrize("asked", [DataConfig(), DataConfig(mean=(0.5,)), DataConfig(std=(0.5,))])
def test_without_a_word_it_asks(asked):
    with pytest.raises(ConfigError, match="a guess would cost accuracy"):
        with_asked_statistics(weight_file(None), asked)


def test_both_numbers_are_enough():
    known = with_asked_statistics(weight_file(None), DataConfig(mean=(0.5,), std=(0.1, 0.2, 0.3))).preprocessing
    assert (known.mean, known.std) == ((0.5,) * 3, (0.1, 0.2, 0.3))


def test_the_network_follows_from_the_tensors(tmp_path):
    file = open_weights(saved(tmp_path, "resnet18"))
    assert architecture_of(file) == "resnet18"
    assert sees_colours(file)
    assert not sees_colours(open_weights(saved(tmp_path, "resnet18", channels=1)))


def test_where_two_networks_have_the_same_tensors_it_asks(tmp_path):
    with pytest.raises(ConfigError, match="resnet50 or resnet50-paper"):
        architecture_of(open_weights(saved(tmp_path, "resnet50")))


def test_torchvisions_name_settles_it_too(tmp_path):
    path = saved(tmp_path, "resnet50").rename(tmp_path / "resnet50-0676ba61.safetensors")
    assert architecture_of(open_weights(path)) == "resnet50"


def test_the_config_beside_the_file_settles_it(tmp_path):
    path = saved(tmp_path, "resnet50")
    cfg = {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, 32, 32]}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet50-paper", "pretrained_cfg": cfg}))
    assert architecture_of(open_weights(path)) == "resnet50-paper"


def test_tensors_of_no_known_network_are_asked_about(tmp_path):
    network = build_network("conv8 gap fc", num_classes=3, in_channels=3, image_size=(8, 8))
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match="--model"):
        architecture_of(open_weights(tmp_path / "model.safetensors"))

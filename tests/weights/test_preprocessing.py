import json

import pytest

from vitreous.errors import ConfigError
from vitreous.weights.preprocessing import (
    METADATA_KEY,
    PRESETS,
    WeightPreprocessing,
    ask_for_preprocessing,
    noted_preprocessing,
    preprocessing_beside,
    torchvision_preprocessing,
)

MEAN, STD = PRESETS["imagenet"]
TIMM = {"mean": list(MEAN), "std": list(STD), "input_size": [3, 224, 192], "crop_pct": 0.95, "interpolation": "bicubic"}


def beside(folder, **files):
    for name, value in files.items():
        (folder / f"{name}.json").write_text(value if isinstance(value, str) else json.dumps(value))
    return preprocessing_beside(folder / "model.safetensors")


@pytest.mark.parametrize(("mode", "fit"), [("center", "crop"), ("border", "pad"), ("squash", "squash")])
def test_timms_config_is_read_in_both_forms(mode, fit, tmp_path):
    wanted = WeightPreprocessing(
        mean=MEAN, std=STD, size=(224, 192), fit=fit, crop_fraction=0.95, interpolation="bicubic"
    )
    values = {**TIMM, "crop_mode": mode}
    nested, origin = beside(tmp_path, config={"architecture": "resnet18", "pretrained_cfg": values})
    assert nested == wanted
    assert origin == f"timm's {tmp_path / 'config.json'}"
    assert beside(tmp_path, config={"architecture": "resnet18", **values})[0] == wanted


def test_timms_defaults_stand_where_its_config_is_silent(tmp_path):
    found, _ = beside(tmp_path, config={"pretrained_cfg": {"mean": MEAN, "std": STD}})
    assert found == WeightPreprocessing(
        mean=MEAN, std=STD, size=(224, 224), crop_fraction=0.875, interpolation="bicubic"
    )


HUGGING_FACE = {"image_mean": list(MEAN), "image_std": list(STD), "resample": 3}


@pytest.mark.parametrize(
    ("values", "size", "fit", "fraction"),
    [
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, (224, 224), "crop", 0.875),  # ResNet
        ({"size": 224, "crop_pct": 0.875}, (224, 224), "crop", 0.875),  # the same, older
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, (384, 384), "squash", 1.0),
        (
            {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "do_center_crop": True},
            *((224, 224), "crop", 0.875),
        ),
        ({"size": {"height": 256, "width": 256}, "crop_size": 224}, (224, 224), "squash", 0.875),
        ({"size": {"height": 224, "width": 160}}, (224, 160), "squash", 1.0),  # ViT
        ({"size": 224}, (224, 224), "squash", 1.0),
        ({"size": {"shortest_edge": 224}, "crop_size": 200, "do_center_crop": False}, (224, 224), "crop", 1.0),
        ({}, None, "crop", 1.0),
    ],
)
def test_hugging_faces_sizes(values, size, fit, fraction, tmp_path):
    found, origin = beside(tmp_path, config={"num_labels": 2}, preprocessor_config={**HUGGING_FACE, **values})
    assert (found.size, found.fit, found.crop_fraction) == (size, fit, fraction)
    assert (found.mean, found.std, found.interpolation) == (pytest.approx(MEAN), pytest.approx(STD), "bicubic")
    assert origin.startswith("Hugging Face's")


def test_hugging_faces_scales_are_brought_to_the_range_of_0_to_1(tmp_path):
    values = {**HUGGING_FACE, "do_rescale": False, "image_mean": [127.5] * 3, "image_std": [255.0] * 3}
    found, _ = beside(tmp_path, preprocessor_config=values)
    assert (found.mean, found.std) == ((0.5,) * 3, (1.0,) * 3)
    found, _ = beside(tmp_path, preprocessor_config={"rescale_factor": 1 / 127.5, "do_normalize": False})
    assert (found.mean, found.std) == ((0.0,) * 3, pytest.approx((0.5,) * 3))
    offset = {"rescale_factor": 1 / 127.5, "rescale_offset": True, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    found, _ = beside(tmp_path, preprocessor_config=offset)
    assert (found.mean, found.std) == (pytest.approx((0.5,) * 3), pytest.approx((0.5,) * 3))


def test_numbers_of_a_network_that_sees_blue_first_are_given_red_first(tmp_path):
    values = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "do_flip_channel_order": True}
    found, _ = beside(tmp_path, preprocessor_config=values)
    assert found.is_bgr
    assert (found.mean, found.std) == (pytest.approx((0.3, 0.2, 0.1)), pytest.approx((0.6, 0.5, 0.4)))


def test_a_config_without_a_word_about_pixels_says_nothing(tmp_path):
    assert preprocessing_beside(tmp_path / "model.safetensors") is None
    assert beside(tmp_path, config={"architecture": "resnet18", "pretrained_cfg": {"input_size": [3, 9, 9]}}) is None


@pytest.mark.parametrize(
    "value",
    [
        *("", "[]", "{", "[" * 100_000, "\xff"),
        *({"pretrained_cfg": 3}, {"pretrained_cfg": {**TIMM, "std": [0, 0, 0]}}),
        *({**TIMM, "mean": [0.5, 0.5]}, {**TIMM, "mean": "0.5"}, {**TIMM, "mean": [1e999] * 3}),
        *({**TIMM, "crop_pct": 7}, {**TIMM, "crop_mode": "random"}, {**TIMM, "interpolation": "hamming"}),
        *({**TIMM, "input_size": [3, 224]}, {**TIMM, "input_size": [3, -1, 224]}),
        *({**HUGGING_FACE, "resample": 9}, {**HUGGING_FACE, "size": {"longest": 3}}, {**HUGGING_FACE, "size": "big"}),
        *({**HUGGING_FACE, "rescale_factor": 0}, {"image_mean": [0.5] * 3}),
    ],
)
def test_a_config_that_says_nonsense_is_refused_by_name(value, tmp_path):
    with pytest.raises(ConfigError, match=r"config\.json"):
        beside(tmp_path, config=value)


def test_torchvisions_crop_is_224_of_256_or_232():
    assert torchvision_preprocessing("resnet50-0676ba61").crop_fraction == 224 / 256
    newer = torchvision_preprocessing("resnet50-11ad3fa6")
    assert newer == WeightPreprocessing(mean=MEAN, std=STD, size=(224, 224), crop_fraction=224 / 232)


def test_a_note_in_the_header_comes_back_as_it_was(tmp_path):
    note = WeightPreprocessing(mean=MEAN, std=STD, size=(3, 4), fit="pad", crop_fraction=0.9, is_bgr=True)
    assert noted_preprocessing(tmp_path, {METADATA_KEY: note.to_json()}) == note
    assert noted_preprocessing(tmp_path, {}) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"mean": 1, "std": 1}', "[" * 100_000, '{"x": 1}'])
def test_a_damaged_note_is_refused(text, tmp_path):
    with pytest.raises(ConfigError, match="says nonsense"):
        noted_preprocessing(tmp_path, {METADATA_KEY: text})


def test_colours_become_their_average_and_grey_is_repeated():
    colours = WeightPreprocessing(mean=(0.2, 0.4, 0.6), std=(0.1, 0.2, 0.3))
    grey = colours.for_channels(1)
    assert (grey.mean, grey.std) == ((pytest.approx(0.4),), (pytest.approx(0.2),))
    assert grey.for_channels(3).mean == (grey.mean[0],) * 3
    assert colours.for_channels(3) is colours


def test_the_question_names_the_settings_and_every_preset(tmp_path):
    text = ask_for_preprocessing(tmp_path / "x.safetensors")
    assert all(name in text for name in (*PRESETS, "data.preset", "data.mean", "data.std", "x.safetensors"))

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitreous.config import Config, documented_settings
from vitreous.errors import ConfigError

EPOCHS = st.integers(1, 1000)
RATES = st.floats(1e-6, 10.0, allow_nan=False)


@given(
    epochs=EPOCHS, rate=RATES, size=st.tuples(st.integers(1, 512), st.integers(1, 512)), seed=st.integers(0, 2**31 - 1)
)
def test_a_resolved_file_reads_back_as_the_same_settings(epochs, rate, size, seed):
    config = Config(seed=seed).updated(
        {"training": {"epochs": epochs, "learning_rate": rate}, "data": {"image_size": list(size)}}
    )
    assert Config.from_toml(config.to_toml()) == config


def test_flags_override_the_file_and_the_file_overrides_defaults():
    config = Config.from_toml("[training]\nepochs = 7\nbatch_size = 32").override(["training.epochs=9"])
    assert (config.training.epochs, config.training.batch_size, config.training.momentum) == (9, 32, 0.9)


def test_a_text_needs_no_quotes_on_the_command_line():
    line = "conv8 gap fc"
    assert Config().override([f"model.name={line}"]).model.name == line
    assert Config().override(['model.name="lenet5"']).model.name == "lenet5"


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("training.epochs=-1", ["training.epochs", "at least 0"]),
        ("training.epoch=3", ["training.epoch", "did you mean", "training.epochs"]),
        ("trainning.epochs=3", ["trainning", "training"]),
        ("training.epochs=2.5", ["whole number", "2.5"]),
        ("training.epochs=true", ["whole number"]),
        ("training.epochs", ["NAME=VALUE"]),
        ("training=3", ["section"]),
        ("training.learning_rate=nan", ["learning_rate"]),
        ("training.learning_rate=-1", ["learning_rate"]),
        ("data.fit=stretch", ["pad", "crop", "squash"]),
        ("data.image_size=[1,2,3]", ["image_size"]),
        ("data.image_size=0", ["image_size"]),
        ("data.mean=[0.5,0.5]", ["data.mean", "2 numbers", "give 1, or 3"]),
        ("data.mean=[]", ["data.mean", "one number or a list of numbers"]),
        ("data.mean=[0.5,true,0.5]", ["data.mean", "list of numbers"]),
        ("data.mean=red", ["data.mean", "list of numbers", "'red'"]),
        ("data.mean=[123.7,116.8,103.9]", ["data.mean", "123.7", "at most 1"]),
        ("data.std=[0.2,0.2,0]", ["data.std", "at least 0.0001"]),
        ("data.std=[0.2,0.2,nan]", ["data.std", "nan"]),
        ("data.folds=1", ["data.folds", "nothing to train on"]),
        ("data.folds=-2", ["data.folds", "at least 0"]),
        ("data.fold=2", ["data.fold = 2", "1 .. folds = 0"]),
        ("data.near_duplicates=1", ["data.near_duplicates", "true or false"]),
        ("data.preset=torchvision", ["data.preset", "imagenet, inception, none"]),
        ("data.crop_fraction=1.5", ["data.crop_fraction", "at most 1"]),
        ("augmentation.zoom=1", ["augmentation.zoom", "at most 0.9"]),
        ("augmentation.light=-0.1", ["augmentation.light", "at least 0"]),
        ("seed=-1", ["seed"]),
        ("engine.precision=fp64", ["fp32", "bf16"]),
    ],
)
def test_a_wrong_setting_is_refused_with_its_name_and_the_way_out(assignment, words):
    with pytest.raises(ConfigError) as error:
        Config().override([assignment])
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("[0.485, 0.456, 0.406]", (0.485, 0.456, 0.406)),
        ("[0, 1, 0.5]", (0.0, 1.0, 0.5)),
        ("[0.5]", (0.5,)),
        ("0.5", (0.5,)),
        ("1", (1.0,)),
    ],
)
def test_a_number_for_each_channel_is_read_and_written(text, numbers):
    config = Config().override([f"data.mean={text}"])
    assert config == Config.from_toml(f"[data]\nmean = {text}")
    assert (config.data.mean, list(map(type, config.data.mean))) == (numbers, [float] * len(numbers))
    assert Config.from_toml(config.to_toml()) == config


def test_a_file_that_is_not_toml_is_refused_by_name(tmp_path):
    path = tmp_path / "wrong.toml"
    path.write_text("epochs: 3")
    with pytest.raises(ConfigError, match=r"wrong\.toml"):
        Config.from_file(path)
    with pytest.raises(ConfigError, match="absent"):
        Config.from_file(tmp_path / "absent.toml")


def test_every_setting_is_documented_with_a_default():
    rows = list(documented_settings())
    assert len(rows) == len({name for name, _, _ in rows}) > 25
    assert all(text for _, _, text in rows)

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
        ("training.epochs=0", ["training.epochs", "at least 1"]),
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
        ("seed=-1", ["seed"]),
        ("engine.precision=fp64", ["fp32", "bf16"]),
    ],
)
def test_a_wrong_setting_is_refused_with_its_name_and_the_way_out(assignment, words):
    with pytest.raises(ConfigError) as error:
        Config().override([assignment])
    assert all(word in str(error.value) for word in words), str(error.value)


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

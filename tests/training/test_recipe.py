import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitreous.config import Config
from vitreous.errors import ConfigError
from vitreous.models import build_network
from vitreous.training.recipe import Facts, choose_recipe, default_pattern, refuse_without_weights

SIZES = st.tuples(st.integers(8, 128), st.integers(8, 128))


COUNTS = st.lists(st.integers(1, 10**5), min_size=2, max_size=12).map(tuple)
FACTS = st.builds(Facts, COUNTS, SIZES, st.integers(1, 10**8), st.booleans())
PHOTOGRAPHS = Facts((300, 300, 400), (224, 224), 10**7, has_norm=True)
FROM_WEIGHTS = Config().override(["model.weights=resnet18.safetensors"])


@given(asked=st.sampled_from([Config(), FROM_WEIGHTS]), facts=FACTS)
def test_every_setting_is_chosen_and_within_its_bounds(asked, facts):
    chosen, line = choose_recipe(asked, facts)
    assert Config.from_toml(chosen.to_toml()) == chosen  # reading it back checks the bounds
    for section in (chosen.training, chosen.augmentation):
        assert all(getattr(section, name) is not None for name in section.__dataclass_fields__ if name != "minutes")
    assert str(chosen.training.epochs) in line


@pytest.mark.parametrize("start", [Config(), FROM_WEIGHTS])
def test_what_was_asked_stays(start):
    asked = start.override(["training.epochs=3", "training.optimizer=sgd", "augmentation.shift_px=5"])
    chosen, _ = choose_recipe(asked, PHOTOGRAPHS)
    assert (chosen.training.epochs, chosen.training.optimizer, chosen.augmentation.shift_px) == (3, "sgd", 5)


@pytest.mark.parametrize(
    ("num_train", "side", "has_norm", "asked", "optimizer"),
    [
        (2_686, 28, True, [], "muon"),
        (53_935, 28, True, [], "sgd"),
        (53_935, 28, True, ["training.epochs=3"], "muon"),
        (53_935, 28, True, ["training.epochs=6", "training.epoch_share=0.5"], "muon"),
        (2_686, 97, True, [], "sgd"),
        (2_686, 28, False, [], "adamw"),
    ],
)
def test_muon_is_for_small_images_and_few_steps(num_train, side, has_norm, asked, optimizer):
    facts = Facts((num_train // 2, num_train - num_train // 2), (side, side), 10**6, has_norm=has_norm)
    assert choose_recipe(Config().override(asked), facts)[0].training.optimizer == optimizer


def test_given_weights_are_trained_on_gently():
    training = choose_recipe(FROM_WEIGHTS, PHOTOGRAPHS)[0].training
    from_scratch = choose_recipe(Config(), PHOTOGRAPHS)[0].training
    assert training.layer_decay < from_scratch.layer_decay == 1
    assert (training.batch_norm, from_scratch.batch_norm) == ("keep", "update")
    assert training.patience > 0
    assert training.ema_decay > 0


def test_a_frozen_backbone_means_that_the_head_is_all():
    chosen, line = choose_recipe(FROM_WEIGHTS.override(["training.freeze=backbone"]), PHOTOGRAPHS)
    assert chosen.training.epochs == 0
    assert "only the head" in line
    assert choose_recipe(FROM_WEIGHTS.override(["training.epochs=0"]), PHOTOGRAPHS)[0].training.freeze == "backbone"


@pytest.mark.parametrize("setting", ["training.freeze=backbone", "training.epochs=0", "training.batch_norm=keep"])
def test_what_needs_given_weights_is_refused_without(setting):
    with pytest.raises(ConfigError, match="--weights"):
        refuse_without_weights(Config().override([setting]))
    refuse_without_weights(FROM_WEIGHTS.override([setting]))


@pytest.mark.parametrize(("counts", "weights"), [((100, 300), "none"), ((99, 300), "balanced"), ((5, 5, 5), "none")])
def test_fine_tuning_weights_classes_when_the_smallest_is_under_a_third_of_the_largest(counts, weights):
    facts = Facts(counts, (32, 32), 10**6, has_norm=True)
    assert choose_recipe(Config(), facts)[0].training.class_weights == "none"
    chosen, line = choose_recipe(FROM_WEIGHTS, facts)
    assert chosen.training.class_weights == weights
    assert ("the smallest has 99" in line) == (weights == "balanced")


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (27, 31), (32, 32), (64, 64), (62, 30), (96, 128), (128, 128)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_default_network_fits_every_usual_size(size, channels):
    network = build_network(default_pattern(size), num_classes=4, in_channels=channels, image_size=size)
    assert sum(parameter.numel() for parameter in network.parameters()) < 1_000_000

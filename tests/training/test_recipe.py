import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitreous.config import Config
from vitreous.models import build_network
from vitreous.training.recipe import Facts, choose_recipe, default_pattern

SIZES = st.tuples(st.integers(8, 128), st.integers(8, 128))


@given(num_train=st.integers(2, 10**6), size=SIZES, num_parameters=st.integers(1, 10**8), has_norm=st.booleans())
def test_every_setting_is_chosen_and_within_its_bounds(num_train, size, num_parameters, has_norm):
    chosen, line = choose_recipe(Config(), Facts(num_train, size, num_parameters, has_norm))
    assert Config.from_toml(chosen.to_toml()) == chosen  # reading it back checks the bounds
    for section in (chosen.training, chosen.augmentation):
        assert all(getattr(section, name) is not None for name in section.__dataclass_fields__)
    assert str(chosen.training.epochs) in line


def test_what_was_asked_stays():
    asked = Config().override(["training.epochs=3", "training.optimizer=adamw", "augmentation.shift_px=5"])
    chosen, _ = choose_recipe(asked, Facts(1000, (28, 28), 10**6, has_norm=True))
    assert (chosen.training.epochs, chosen.training.optimizer, chosen.augmentation.shift_px) == (3, "adamw", 5)


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (27, 31), (32, 32), (64, 64), (62, 30), (96, 128), (128, 128)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_default_network_fits_every_usual_size(size, channels):
    network = build_network(default_pattern(size), num_classes=4, in_channels=channels, image_size=size)
    assert sum(parameter.numel() for parameter in network.parameters()) < 1_000_000

"""Sizes grow from epoch to epoch, and what is shown smaller is the picture that Pillow would make of it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vitreous.config import TrainingConfig
from vitreous.errors import ConfigError
from vitreous.models import build_network
from vitreous.training.resizing import mean_area, refuse_sizes, resized, shown_size

sides = st.integers(8, 512)


@given(size=st.tuples(sides, sides), epochs=st.integers(1, 60), first=st.floats(0.25, 1.0))
def test_sizes_grow_to_the_whole_and_the_last_quarter_has_it(size, epochs, first):
    training = TrainingConfig(epochs=epochs, first_side=first)
    shown = [shown_size(size, epoch, training) for epoch in range(epochs)]
    for axis, whole in enumerate(size):
        grown = [each[axis] for each in shown]
        assert grown == sorted(grown)
        assert all(side == whole or side % 16 == 0 for side in grown)
        assert grown[0] >= min(whole, 16, first * whole) - 8
        assert set(grown[min(epochs - 1, int(np.ceil(0.75 * epochs))) :]) == {whole}
    cost = sum(height * width for height, width in shown) / (epochs * size[0] * size[1])
    assert mean_area(size, training) == pytest.approx(cost)


def test_the_first_epoch_has_the_share_that_was_asked_for():
    assert shown_size((224, 320), 0, TrainingConfig(epochs=10, first_side=0.5)) == (112, 160)
    assert shown_size((224, 320), 0, TrainingConfig(epochs=1, first_side=0.5)) == (224, 320)


def test_a_smaller_picture_is_the_one_that_pillow_makes():
    pixels = np.random.default_rng(0).integers(0, 256, (96, 64, 3), dtype=np.uint8)
    ours = resized(torch.from_numpy(pixels).permute(2, 0, 1)[None].float(), (48, 48))[0].permute(1, 2, 0).numpy()
    theirs = np.asarray(Image.fromarray(pixels).resize((48, 48), Image.Resampling.BILINEAR), dtype=np.float32)
    assert np.abs(ours - theirs).max() <= 1.0  # Pillow rounds, after each of its two passes


def test_a_network_of_one_size_is_refused_and_left_as_it_was():
    network = build_network("lenet5", num_classes=3, in_channels=1, image_size=(32, 32)).train()
    with pytest.raises(ConfigError, match="images of 16 x 16 first"):
        refuse_sizes(network, (1, 32, 32), TrainingConfig(epochs=4, first_side=0.5))
    assert all(module.training for module in network.modules())
    refuse_sizes(network, (1, 32, 32), TrainingConfig(epochs=4))


def test_a_network_of_any_size_keeps_its_statistics_where_it_is_tried():
    network = build_network("conv8bn gap fc", num_classes=3, in_channels=1, image_size=(32, 32)).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    refuse_sizes(network, (1, 32, 32), TrainingConfig(epochs=4, first_side=0.5))
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())

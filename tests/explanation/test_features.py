import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from vitreous.errors import ShapeError, UserError
from vitreous.explanation.features import (
    feature_maps,
    filter_ranges,
    filters,
    filters_on_input,
    first_convolution,
    layer,
    recorded,
    strongest,
)


class Backwards(nn.Module):
    """Registers its second convolution first, and a third that never runs."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Conv2d(3, 1, 1)
        self.second = nn.Conv2d(4, 2, 3)
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.stem(x)).mean(dim=(2, 3))


@pytest.fixture
def images():
    return torch.randn(2, 3, 9, 8, generator=torch.Generator().manual_seed(1))


def state(network):
    """Everything that a look at the network must not change."""
    return {
        "training": [module.training for module in network.modules()],
        "hooks": [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in network.modules()],
        "grads": [parameter.grad for parameter in network.parameters()],
        "values": [value.clone() for value in network.state_dict().values()],
    }


def assert_as_found(network, before):
    after = state(network)
    assert after["training"] == before["training"]
    assert after["hooks"] == before["hooks"]
    assert after["grads"] == before["grads"]
    assert all(torch.equal(a, b) for a, b in zip(after["values"], before["values"], strict=True))


def test_the_first_convolution_is_the_first_that_runs(images):
    assert first_convolution(Backwards(), images) == "stem.0"


def test_a_network_without_convolutions_is_refused(images):
    with pytest.raises(UserError, match=r"no nn\.Conv2d"):
        first_convolution(nn.Sequential(nn.Flatten(), nn.Linear(216, 2)), images)


def test_feature_maps_are_the_convolution_itself_even_before_an_in_place_layer(images):
    network = Backwards()
    maps = feature_maps(network, images, "stem.0")
    stem = network.stem[0]
    torch.testing.assert_close(maps, F.conv2d(images, stem.weight, stem.bias), rtol=0, atol=1e-6)
    assert maps.min() < 0  # what the ReLU behind it would have written over
    assert not maps.requires_grad


def test_the_network_is_left_as_found(images):
    network = nn.Sequential(
        nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(4 * 7 * 6, 2)
    )
    network.train()
    network[0].eval()  # frozen
    before, random_state = state(network), torch.get_rng_state()
    name = first_convolution(network, images)
    feature_maps(network, images, name)
    filters(network, name).zero_()
    filters_on_input(network, images, name)
    with pytest.raises(RuntimeError):
        feature_maps(network, torch.zeros(1, 5, 9, 8), name)
    assert_as_found(network, before)
    assert torch.equal(torch.get_rng_state(), random_state)


def test_batch_norm_is_as_in_evaluation_whatever_the_mode(images):
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3))
    expected = network.eval()(images)
    torch.testing.assert_close(feature_maps(network.train(), images, "1"), expected)


def test_hooks_are_removed_after_an_error():
    network = Backwards()
    before = state(network)
    with pytest.raises(RuntimeError, match="boom"), recorded(network, ["stem.0", "second"]):
        raise RuntimeError("boom")
    with pytest.raises(UserError, match="no layer"), recorded(network, ["stem.0", "third"]):
        pass
    assert_as_found(network, before)


def test_of_a_layer_that_runs_twice_the_first_output_is_kept():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.twofold = nn.Linear(1, 1, bias=False)
            nn.init.constant_(self.twofold.weight, 2.0)

        def forward(self, x):
            return self.twofold(self.twofold(x))

    network = Twice()
    with recorded(network, ["twofold"]) as outputs:
        assert network(torch.ones(1, 1)).item() == 4
    assert outputs["twofold"].item() == 2


def test_an_output_that_is_no_tensor_is_refused_by_name():
    network = nn.Sequential(nn.LSTM(3, 2))
    with recorded(network, ["0"]), pytest.raises(UserError, match="0 gives a tuple"):
        network(torch.zeros(4, 3))


def test_an_unknown_layer_is_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"no layer 'stem.00'; there is stem\.0"):
        layer(Backwards(), "stem.00")


def test_a_layer_that_does_not_run_has_no_maps(images):
    with pytest.raises(UserError, match="unused does not run"):
        feature_maps(Backwards(), images, "unused")


def test_only_convolutions_have_filters():
    with pytest.raises(UserError, match="ReLU"):
        filters(Backwards(), "stem.1")


@given(kernel=st.integers(1, 5), stride=st.integers(1, 3), dilation=st.integers(1, 2), channels=st.sampled_from([1, 3]))
def test_filters_on_the_input_of_a_first_convolution_are_its_weights(kernel, stride, dilation, channels):
    network = nn.Sequential(nn.Conv2d(channels, 3, kernel, stride, kernel // 2, dilation), nn.ReLU(), nn.Flatten())
    found = filters_on_input(network, torch.randn(1, channels, 24, 24), "0")
    torch.testing.assert_close(found[:, :, ::dilation, ::dilation], filters(network, "0"))


def test_filters_behind_a_pixel_unshuffle_are_put_together_again():
    network = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4, 5, 3, padding=1), nn.Flatten())
    found = filters_on_input(network, torch.randn(1, 1, 12, 12), "1")
    assert found.shape == (5, 1, 6, 6)
    image = torch.randn(1, 1, 12, 12)
    torch.testing.assert_close(  # one convolution on the pixels does what the two layers do
        F.conv2d(image, found, network[1].bias, stride=2, padding=2), network[1](network[0](image))
    )


def test_filters_of_zeros_are_shown_as_zeros():
    network = nn.Sequential(nn.Conv2d(1, 2, 3))
    nn.init.zeros_(network[0].weight)
    assert not filters_on_input(network, torch.randn(1, 1, 8, 8), "0").any()


def test_filters_are_found_even_where_gradients_are_off(images):
    network = Backwards().requires_grad_(False)
    with torch.no_grad():
        found = filters_on_input(network, images, "stem.0")
    torch.testing.assert_close(found, network.stem[0].weight)


def test_strongest_is_stable_and_takes_no_more_than_there_are():
    maps_KHW = torch.tensor([1.0, -2.0, 1.0]).reshape(3, 1, 1).expand(3, 4, 4)
    assert strongest(maps_KHW, 8) == [1, 0, 2]


# --- filters that do nothing ------------------------------------------------------------------------------------------


class Skipping(nn.Module):
    """Functional activations, a convolution that runs twice, and a branch that is added to a skip."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.again = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(self.again(x))
        x = x + self.norm(self.again(x))
        return self.head(F.max_pool2d(x, 2).relu_()).mean(dim=(2, 3))


def test_the_ranges_are_those_of_a_forward_by_hand(images):
    network = Skipping().eval()
    found = filter_ranges(network, images)
    assert [(each.layer, each.behind) for each in found] == [
        ("stem", "relu"),
        ("again", "relu#2"),
        ("again, call 1", "norm"),
        ("head", "head"),
    ]
    with torch.no_grad():
        stem = F.relu(network.stem(images))
        again = F.relu(network.again(stem))
        branch = network.norm(network.again(again))
        head = network.head(F.max_pool2d(again + branch, 2).relu())
    for each, maps in zip(found, (stem, again, branch, head), strict=True):
        torch.testing.assert_close(each.low_K, maps.amin(dim=(0, 2, 3)))
        torch.testing.assert_close(each.high_K, maps.amax(dim=(0, 2, 3)))


def test_dead_filters_are_found_wherever_they_die(images):
    network = Skipping()
    with torch.no_grad():
        network.stem.bias[2] = -1e3  # nothing gets over the ReLU
        network.norm.weight[[0, 3]] = 0.0  # a branch that adds the same number everywhere
        network.norm.bias.fill_(0.5)
    stem, again, branch, head = filter_ranges(network, images)
    assert stem.dead == [2]
    assert branch.dead == [0, 3]
    assert head.dead == []
    assert set(again.dead) == {int(k) for k in (again.high_K == again.low_K).nonzero()}


def test_a_filter_that_speaks_once_is_alive(images):
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(inplace=True))
    with torch.no_grad():
        network[0].weight.fill_(1.0)
        network[0].bias.copy_(torch.tensor([0.0, 0.1 - images.sum(dim=1).max()]))  # over 0 at the brightest pixel only
    (found,) = filter_ranges(network, images)
    assert found.behind == "1"
    assert found.dead == []
    assert found.high_K[1] == pytest.approx(0.1, abs=1e-5)


def test_a_look_in_parts_is_a_look_at_all(images, monkeypatch):
    network = Skipping()
    before, random_state = state(network), torch.get_rng_state()
    together = filter_ranges(network, images)
    monkeypatch.setattr("vitreous.explanation.features._NUMBERS_AT_ONCE", 1)
    for one, other in zip(filter_ranges(network, images), together, strict=True):
        torch.testing.assert_close((one.low_K, one.high_K), (other.low_K, other.high_K))
    assert_as_found(network, before)
    assert torch.equal(torch.get_rng_state(), random_state)


def test_no_convolution_no_filters_and_a_network_that_fails_is_refused(images):
    assert filter_ranges(nn.Sequential(nn.Flatten(), nn.Linear(216, 2)), images) == ()
    with pytest.raises(ShapeError):
        filter_ranges(Skipping(), images[:, :2])

"""The shapes that are answered without torch are torch's, and what torch refuses is refused."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from vitreous.trace.shapes import ShapesOnly, run


def meta(*shape):
    return torch.empty(shape, device="meta")


X = meta(2, 6, 9, 8)
CASES = [
    (functional.conv2d, (X, meta(4, 3, 3, 2), meta(4), (2, 1), (1, 2), 2, 2), {}),
    (functional.conv2d, (X, meta(4, 6, 3, 2)), {"padding": "same"}),
    (functional.conv2d, (X, meta(4, 6, 10, 2)), {}),  # does not fit
    (functional.conv2d, (X, meta(4, 5, 3, 3)), {}),
    (functional.conv2d, (X, meta(5, 3, 3, 3)), {"groups": 2}),
    (functional.linear, (X, meta(5, 8), meta(5)), {}),
    (functional.linear, (X, meta(5, 7)), {}),
    (torch.max_pool2d, (X, 2), {"ceil_mode": True}),
    (torch.max_pool2d, (X, 3, 2, 1, 2), {}),
    (torch.max_pool2d, (X, 3, 2, 2), {}),
    (functional.avg_pool2d, (X, (3, 2)), {"ceil_mode": True, "padding": 1}),
    (functional.adaptive_avg_pool2d, (X, (3, None)), {}),
    (functional.adaptive_avg_pool2d, (X, 3), {}),
    (functional.batch_norm, (X, meta(6), meta(6), meta(6), meta(6)), {}),
    (functional.batch_norm, (X, meta(5), meta(5)), {}),
    (functional.layer_norm, (X, (9, 8)), {}),
    (functional.layer_norm, (X, (9, 7)), {}),
    (functional.relu, (X,), {"inplace": True}),
    (torch.add, (X, meta(6, 1, 8)), {}),
    (torch.add, (X, meta(5, 1, 8)), {}),
    (torch.mul, (X, 2), {}),
    (torch.mean, (X, (1, -1)), {"keepdim": True}),
    (torch.sum, (X, 2), {}),
    (torch.sum, (X, 4), {}),
    (torch.cat, ([X, meta(2, 5, 9, 8)], 1), {}),
    (torch.cat, ([X, meta(2, 6, 8, 8)], 1), {}),
    (functional.softmax, (X,), {"dim": 1, "dtype": torch.float64}),
]


def outcome(call):
    try:
        result = call()
    except (RuntimeError, ValueError, IndexError):
        return "refused"
    return tuple(result.shape), result.dtype


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize(("function", "args", "kwargs"), CASES)
def test_shapes_are_torchs(function, args, kwargs):
    expected = outcome(lambda: function(*args, **kwargs))
    assert outcome(lambda: run(function, function.__name__, args, kwargs)) == expected


def test_numbers_are_left_to_torch():
    assert run(torch.add, "add", (torch.ones(2), 1), {}).tolist() == [2, 2]


def test_in_place_is_the_same_tensor_and_counts_as_a_change():
    x = meta(2, 3)
    version = x._version
    assert run(torch.relu_, "relu_", (x,), {}) is x
    assert x._version > version


def test_networks_without_first_weights_draw_no_random_numbers():
    before = torch.random.get_rng_state()
    with torch.device("meta"), ShapesOnly():
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(2, 2), nn.BatchNorm2d(3))
    assert all(parameter.is_meta for parameter in network.parameters())
    assert torch.random.get_rng_state().equal(before)

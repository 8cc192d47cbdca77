"""What a sample shows of the network: planted dead filters and a planted dislike of moves are found; bounds hold."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from vitreous.data.preprocess import Preprocess
from vitreous.evaluation.scored import ScoredSplit
from vitreous.evaluation.scores import score
from vitreous.predictor.torch_backend import network_input
from vitreous.report.effort import Effort
from vitreous.report.probing import probe
from vitreous.trace import trace

PREPROCESS = Preprocess(height=24, width=32, channels=1, fit="pad", mean=(0.5,), std=(0.25,))
NUM_IMAGES = 40


@pytest.fixture
def network():
    torch.manual_seed(1)
    network = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(inplace=True), nn.Conv2d(6, 4, 3, stride=2), nn.ReLU(), nn.Flatten()
    )
    return nn.Sequential(*network, nn.LazyLinear(3))


def scored_of(network, hashes=None):
    pixels = np.random.default_rng(2).integers(0, 256, (NUM_IMAGES, 24, 32, 1), dtype=np.uint8)
    with torch.no_grad():
        logits = network(network_input(torch.from_numpy(pixels), PREPROCESS)).numpy()
    labels = np.arange(NUM_IMAGES) % 3
    names = tuple(map(str, range(NUM_IMAGES)))
    hashes = hashes or tuple(f"{number:064x}" for number in range(NUM_IMAGES))
    return ScoredSplit("test", score(logits, labels, "abc"), labels, logits, hashes, names, pixels)


def effort_for(network, num_images):
    traced = trace(network, (1, 24, 32))
    return Effort(traced, 1.0, 5.0 * num_images)


def test_planted_dead_filters_are_counted(network):
    scored = scored_of(network)
    with torch.no_grad():
        network[0].bias[[1, 4]] = -1e3
        network[2].weight[3] = 0.0
    found = probe(network, PREPROCESS, scored, effort_for(network, 16))
    assert found.num_images == 16
    assert (found.idle.num_idle, found.idle.num_filters, found.idle.num_layers) == (3, 10, 2)
    first, second = found.idle.layers
    assert (first.layer, first.behind, first.filters, first.num_filters) == ("0", "1", (1, 4), 6)
    assert (second.layer, second.filters) == ("2", (3,))


def test_answers_that_change_when_an_image_moves_are_counted():
    class Bright(nn.Module):
        """Goes by one pixel in the middle: a grid of single pixels, moved, is another picture to it."""

        def forward(self, x):
            pixel = x[:, 0, 12, 16]
            return torch.stack([pixel, -pixel], dim=1)

    grid = np.zeros((NUM_IMAGES, 24, 32, 1), np.uint8)
    grid[:, ::2, ::2] = 255  # bright where both are even: a step of one pixel makes it dark there, of two bright again
    labels = np.zeros(NUM_IMAGES, np.int64)
    with torch.no_grad():
        logits = Bright()(network_input(torch.from_numpy(grid), PREPROCESS)).numpy()
    names = tuple(map(str, range(NUM_IMAGES)))
    scored = ScoredSplit("test", score(logits, labels, "ab"), labels, logits, names, names, grid)
    found = probe(Bright(), PREPROCESS, scored, effort_for(Bright(), 40))
    assert [(each.distance_px, each.same.value) for each in found.moves] == [(1, 0.0), (2, 1.0), (3, 0.0)]
    assert found.idle.num_layers == 0


def test_the_sample_is_drawn_by_hash_whatever_the_order(network):
    hashes = tuple(f"{(number * 7919) % 40:064x}" for number in range(NUM_IMAGES))
    assert len(set(hashes)) == NUM_IMAGES
    scored = scored_of(network, hashes)
    mixed = np.random.default_rng(3).permutation(NUM_IMAGES)
    other = dataclasses.replace(
        scored,
        labels_N=scored.labels_N[mixed],
        logits_NK=scored.logits_NK[mixed],
        hashes=tuple(hashes[n] for n in mixed),
        pixels_NHWC=scored.pixels_NHWC[mixed],
    )
    effort = effort_for(network, 12)
    assert probe(network, PREPROCESS, scored, effort) == probe(network, PREPROCESS, other, effort)


def test_small_pictures_are_moved_less_far():
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 1), dtype=np.uint8)
    logits, labels = np.zeros((9, 2), np.float32), np.zeros(9, np.int64)
    names = tuple("abcdefghi")
    scored = ScoredSplit("val", score(logits, labels, "ab"), labels, logits, names, names, pixels)
    found = probe(network, dataclasses.replace(PREPROCESS, height=8, width=8), scored, effort_of_small(network))
    assert [each.distance_px for each in found.moves] == [1]
    assert found.num_images == 9


def effort_of_small(network):
    return Effort(trace(network, (1, 8, 8)), 1.0, 1e6)


def test_too_much_to_run_is_said_and_so_are_absent_pixels(network):
    scored = scored_of(network)
    found = probe(network, PREPROCESS, scored, Effort(trace(network, (1, 24, 32)), 6e10, 1e11))
    assert found.moves is None
    assert found.idle is None
    assert "60 billion multiply-accumulates" in found.why_not
    blind = dataclasses.replace(scored, pixels_NHWC=None)
    assert "at hand" in probe(network, PREPROCESS, blind, effort_for(network, 16)).why_not


def test_a_network_that_fails_on_a_batch_is_left_out_with_the_reason(network):
    class OneByOne(nn.Module):
        def forward(self, x):
            if len(x) > 1:
                raise RuntimeError("one image only\nand a long story")
            return x.mean(dim=(1, 2, 3)).repeat(1, 3).reshape(1, 3)

    found = probe(OneByOne(), PREPROCESS, scored_of(network), effort_for(OneByOne(), 16))
    assert (found.moves, found.idle) == (None, None)
    assert found.why_not.endswith("one image only")

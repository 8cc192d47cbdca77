"""How much a page may compute: by hand for a network whose cost is known, and bounded for those that cost more."""

import pytest
import torch
from torch import nn

from vitreous.config import Config
from vitreous.data.preprocess import Preprocess
from vitreous.errors import ShapeError
from vitreous.report import effort
from vitreous.report.effort import Effort, effort_of
from vitreous.run import Run


def run_of(tmp_path, epochs=0, num_train=0):
    counts = {"data": {"counts": {"train": {"a": num_train, "b": 0}, "val": {"a": 7}}}} if num_train else {}
    run = Run.create(tmp_path / "run", Config(), {"classes": ["a", "b"], **counts}, [])
    if epochs:
        run.append_metrics({"epoch": epochs})  # the last line tells how many there were
    return run


PREPROCESS = Preprocess(height=16, width=16, channels=3, fit="pad")
NETWORK = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 256, 2))
MACS = 27 * 8 * 256 + 8 * 256 * 2
NUMBERS = 3 * 256 + 3 * 8 * 256 + 2  # the image, conv, ReLU, flattened, logits


def test_an_image_costs_its_macs_and_the_way_of_its_numbers(tmp_path):
    found = effort_of(run_of(tmp_path), NETWORK, PREPROCESS)
    assert found.macs_an_image == MACS + 40 * NUMBERS
    assert found.macs == 1e11  # of a run that tells nothing of its training
    assert (found.num_images, found.num_explained) == (500, 4)


@pytest.mark.parametrize(("epochs", "expected"), [(1, 1e11), (40, 1.2e12), (1000, 3e13)])
def test_a_hundredth_of_training_between_two_bounds(tmp_path, monkeypatch, epochs, expected):
    cost = MACS + 40 * NUMBERS
    num_train = round(1e12 / cost)  # so that an epoch takes 3e12
    monkeypatch.setattr(effort, "_MOST_MACS", 2e12)
    found = effort_of(run_of(tmp_path, epochs, num_train), NETWORK, PREPROCESS)
    assert found.macs == pytest.approx(min(expected, 2e12), rel=1e-3)


@pytest.mark.parametrize(
    ("macs_an_image", "num_images", "num_explained"), [(1e6, 500, 4), (1e9, 20, 4), (2.6e9, 0, 4), (2e10, 0, 1)]
)
def test_what_costs_more_is_run_on_fewer_images(tmp_path, macs_an_image, num_images, num_explained):
    traced = effort_of(run_of(tmp_path), NETWORK, PREPROCESS).trace
    found = Effort(traced, macs_an_image, 1e11)
    assert (found.num_images, found.num_explained) == (num_images, num_explained)


def test_large_images_are_few_whatever_they_cost(tmp_path):
    large = Preprocess(height=1024, width=1024, channels=3, fit="pad")
    network = nn.Sequential(nn.Conv2d(3, 1, 1, stride=64), nn.Flatten(), nn.LazyLinear(2))
    network(torch.zeros(1, 3, 1024, 1024))
    assert effort_of(run_of(tmp_path), network, large).num_images == 10  # 2**25 numbers


def test_a_network_that_does_not_take_the_images_is_refused(tmp_path):
    with pytest.raises(ShapeError):
        effort_of(run_of(tmp_path), nn.Conv2d(5, 1, 1), PREPROCESS)

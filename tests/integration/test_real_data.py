"""The whole walk on real pictures, with the settings that nobody has to choose where that is quick enough."""

from pathlib import Path

import numpy as np
import pytest

import vitreous
from benchmarks.registry import traffic_lights
from vitreous.data.source import open_source

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def accuracy(run, split="test"):
    return run.manifest["scores"][split]["accuracy"]["value"]


def test_the_embedded_sample(tmp_path):
    run = vitreous.train("fashion-mini", run=tmp_path / "run", epochs=2)
    assert accuracy(run) > 0.60  # 20 epochs, the default, reach 0.87
    assert run.manifest["scores"]["test"]["num_images"] == 1000


def test_the_articles_pattern_without_batch_norm(tmp_path):
    """Deep enough, and without a norm, to diverge at the rate that suits the default network."""
    line = "[conv16]*2 pool [conv32]*2 pool flatten fc256 fc softmax"
    run = vitreous.train("fashion-mini", run=tmp_path / "run", model=line, epochs=5)
    assert accuracy(run) > 0.65


def test_digits(tmp_path):
    run = vitreous.train("digits", run=tmp_path / "run", epochs=4)
    assert accuracy(run) > 0.90


def test_the_full_fashion_mnist_by_name_and_as_a_folder_of_idx_files(tmp_path):
    """The Debian package dataset-fashion-mnist; a machine without it cannot run this suite."""
    by_name, as_folder = open_source("fashion-mnist"), open_source(DEBIAN)
    assert (by_name.labels == as_folder.labels).all()
    assert np.bincount(by_name.labels).tolist() == [7000] * 10
    assert {part: int((by_name.splits == part).sum()) for part in ("train", "test")} == {
        "train": 60_000,
        "test": 10_000,
    }
    assert by_name.classes[9] == "Ankle boot"
    settings = {"model": "conv16k5s2bn pool conv32bn gmp fc", "training.batch_size": 256}
    run = vitreous.train(DEBIAN, run=tmp_path / "run", epochs=1, **settings)
    assert accuracy(run) > 0.75
    assert 0.095 < run.manifest["scores"]["val"]["num_images"] / 60_000 < 0.105


@pytest.mark.network
def test_photographs_of_traffic_lights(tmp_path):
    run = vitreous.train(traffic_lights(), run=tmp_path / "run", epochs=4)
    assert accuracy(run) >= 0.90
    assert sum(run.manifest["data"]["counts"]["test"].values()) == 297
    assert run.manifest["preprocessing"]["channels"] == 3

"""Who decided each setting, and that nothing is said of it where the run did not note what was asked."""

import re

import pytest

from vitreous.config import Config
from vitreous.report.settings import settings_of
from vitreous.run import Run

CONFIG = Config().updated(
    {
        "data": {"source": "/home/me/secret photos", "image_size": 32, "exclude": "/home/me/fixes.csv"},
        "model": {"name": "conv8 gap fc", "weights": "/home/me/weights.safetensors"},
        "training": {"epochs": 3, "learning_rate": 0.05, "schedule": "cosine"},
    }
)
ASKED = ["data.source", "data.exclude", "model.weights", "training.epochs", "training.schedule"]


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "run", CONFIG, {"classes": ["a", "b"], "asked": ASKED}, [])


def test_every_setting_of_the_file_is_a_row_with_its_value(run):
    found = {row.name: row.value for row in settings_of(run, with_names=True).rows}
    text = (run.path / "config.toml").read_text()
    assert len(found) == len(re.findall(r"^\w+ = ", text, re.MULTILINE))
    assert found["data.image_size"] == "[32, 32]"
    assert found["training.learning_rate"] == "0.05"
    assert found["data.near_duplicates"] == "true"
    assert found["model.name"] == "conv8 gap fc"
    assert "training.batch_size" not in found  # never settled in this run


def test_asked_chosen_and_default(run):
    found = settings_of(run, with_names=True)
    assert found.is_known
    assert [row.name for row in found.decided("asked")] == ASKED
    assert [row.name for row in found.decided("chosen")] == [
        "data.image_size",
        "model.name",
        "training.learning_rate",
    ]
    assert {"seed", "training.momentum", "data.folds"} < {row.name for row in found.decided("default")}
    assert sum(len(found.decided(how)) for how in ("asked", "chosen", "default")) == len(found.rows)


def test_without_names_no_path_is_told(run):
    found = settings_of(run, with_names=False)
    assert not [row for row in found.rows if "/home/me" in row.value]
    assert {row.name for row in found.rows if "left out" in row.value} == {
        "data.source",
        "data.exclude",
        "model.weights",
    }


@pytest.mark.parametrize("manifest", [{}, {"asked": None}, {"asked": "training.epochs"}])
def test_of_an_older_run_nobody_knows_who_decided(run, manifest):
    old = Run(run.path, {key: value for key, value in run.manifest.items() if key != "asked"} | manifest)
    found = settings_of(old, with_names=True)
    assert not found.is_known
    assert {row.decided for row in found.rows} == {""}

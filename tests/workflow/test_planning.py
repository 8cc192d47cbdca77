"""Time given is time used: plans from measured steps, here from steps that are made up."""

import time
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import vitreous
from vitreous.config import Config
from vitreous.data.preprocess import Preprocess
from vitreous.errors import ConfigError
from vitreous.training.resizing import shown_size
from vitreous.workflow import planning
from vitreous.workflow.planning import Budget, plan_epochs, plan_network, refuse_unplannable


@dataclass(frozen=True)
class Spent:
    """A budget whose clock stands still."""

    minutes: float
    spent: float

    @property
    def left(self) -> float:
        return 60 * self.minutes - self.spent


def images_of(num_train, num_val=100, num_test=100):
    parts = {"train": np.arange(num_train), "val": np.arange(num_val), "test": np.arange(num_test)}
    shown = SimpleNamespace(height=128, width=128)
    return SimpleNamespace(indices=parts.__getitem__, selecting=parts["val"][: num_val // 2], preprocess=shown)


CHOSEN = Config().override(["training.minutes=1", "training.batch_size=64", "training.epochs=7"])


@pytest.fixture
def made_up(monkeypatch):
    def set_seconds(step, scoring=0.0):
        monkeypatch.setattr(planning, "_step_seconds", lambda *_: (step, scoring))

    return set_seconds


@given(
    minutes=st.floats(0.2, 100),
    spent=st.floats(0, 5),
    step=st.floats(1e-4, 0.2),
    scoring=st.floats(0, 1e-3),
    num_train=st.integers(64, 100_000),
    fits_head=st.booleans(),
    first_side=st.sampled_from([1.0, 0.5]),
)
def test_a_plan_fills_the_time_and_no_more(minutes, spent, step, scoring, num_train, fits_head, first_side):
    chosen = CHOSEN.override([f"training.first_side={first_side}"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "_step_seconds", lambda *_: (step, scoring))
        arguments = chosen, torch.nn.Identity(), images_of(num_train), Spent(minutes, spent)
        if 60 * minutes - spent < 3 + 0.1 + 20 * step + (250 + (num_train + 50) * fits_head) * scoring:
            with pytest.raises(ConfigError, match="no time to learn"):
                plan_epochs(*arguments, fits_head=fits_head)
            return
        planned, line = plan_epochs(*arguments, fits_head=fits_head)
    training = planned.training
    assert training.minutes is None
    steps = max(1, round(num_train // 64 * training.epoch_share))
    looks = 200 + training.epochs * 50 + fits_head * (num_train + 50)
    shown = [shown_size((128, 128), epoch, training) for epoch in range(training.epochs)]
    pixels = sum(height * width for height, width in shown) / 128**2
    used = spent + 3.0 + pixels * steps * step + training.epochs * 0.1 + looks * scoring
    assert used <= 60 * minutes + 1e-6
    if "would not help" not in line:
        assert used >= 0.9 * 60 * minutes
    assert 0 < training.epoch_share <= 1


def test_too_little_time_is_refused_with_the_least(made_up):
    made_up(step=0.1)
    with pytest.raises(ConfigError, match=r"minutes = 0.05 leaves no time to learn: .* 0.14 is the least"):
        plan_epochs(CHOSEN, torch.nn.Identity(), images_of(1000), Spent(0.05, 2.0), fits_head=False)
    plan_epochs(CHOSEN, torch.nn.Identity(), images_of(1000), Spent(0.14, 2.0), fits_head=False)


def test_more_time_than_helps_is_left(made_up):
    made_up(step=1e-4)
    planned, line = plan_epochs(CHOSEN, torch.nn.Identity(), images_of(640), Spent(60, 2.0), fits_head=False)
    assert planned.training.epochs == 300
    assert planned.training.epoch_share == 1
    assert "would not help" in line


def test_a_frozen_backbone_is_not_stretched():
    frozen = CHOSEN.override(["training.epochs=0"])
    planned, _ = plan_epochs(frozen, torch.nn.Identity(), images_of(640), Spent(60, 2.0), fits_head=True)
    assert (planned.training.epochs, planned.training.minutes) == (0, None)


class Source:
    """So many images that decode at once."""

    classes = ("a", "b")

    def __init__(self, num_images):
        self.images = self
        self.num_images = num_images

    def __len__(self):
        return self.num_images

    def pixels(self, number, contract):
        return np.zeros((contract.height, contract.width, contract.channels), np.uint8)


def num_filters(config):
    return int(config.model.name.split("conv")[-1].split("bn")[0])


def test_more_time_gives_a_wider_network_and_less_a_smaller_picture(monkeypatch):
    monkeypatch.setattr(planning, "_macs_per_second", lambda *_: 20e9)
    contract = Preprocess(height=128, width=96, channels=3, fit="pad")
    plans = [plan_network(Config(), Source(10_000), contract, Spent(minutes, 1)) for minutes in (0.1, 1, 5, 20, 1000)]
    filters = [num_filters(plan) for plan in plans]
    assert filters == sorted(filters)
    assert filters[0] < filters[-1] == 384
    assert plans[0].data.image_size == (64, 48)
    assert plans[-1].data.image_size is None
    asked = Config().override(["data.image_size=[128, 96]"])
    assert plan_network(asked, Source(10_000), contract, Spent(0.1, 1)).data.image_size == (128, 96)


def test_a_network_that_was_asked_for_stays():
    asked = Config().override(["model.name=lenet5"])
    assert plan_network(asked, Source(10), Preprocess(height=28, width=28, channels=1, fit="pad"), Spent(1, 1)) == asked


@pytest.mark.parametrize("other", ["training.epochs=3", "data.folds=3"])
def test_what_leaves_nothing_to_plan_is_refused(other):
    with pytest.raises(ConfigError, match="leave one out"):
        refuse_unplannable(Config().override(["training.minutes=1", other]))
    refuse_unplannable(Config().override([other]))


def test_the_clock_runs():
    budget = Budget(1.0, time.monotonic() - 20)
    assert 19.9 < budget.spent < 30
    assert 30 < budget.left < 40.1


def test_a_planned_run_is_repeated_by_its_settings(tmp_path):
    quick = {"precision": "fp32", "engine.threads": 1}
    run = vitreous.train("digits", run=tmp_path / "run", minutes=0.4, **quick)
    assert run.config.training.minutes is None
    assert run.status == "complete"
    share = run.config.training.epoch_share
    again = vitreous.train("digits", run=tmp_path / "again", config=run.path / "config.toml", epochs=1)
    assert again.config.training.epoch_share == share
    first, repeated = (each.metrics()[0]["step"] for each in (run, again))
    assert first == repeated

"""The sections on confidence, leaks, findings and labels: what stands there, and that it is left out where unknown."""

import re

import numpy as np
import pytest

import vitreous
from vitreous.evaluation.scored import ScoredSplit
from vitreous.evaluation.scores import score
from vitreous.report import trust
from vitreous.run import Run

SMALL = {"model": "conv4 gap fc", "epochs": 1, "precision": "fp32", "engine.threads": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return vitreous.train("fashion-mini", run=tmp_path_factory.mktemp("runs") / "run", **SMALL)


def page_of(run):
    return (run.path / "report.html").read_text(encoding="utf-8")


def test_the_page_tells_coverage_and_unfamiliar_images_as_evaluation_does(run):
    page = re.sub(r"\s+", " ", page_of(run))
    told = vitreous.evaluate(run.path)
    assert f"hold the true one for {told['coverage']['seen']['value']:.2%}" in page
    assert f"{told['familiarity']['num_unfamiliar']} of these images" in page
    assert f"{told['brier']:.4f}" in page
    assert f"divided by {told['temperature']:.3f}" in page
    assert page.count("<circle cx=") >= 15


def test_the_page_tells_who_decided_what_and_how_to_do_it_again(run):
    page = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page_of(run)))
    asked = page[page.index("Asked") : page.index("Chosen")]
    for name, value in (("data.source", "fashion-mini"), ("training.epochs", "1"), ("model.name", "conv4 gap fc")):
        assert re.search(rf"{name}\s+{value} ", asked)
    assert "training.learning_rate" in page[page.index("Chosen") : page.index("How to do it again")]
    for command in ("evaluate", "predict", "explain", "train fashion-mini", "resume", "compare", "report"):
        assert f"vitreous {command} " in page
    assert "to the last bit" in page


def test_a_run_that_was_never_calibrated_says_so(run):
    old = Run(run.path, {key: value for key, value in run.manifest.items() if key != "calibration"})
    found = trust.trust_of(old, scored_at_random())
    assert found.coverage is None
    assert "before runs were calibrated" in found.why_no_coverage
    assert found.unfamiliar is None


def scored_at_random(split="test"):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10, 60)
    logits = generator.normal(size=(60, 10)).astype(np.float32)
    names = tuple(map(str, range(60)))
    return ScoredSplit(split, score(logits, labels, names[:10]), labels, logits, names, names, None)


def test_a_planted_wrong_label_is_the_most_doubtful():
    labels = np.repeat(np.arange(3), 20)
    logits = np.full((60, 3), 0.0, np.float32)
    logits[np.arange(60), labels] = 4.0
    labels[7] = 2
    names = tuple(map(str, range(60)))
    scored = ScoredSplit("test", score(logits, labels, "abc"), labels, logits, names, names, None)
    (doubt,) = trust.doubts_of(scored, "abc", 12)
    assert (doubt.index, doubt.truth, doubt.label) == (7, "c", "a")
    trained_on = ScoredSplit("train", scored.scores, labels, logits, names, names, None)
    assert trust.doubts_of(trained_on, "abc", 12) == []


def test_leaks_are_told_with_the_score_without_them(run):
    assert trust.leaked_scores(run, "test") is None
    leaky = Run(run.path, {**run.manifest, "scores": {"test": {"num_leaked": 3, "without_leaked": None}}})
    assert trust.leaked_scores(leaky, "test")["num_leaked"] == 3

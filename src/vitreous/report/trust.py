"""How far a run's confidence can be trusted: all scores with intervals, reliability, coverage, unfamiliar images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vitreous.errors import ConfigError
from vitreous.evaluation.coverage import Coverage, measure_coverage
from vitreous.evaluation.doubt import doubtful_labels
from vitreous.evaluation.reliability import reliability_bins
from vitreous.evaluation.scored import ScoredSplit
from vitreous.predictor.calibration import DEFAULT_COVERAGE, FALSE_ALARMS, read_calibration
from vitreous.report.findings import Answer
from vitreous.run import Run

SIDE = 260  # of the chart, in its own units


@dataclass(frozen=True, slots=True)
class Figure:
    """One score, its 95 % interval if there is one, and what it means."""

    name: str
    value: str
    interval: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Dot:
    """Answers of about equal confidence, in the chart's units: x is what was said, y what was right."""

    x: float
    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Unfamiliar:
    """How many images were called unfamiliar, and how many would be by design if they were of the ordinary kind."""

    num: int
    share: float
    expected: float


@dataclass(frozen=True, slots=True)
class Trust:
    """All of the section; ``coverage`` and ``unfamiliar`` are None where the run was not calibrated for them."""

    figures: tuple[Figure, ...]
    dots: tuple[Dot, ...]
    side: int
    temperature: float
    coverage: Coverage | None
    why_no_coverage: str
    unfamiliar: Unfamiliar | None


def trust_of(run: Run, scored: ScoredSplit) -> Trust:
    """What the page says of one part's confidence."""
    coverage, why = _coverage(run, scored)
    return Trust(
        figures=tuple(_figures(scored)),
        dots=tuple(_dots(scored)),
        side=SIDE,
        temperature=scored.scores.temperature,
        coverage=coverage,
        why_no_coverage=why,
        unfamiliar=_unfamiliar(scored),
    )


def doubts_of(scored: ScoredSplit, classes: Sequence[str], num: int) -> list[Answer]:
    """The labels that the network's answers speak most strongly against, where it was not trained on the images."""
    if scored.split == "train":
        return []
    return [
        Answer(each.row, classes[each.label], classes[each.likely], each.likely_probability, each.label_probability)
        for each in doubtful_labels(scored.probabilities, scored.labels_N)[:num]
    ]


def leaked_scores(run: Run, split: str) -> Mapping[str, Any] | None:
    """The part's scores in the manifest, where some of its images are also in train; else None."""
    scores: Mapping[str, Any] = (run.manifest.get("scores") or {}).get(split) or {}
    return scores if scores.get("num_leaked") else None


def _figures(scored: ScoredSplit) -> list[Figure]:
    scores = scored.scores

    def share(name: str, value: float, low: float, high: float, meaning: str) -> Figure:
        return Figure(name, f"{value:.2%}", f"{low:.2%} to {high:.2%}", meaning)

    def number(name: str, key: str, meaning: str) -> Figure:
        interval = scores.intervals[key]
        return Figure(name, f"{getattr(scores, key):.4f}", f"{interval.low:.4f} to {interval.high:.4f}", meaning)

    balanced, macro = (scores.intervals[key] for key in ("balanced_accuracy", "macro_f1"))
    figures = [
        share("accuracy", *_of(scores.accuracy), "the share of right answers"),
        share(
            "balanced accuracy",
            scores.balanced_accuracy,
            balanced.low,
            balanced.high,
            "the mean over classes of the share that is found, however many images a class has",
        ),
        share("macro F1", scores.macro_f1, macro.low, macro.high, "the mean over classes of precision with recall"),
        number("log loss", "log_loss", "nats; what a wrong answer given with confidence costs most"),
        number("Brier score", "brier", "the squared errors of all probabilities, 0 to 2"),
        number("calibration error", "calibration_error", "by how much confidence and accuracy differ, 15 bins"),
    ]
    if scores.top_k is not None:
        meaning = f"the true class is among the {scores.k} likeliest"
        figures.insert(1, share(f"top-{scores.k} accuracy", *_of(scores.top_k), meaning))
    return figures


def _of(proportion: Any) -> tuple[float, float, float]:
    return proportion.value, proportion.low, proportion.high


def _dots(scored: ScoredSplit) -> list[Dot]:
    return [
        Dot(
            round(each.confidence * SIDE, 1),
            round((1 - each.accuracy) * SIDE, 1),
            f"{each.num_images:,} answers: said {each.confidence:.1%}, right {each.accuracy:.1%}",
        )
        for each in reliability_bins(scored.probabilities, scored.labels_N)
    ]


def _coverage(run: Run, scored: ScoredSplit) -> tuple[Coverage | None, str]:
    calibration = read_calibration(run)
    if calibration is None:
        return None, "This run was made before runs were calibrated."
    if scored.split != "test":
        return None, "Coverage is held against test images, which nothing was chosen by; this run has none."
    try:
        found = measure_coverage(calibration, scored.probabilities, scored.labels_N, run.classes, DEFAULT_COVERAGE)
    except ConfigError as error:
        return None, str(error)
    return found, ""


def _unfamiliar(scored: ScoredSplit) -> Unfamiliar | None:
    if scored.familiarity_N is None or scored.split != "test":
        return None
    num = int((scored.familiarity_N <= FALSE_ALARMS).sum())
    return Unfamiliar(num, num / len(scored.labels_N), FALSE_ALARMS)

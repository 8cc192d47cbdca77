"""The page itself: findings, facts and pictures of one run, laid out by ``page.html.jinja``.

Names of classes and files come from strangers: every value passes through ``visible`` and the template's escaping,
and the page forbids itself scripts and requests (Content-Security-Policy).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from torch import Tensor, nn

from vitreous import storage
from vitreous.data.preprocess import Preprocess
from vitreous.errors import UserError
from vitreous.evaluation.scored import ScoredSplit
from vitreous.explanation.features import feature_maps, filters_on_input, first_convolution, strongest
from vitreous.predictor import confidence_text
from vitreous.predictor.torch_backend import network_input
from vitreous.report import curves, facts, findings, pictures, trust
from vitreous.report.effort import Effort, effort_of
from vitreous.report.failures import FAILURES, reason
from vitreous.report.findings import Answer
from vitreous.report.pictures import Picture
from vitreous.report.probing import Probed, probe
from vitreous.report.reasons import Reasons, reasons_of
from vitreous.report.settings import settings_of
from vitreous.run import Run

NUM_MISTAKES = 24
NUM_DOUBTS = 12
NUM_MAPS = 8
MAX_FILTERS = 64
MAX_MATRIX_CLASSES = 40


@dataclass(frozen=True, slots=True)
class Shown:
    """An answer with its image's name and picture."""

    answer: Answer
    name: str
    picture: Picture


@dataclass(frozen=True, slots=True)
class FilterBank:
    """The first convolution's filters as pictures, up to ``MAX_FILTERS`` of ``num``; the scale ends at +-``limit``."""

    layer: str
    num: int
    size: tuple[int, int]
    in_colour: bool
    limit: float
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, slots=True)
class Map:
    """One filter's feature map of the example, with the filter."""

    number: int
    picture: Picture
    filter: Picture | None
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Maps:
    """The article's picture: one image and what the strongest filters make of it, on one scale of +-limit."""

    example: Shown
    size: tuple[int, int]
    limit: float
    maps: tuple[Map, ...]


def write_report(
    run: Run,
    network: nn.Module,
    preprocess: Preprocess,
    scored: Sequence[ScoredSplit],
    *,
    with_images: bool = True,
) -> Path:
    """Write the run's ``report.html``, one file that opens offline, and return its path.

    Args:
        network: with the run's weights; left as found.
        scored: the parts that were scored; the page is about the first, the others are a line each.
        with_images: False leaves out every pixel and file name of the user's images.

    Raises:
        MachineError: the disk is full or read-only; an older page is still whole.
    """
    path = run.path / "report.html"
    storage.write_atomic(path, render(run, network, preprocess, scored, with_images=with_images).encode())
    return path


def render(
    run: Run,
    network: nn.Module,
    preprocess: Preprocess,
    scored: Sequence[ScoredSplit],
    *,
    with_images: bool = True,
) -> str:
    """The page's text; the same run gives the same text."""
    main = scored[0]
    scores = main.scores
    num_right = sum(row[k] for k, row in enumerate(scores.confusion))
    bank, maps = _first_layer(network, preprocess, main, run.classes, with_images=with_images)
    best_epoch = (run.manifest.get("weights") or {}).get("epoch")
    mistakes = findings.worst_mistakes(main, run.classes, NUM_MISTAKES)
    effort = _effort(run, network, preprocess)
    has_matrix = len(run.classes) <= MAX_MATRIX_CLASSES
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            run=run,
            main=main,
            scores=scores,
            scored=scored,
            num_right=num_right,
            baseline=findings.baseline(scores),
            model_facts=facts.model_facts(run),
            data_facts=facts.data_facts(run, with_names=with_images),
            settings=settings_of(run, with_names=with_images),
            starts_from_weights=bool(run.manifest.get("initial_weights")),
            preprocessing_facts=facts.preprocessing_facts(preprocess),
            counts=facts.counts(run),
            remarks=facts.remarks(run, with_names=with_images),
            charts=curves.training_charts(run.metrics(), best_epoch),
            label_smoothing=run.config.training.label_smoothing,
            class_rows=findings.class_rows(scores),
            has_matrix=has_matrix,
            pairs=findings.confused_pairs(scores, 10 if has_matrix else 40),
            num_wrong=scores.num_images - num_right,
            mistakes=_shown(main, mistakes) if with_images else [],
            reasons=_reasons(run, network, preprocess, main, mistakes, effort) if with_images else Reasons(),
            probed=_probed(network, preprocess, main, effort),
            doubts=_shown(main, trust.doubts_of(main, run.classes, NUM_DOUBTS)) if with_images else [],
            trust=trust.trust_of(run, main),
            leaked=trust.leaked_scores(run, main.split),
            found=facts.found(run, with_names=with_images),
            with_images=with_images,
            has_pixels=main.pixels_NHWC is not None,
            bank=bank,
            maps=maps,
            scale=pictures.scale_bar(),
            commands=facts.commands(run, with_names=with_images),
        )
    )


def _effort(run: Run, network: nn.Module, preprocess: Preprocess) -> Effort | str:
    """What the page may compute; a reason where it is not known what the network costs."""
    try:
        return effort_of(run, network, preprocess)
    except FAILURES as error:
        return f"What this network does could not be followed: {reason(error)}"


def _reasons(
    run: Run,
    network: nn.Module,
    preprocess: Preprocess,
    scored: ScoredSplit,
    mistakes: Sequence[Answer],
    effort: Effort | str,
) -> Reasons:
    if isinstance(effort, str):
        return Reasons(why_not=effort)
    if scored.pixels_NHWC is None:
        return Reasons()
    return reasons_of(run, network, preprocess, scored, mistakes, effort)


def _probed(network: nn.Module, preprocess: Preprocess, scored: ScoredSplit, effort: Effort | str) -> Probed:
    return Probed(why_not=effort) if isinstance(effort, str) else probe(network, preprocess, scored, effort)


def visible(text: str) -> str:
    r"""Text in which a reader can see every character: what has no glyph, or could not be written, is spelled out.

    >>> visible("a\nb"), visible("caf\udce9"), visible("été 写")
    ('a\\nb', 'caf\\udce9', 'été 写')
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _finalize(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache  # compiling the templates takes longer than filling them
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("vitreous.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": "{:,}".format,
        "percent": "{:.2%}".format,
        "confidence": confidence_text,
        "number": _number,
        "tail": _tail,
    }
    return environment


def _number(value: float) -> str:
    """Three digits, with a minus sign that is as wide as a plus."""
    return f"{value:.3g}".replace("-", "−")


def _tail(name: str, length: int = 20) -> str:
    """The end of a long name, which tells files apart better than its beginning."""
    return name if len(name) <= length else "…" + name[-length + 1 :]


def _shown(scored: ScoredSplit, answers: Sequence[Answer]) -> list[Shown]:
    if scored.pixels_NHWC is None:
        return []
    return [
        Shown(answer, scored.names[answer.index], pictures.picture(np.asarray(scored.pixels_NHWC[answer.index])))
        for answer in answers
    ]


def _first_layer(
    network: nn.Module, preprocess: Preprocess, scored: ScoredSplit, classes: Sequence[str], *, with_images: bool
) -> tuple[FilterBank | None, Maps | None]:
    """Filters and feature maps of the first convolution; neither where the network has none."""
    grey = np.zeros((1, preprocess.height, preprocess.width, preprocess.channels), np.uint8)
    any_input = _input(network, preprocess, grey)
    try:
        layer = first_convolution(network, any_input)
    except UserError:
        return None, None
    filters_KCHW = filters_on_input(network, any_input, layer).cpu().numpy()
    limit = float(np.abs(filters_KCHW[:MAX_FILTERS]).max())
    filter_pictures = tuple(
        pictures.picture(colours) for colours in pictures.filter_colours(filters_KCHW[:MAX_FILTERS], limit)
    )
    bank = FilterBank(
        layer=layer,
        num=len(filters_KCHW),
        size=(filters_KCHW.shape[2], filters_KCHW.shape[3]),
        in_colour=preprocess.channels == 3,
        limit=limit,
        pictures=filter_pictures,
    )
    example = findings.ordinary_right(scored, classes)
    if not with_images or example is None or scored.pixels_NHWC is None:
        return bank, None
    pixels_1HWC = np.asarray(scored.pixels_NHWC[example.index : example.index + 1])
    maps_KHW = feature_maps(network, _input(network, preprocess, pixels_1HWC), layer)[0].cpu()
    return bank, _maps(_shown(scored, [example])[0], maps_KHW, filter_pictures)


def _maps(example: Shown, maps_KHW: Tensor, filter_pictures: Sequence[Picture]) -> Maps:
    chosen = strongest(maps_KHW, NUM_MAPS)
    values_KHW = maps_KHW.numpy()[chosen]
    limit = float(np.abs(values_KHW).max())
    maps = tuple(
        Map(
            number=number,
            picture=pictures.picture(pictures.signed_colours(values_HW, limit)),
            filter=filter_pictures[number] if number < len(filter_pictures) else None,
            low=float(values_HW.min()),
            high=float(values_HW.max()),
        )
        for number, values_HW in zip(chosen, values_KHW, strict=True)
    )
    return Maps(example, (values_KHW.shape[1], values_KHW.shape[2]), limit, maps)


def _input(network: nn.Module, preprocess: Preprocess, pixels_NHWC: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
    """The images as the network takes them, on its own device."""
    parameter = next(network.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    return network_input(torch.from_numpy(np.array(pixels_NHWC)).to(device), preprocess)

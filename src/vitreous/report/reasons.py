"""Why some mistakes were made: what spoke for the answer, and what for the truth, drawn on the image (Grad-CAM)."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from vitreous.data.preprocess import Preprocess
from vitreous.evaluation.scored import ScoredSplit
from vitreous.explanation.attribution import grad_cam
from vitreous.predictor.torch_backend import network_input
from vitreous.report import pictures
from vitreous.report.effort import Effort
from vitreous.report.failures import FAILURES, reason
from vitreous.report.findings import Answer
from vitreous.report.pictures import Picture
from vitreous.run import Run
from vitreous.trace import Trace


@dataclass(frozen=True, slots=True)
class Reason:
    """One mistake: the image, and two maps on one scale."""

    answer: Answer
    name: str
    picture: Picture
    for_answer: Picture | None  # None where no unit of the layer speaks for the class
    for_truth: Picture | None
    command: str  # that tells more of it; "" where the image is no file of its own


@dataclass(frozen=True, slots=True)
class Reasons:
    """Explained mistakes, the surest first; ``why_not`` where there are mistakes and none could be explained."""

    reasons: tuple[Reason, ...] = ()
    layer: str = ""
    grain_px: int = 0  # from one unit of the layer to the next
    why_not: str = ""


def reasons_of(
    run: Run,
    network: nn.Module,
    preprocess: Preprocess,
    scored: ScoredSplit,
    mistakes: Sequence[Answer],
    effort: Effort,
) -> Reasons:
    """The surest mistakes explained, as many as the effort allows; ``scored`` has its pixels."""
    layer = deepest_map(effort.trace)
    if layer is None:
        return Reasons(why_not="This network has no layer whose units lie on the image, so none can be drawn on it.")
    found: list[Reason] = []
    grain_px = 0
    try:
        for answer in mistakes[: effort.num_explained]:
            assert scored.pixels_NHWC is not None, "without pixels nothing is explained"
            pixels_1HWC = np.array(scored.pixels_NHWC[answer.index : answer.index + 1])
            image_1CHW = network_input(torch.from_numpy(pixels_1HWC), preprocess)
            maps = [
                grad_cam(network, image_1CHW, run.classes.index(label), layer) for label in (answer.label, answer.truth)
            ]
            grain_px = maps[0].grain
            limit = max(float(each.map_HW.max()) for each in maps)
            drawn = [
                pictures.picture(pictures.over(pixels_1HWC[0], each.map_HW.numpy(), limit))
                if bool(each.map_HW.any())
                else None
                for each in maps
            ]
            name = scored.names[answer.index]
            command = explain_command(run, name)
            found.append(Reason(answer, name, pictures.picture(pixels_1HWC[0]), drawn[0], drawn[1], command))
    except FAILURES as error:
        return Reasons(why_not=f"This network’s answers could not be explained: {reason(error)}")
    return Reasons(tuple(found), effort.trace.recording.names[layer], grain_px)


def deepest_map(traced: Trace) -> int | None:
    """The last operation with several units that have places on the image; the image itself does not count."""
    for number in range(len(traced.operations) - 1, 0, -1):
        dims, shape = traced.map_dims(number), traced.operations[number].outputs[0]
        if dims is not None and math.prod(shape[dim] for dim in dims) > 1:
            return number
    return None


def explain_command(run: Run, name: str) -> str:
    """The line that explains an image of the run's data; "" where it is no file that a terminal can name."""
    kind, source = (run.manifest.get("data") or {}).get("kind"), Path(run.config.data.source)
    folder = source if kind in ("folder", "split folders") else source.parent if kind == "csv" else None
    if folder is None or not str(folder / name).isprintable():
        return ""
    factory = ["--model", "PATH/" + run.manifest["model"]["name"]] if _is_from_a_file(run) else []
    return shlex.join(["vitreous", "explain", str(run.path), str(folder / name), *factory])


def _is_from_a_file(run: Run) -> bool:
    return bool((run.manifest.get("model") or {}).get("source_sha256"))

"""One run from its first step to its scores: the loop, then what the best weights say of images they never saw."""

import csv
import time

import numpy as np
from numpy.typing import NDArray
from torch import nn

from vitreous import storage
from vitreous.config import settled
from vitreous.data.prepared import ImageSet
from vitreous.errors import Interrupted, RunError
from vitreous.evaluation.scored import ScoredSplit
from vitreous.predictor import Predictor
from vitreous.progress import Progress
from vitreous.run import Run
from vitreous.training.clock import PARTS, told
from vitreous.training.distributed.world import ALONE, World
from vitreous.training.engine import PASSES, recorded_threads
from vitreous.training.loop import StopRequest, fit
from vitreous.training.resizing import shown_size
from vitreous.weights import load_weights
from vitreous.workflow.calibrating import calibrate_run
from vitreous.workflow.run_images import headlines, main_split, score_split, scored_splits

_GOLDEN_INPUTS = 4


def train_run(
    run: Run, network: nn.Module, images: ImageSet, progress: Progress, stop: StopRequest, world: World = ALONE
) -> tuple[Predictor, list[ScoredSplit]] | None:
    """Train to the end; then scores in the manifest, predictions and golden inputs. Goes on where the run stands.

    Of several processes only the first has answers; the others get None.

    Raises:
        Interrupted: a signal came; the run can be resumed.
        MachineError: training failed; what was saved stays.
    """

    def check() -> None:
        if (number := stop()) is not None:
            run.update_manifest(status="interrupted")
            raise Interrupted(f"stopped while scoring; go on with: vitreous resume {run.path}", number)

    started = time.monotonic()
    fit(run, network, images, progress=progress, stop=stop, world=world)
    seconds = time.monotonic() - started
    if not world.is_first:
        return None
    if line := where_time_went(run):
        progress.say(line)
    with recorded_threads(run.config.engine):
        load_weights(network, run.verified_weights())  # the best, in place of the last
        predictor = calibrate_run(run, network, images, progress, check)
        scored = [score_split(predictor, images, name, progress, check) for name in scored_splits(images)]
        _write_golden(run, predictor, images)
    for part in scored:
        write_predictions(run, part, predictor.probabilities(part.logits_NK))
    scores = {part.split: headlines(part, images.leaked[images.indices(part.split)], images.classes) for part in scored}
    run.update_manifest(scores=scores, seconds=round(seconds + run.manifest.get("seconds", 0.0), 1))
    return predictor, scored


def where_time_went(run: Run) -> str:
    """The parts of a step, and the share of the machine's peak that the network reached; empty where not measured."""
    lines = [line for line in run.metrics() if line["step"] and line.get("spent")]
    spent = {part: sum(line["spent"][part] for line in lines) for part in PARTS}
    if not sum(spent.values()):
        return ""
    speed = run.manifest.get("speed") or {}
    in_steps = sum(spent.values()) - spent["evaluation"]
    shown = [line["seconds"] * line["images_per_second"] for line in lines]
    rate = sum(shown) / in_steps
    text = f"time: {told(spent)}; {rate:,.0f} images/s"
    if speed.get("macs") and speed.get("peak_macs_per_second"):
        processes = run.config.engine.processes or 1
        size = settled(run.config.data.image_size)
        sizes = [shown_size(size, line["epoch"] - 1, run.config.training) for line in lines]
        areas = [height * width / (size[0] * size[1]) for height, width in sizes]
        whole = sum(number * area for number, area in zip(shown, areas, strict=True)) / in_steps  # images of whole size
        reached, peak = PASSES * speed["macs"] * whole, speed["peak_macs_per_second"] * processes
        text += f", {reached / peak:.0%} of the {peak / 1e9:,.0f} GMAC/s that a product of matrices reaches here"
    return text


def write_predictions(run: Run, part: ScoredSplit, probabilities_NK: NDArray[np.float64]) -> None:
    """``predictions/PART.csv``: the probability of each class for each image of a part."""
    folder = run.path / "predictions"
    folder.mkdir(exist_ok=True)
    rows = (
        (part.hashes[number], run.classes[int(part.labels_N[number])], *map(repr, probabilities_NK[number].tolist()))
        for number in range(len(part.hashes))
    )
    storage.write_csv(folder / f"{part.split}.csv", ("content_hash", "class", *run.classes), rows)


def read_predictions(run: Run, split: str) -> tuple[list[str], NDArray[np.float64]]:
    """What ``write_predictions`` wrote: the content hash and the probabilities of each image.

    Raises:
        RunError: the table is missing, or is not of this run.
    """
    path = run.path / "predictions" / f"{split}.csv"
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            header, *rows = csv.reader(file)
        if header[2:] != list(run.classes):
            raise ValueError("other classes")
        probabilities = np.array([row[2:] for row in rows], dtype=np.float64).reshape(len(rows), len(run.classes))
    except (OSError, ValueError, csv.Error) as error:
        raise RunError(f"{path} is missing or damaged ({error}); restore it from a copy.") from None
    return [row[0] for row in rows], probabilities


def _write_golden(run: Run, predictor: Predictor, images: ImageSet) -> None:
    """Inputs of a few classes as encoded files, with the logits that any copy of the network must give."""
    folder = run.path / "golden"
    folder.mkdir(exist_ok=True)
    rows = images.indices(main_split(images))
    _, firsts = np.unique(images.labels[rows], return_index=True)
    chosen = rows[firsts[:_GOLDEN_INPUTS]].tolist()
    expected = []
    for order, number in enumerate(chosen):
        encoded = images.images.encoded(number)
        name = f"{order}.bin"
        storage.write_atomic(folder / name, encoded)
        logits = predictor.logits(predictor.preprocess.pixels(encoded)[None])[0]
        label = images.classes[int(images.labels[number])]
        expected.append({"file": name, "class": label, "logits": logits.tolist()})
    storage.write_json(folder / "expected.json", expected)

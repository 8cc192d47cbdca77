"""The images of a run: its own, found again, or others with its pixels; and their scores by part."""

import dataclasses

import numpy as np

from vitreous.data.images import listed
from vitreous.data.prepared import ImageSet, prepare_as
from vitreous.data.preprocess import Preprocess
from vitreous.data.source import Source, open_source
from vitreous.errors import DataError, RunError
from vitreous.evaluation.scored import ScoredSplit
from vitreous.evaluation.scores import score
from vitreous.predictor import Predictor
from vitreous.progress import Progress
from vitreous.run import Run


def images_of(run: Run, progress: Progress) -> ImageSet:
    """The run's own data, found again, with the parts of splits.csv.

    Raises:
        RunError: an image is gone, new or changed since training.
    """
    origin = run.config.data.source
    skip_broken = run.config.data.skip_broken
    images = images_for(run, open_source(origin), skip_broken=skip_broken, progress=progress)
    parts = {(row.content_hash, row.path): row.split for row in run.splits()}
    found = list(zip(images.hashes, images.names, strict=True))
    missing = parts.keys() - set(found)
    extra = [key for key in found if key not in parts]
    if missing or extra:
        example = min(name for _, name in [*missing, *extra])
        raise RunError(
            f"{origin} has changed since {run.path} was trained: {len(missing)} images are gone or changed, "
            f"{len(extra)} are new or changed (e.g. {example!r}). Restore it, or evaluate it as other data: "
            f"vitreous evaluate {run.path} DATA."
        )
    return dataclasses.replace(images, splits=np.array([parts[key] for key in found]))


def images_for(run: Run, source: Source, *, skip_broken: bool, progress: Progress) -> ImageSet:
    """Any labelled images with the run's pixels, and labels that are the run's by name.

    Raises:
        DataError: a class that the run does not know.
    """
    unknown = [name for name in source.classes if name not in run.classes]
    if unknown:
        raise DataError(
            f"{source.origin} has classes that {run.path} does not know: {listed(unknown)}; "
            f"it knows {listed(run.classes, most=20)}."
        )
    absent = [name for name in run.classes if name not in source.classes]
    if absent:
        progress.say(f"no image shows {listed(absent)}, so nothing is said about them.")
    to_ours = np.array([run.classes.index(name) for name in source.classes], dtype=np.int64)
    source = dataclasses.replace(source, classes=run.classes, labels=to_ours[source.labels])
    preprocess = Preprocess.from_dict(run.manifest["preprocessing"])
    return prepare_as(source, preprocess, skip_broken=skip_broken, progress=progress)


def main_split(images: ImageSet) -> str:
    """The part that a run is judged by."""
    return scored_splits(images)[0]


def scored_splits(images: ImageSet) -> list[str]:
    """The parts worth a score, the most honest first."""
    return [name for name in ("test", "val") if len(images.indices(name))] or ["train"]


def score_split(predictor: Predictor, images: ImageSet, split: str, progress: Progress) -> ScoredSplit:
    """Run the network on a part of the images; logits, and the scores made of them."""
    indices = images.indices(split)
    pixels, labels = images.pixels[indices], images.labels[indices]
    with progress.task(f"scoring {split}", len(indices), "images") as task:
        logits = predictor.logits(pixels)
        task.advance(len(indices))
    return ScoredSplit(
        split=split,
        scores=score(logits, labels, images.classes),
        labels_N=labels,
        logits_NK=logits,
        hashes=tuple(images.hashes[number] for number in indices),
        names=tuple(images.names[number] for number in indices),
        pixels_NHWC=pixels,
    )

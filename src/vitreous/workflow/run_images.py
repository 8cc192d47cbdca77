"""The images of a run: its own, found again, or others with its pixels; and their scores by part."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitreous.allocator import kept_blocks
from vitreous.data.exclusion import leave_out
from vitreous.data.prepared import ImageSet, number_equal, prepare_as
from vitreous.data.preprocess import Preprocess
from vitreous.data.source import Source, open_source
from vitreous.errors import DataError, RunError
from vitreous.evaluation.scored import ScoredSplit
from vitreous.evaluation.scores import score
from vitreous.predictor import Predictor
from vitreous.progress import Progress
from vitreous.run import Run, SplitRow
from vitreous.wording import listed


def images_of(run: Run, progress: Progress) -> ImageSet:
    """The run's own data, found again, with the parts of splits.csv.

    Raises:
        RunError: an image is gone, new or changed since training.
    """
    origin = run.config.data.source
    rows = list(run.splits())
    left_out = {row.path for row in rows if row.split == "excluded"}
    source = leave_out(open_source(origin, for_training=False), left_out)
    images = images_for(run, source, skip_broken=run.config.data.skip_broken, progress=progress)
    row_of = {(row.content_hash, row.path): row for row in rows if row.split != "excluded"}
    found = list(zip(images.hashes, images.names, strict=True))
    missing = row_of.keys() - set(found)
    extra = [key for key in found if key not in row_of]
    if missing or extra:
        example = min(name for _, name in [*missing, *extra])
        raise RunError(
            f"{origin} has changed since {run.path} was trained: {len(missing)} images are gone or changed, "
            f"{len(extra)} are new or changed (e.g. {example!r}). Restore it, or evaluate it as other data: "
            f"vitreous evaluate {run.path} DATA."
        )
    known = [row_of[key] for key in found]
    return dataclasses.replace(
        images,
        splits=np.array([row.split for row in known]),
        groups=tuple(row.group for row in known),
        duplicate_of=number_equal([row.picture or row.content_hash for row in known]),
        known=frozenset(row.content_hash for row in known if row.is_known),
    )


def images_for(run: Run, source: Source, *, skip_broken: bool, progress: Progress) -> ImageSet:
    """Any labelled images with the run's pixels, and labels that are the run's by name; what it saw in training leaks.

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
    images = prepare_as(source, preprocess, skip_broken=skip_broken, progress=progress)
    seen = frozenset(row.content_hash for row in run.splits() if row.split in ("train", "val"))
    alone = np.arange(len(images))  # what these images share with each other says nothing of the run
    return dataclasses.replace(images, known=seen, groups=("",) * len(images), duplicate_of=alone)


def main_split(images: ImageSet) -> str:
    """The part that a run is judged by."""
    return scored_splits(images)[0]


def scored_splits(images: ImageSet) -> list[str]:
    """The parts worth a score, the most honest first."""
    return [name for name in ("test", "val") if len(images.indices(name))] or ["train"]


def score_split(
    predictor: Predictor,
    images: ImageSet,
    split: str,
    progress: Progress,
    before_batch: Callable[[], None] = lambda: None,
) -> ScoredSplit:
    """Run the network on a part of the images; logits, and the scores made of them."""
    indices = images.indices(split)
    pixels, labels = images.pixels[indices], images.labels[indices]
    answers = []
    with kept_blocks(), progress.task(f"scoring {split}", len(indices), "images") as task:
        for start in range(0, len(indices), predictor.batch_size):
            before_batch()
            answers.append(predictor.answer(pixels[start : start + predictor.batch_size]))
            task.advance(len(answers[-1].logits_NK))
    logits = np.concatenate([each.logits_NK for each in answers])
    familiarities = [each.familiarity_N for each in answers if each.familiarity_N is not None]
    return ScoredSplit(
        split=split,
        scores=score(logits, labels, images.classes, predictor.calibration.temperature),
        labels_N=labels,
        logits_NK=logits,
        hashes=tuple(images.hashes[number] for number in indices),
        names=tuple(images.names[number] for number in indices),
        pixels_NHWC=pixels,
        familiarity_N=np.concatenate(familiarities) if familiarities else None,
    )


def without_leaked(part: ScoredSplit, images: ImageSet) -> ScoredSplit | None:
    """The same answers without those for images that the network saw in training; None where no image is left."""
    return _some_of(part, np.flatnonzero(~images.leaked[images.indices(part.split)]), images.classes)


def headlines(part: ScoredSplit, is_leaked: NDArray[np.bool_], classes: Sequence[str]) -> dict[str, Any]:
    """The scores of a part for the manifest; where images of it leaked, those without them as well."""
    if not is_leaked.any():
        return part.scores.headline()
    rest = _some_of(part, np.flatnonzero(~is_leaked), classes)
    return {
        **part.scores.headline(),
        "num_leaked": int(is_leaked.sum()),
        "without_leaked": None if rest is None else rest.scores.headline(),
    }


def _some_of(part: ScoredSplit, kept: NDArray[np.int64], classes: Sequence[str]) -> ScoredSplit | None:
    if not len(kept):
        return None
    labels, logits = part.labels_N[kept], part.logits_NK[kept]
    return dataclasses.replace(
        part,
        scores=score(logits, labels, classes, part.scores.temperature),
        labels_N=labels,
        logits_NK=logits,
        hashes=tuple(part.hashes[number] for number in kept),
        names=tuple(part.names[number] for number in kept),
        pixels_NHWC=None if part.pixels_NHWC is None else part.pixels_NHWC[kept],
        familiarity_N=None if part.familiarity_N is None else part.familiarity_N[kept],
    )


def split_rows(images: ImageSet) -> Iterator[SplitRow]:
    """What splits.csv says of each image, and of those that the user left out."""
    picture_of = _shared_pictures(images)
    for i, content_hash in enumerate(images.hashes):
        label, picture = images.classes[int(images.labels[i])], picture_of.get(int(images.duplicate_of[i]), "")
        is_known = content_hash in images.known
        yield SplitRow(content_hash, images.names[i], label, str(images.splits[i]), images.groups[i], picture, is_known)
    for each in images.excluded:
        yield SplitRow(each.content_hash, each.name, each.label, "excluded")


def _shared_pictures(images: ImageSet) -> dict[int, str]:
    """The smallest content hash of each picture that several images show, by its number."""
    numbers, counts = np.unique(images.duplicate_of, return_counts=True)
    shared = dict.fromkeys(numbers[counts > 1].tolist(), "")
    for number, content_hash in zip(images.duplicate_of.tolist(), images.hashes, strict=True):
        if number in shared:
            shared[number] = min(shared[number] or content_hash, content_hash)
    return shared


def data_facts(images: ImageSet) -> dict[str, Any]:
    """What the manifest says of the images."""
    _, copies = np.unique(images.duplicate_of, return_counts=True)
    leaked = {part: int(images.leaked[images.indices(part)].sum()) for part in ("val", "test")}
    return {
        "origin": images.origin,
        "kind": images.kind,
        "fingerprint": images.fingerprint,
        "counts": images.counts(),
        "num_groups": len(set(images.groups) - {""}),
        "duplicates": {"pictures": int((copies > 1).sum()), "images": int(copies[copies > 1].sum())},
        "leaked": {part: count for part, count in leaked.items() if count},
        "excluded": [each.name for each in images.excluded],
        "skipped": [dataclasses.asdict(each) for each in images.broken],
        "remarks": list(images.remarks),
    }

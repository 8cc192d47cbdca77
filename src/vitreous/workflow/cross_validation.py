"""A cross-validation beside a run: the same settings trained once for each fold, on all but that fold.

``RUN/folds/1`` .. ``RUN/folds/K`` are runs of their own, without a page; what each says of its fold, which it never
saw, is pooled in ``RUN/predictions/folds.csv``, so that every image has an honest answer.
"""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import nn

from vitreous import storage
from vitreous.config import Config, settled
from vitreous.data.prepared import ImageSet, fold_of, fold_splits, number_folds, with_given_statistics
from vitreous.errors import Interrupted, MachineError, RunError
from vitreous.evaluation.scored import ScoredSplit
from vitreous.evaluation.scores import score
from vitreous.progress import Progress, Task
from vitreous.run import FollowedRun, Run
from vitreous.training.distributed.world import ALONE, World
from vitreous.training.loop import StopRequest
from vitreous.workflow.run_images import data_facts, headlines, split_rows
from vitreous.workflow.run_training import read_predictions, train_run, write_predictions

_OF_THE_RUN_ALONE = ("schema", "status", "files", "findings", "weights", "calibration", "scores", "seconds", "folds")


def has_folds(config: Config) -> bool:
    """Whether folds belong to a run, which is not one of them itself."""
    return config.data.folds > 0 and config.data.fold is None


def held_with_folds(run: Run) -> AbstractContextManager[None]:
    """Within the context no other process trains the run or a fold of it.

    Raises:
        MachineError: another process does.
    """
    is_ours = has_folds(run.config) and not isinstance(run, FollowedRun)
    return storage.lock(run.path / "folds" / ".lock", wait_seconds=0) if is_ours else nullcontext()


def cross_validate(
    run: Run,
    images: ImageSet,
    fresh_network: Callable[[Run], nn.Module],
    progress: Progress,
    stop: StopRequest,
    world: World = ALONE,
) -> None:
    """Train what is missing of the run's folds, then pool their answers and score them.

    Args:
        fresh_network: makes a run's network as it is before its first step.

    Raises:
        Interrupted: a signal came; the run can be resumed.
        MachineError: training failed; what was saved stays.
    """
    num_folds = run.config.data.folds
    folds = number_folds(images, num_folds, run.config.seed)
    for number in range(1, num_folds + 1):
        with _told_of(run, f"fold {number} of {num_folds}"):
            config = dataclasses.replace(run.config, data=dataclasses.replace(run.config.data, fold=number))
            fold_images = images_of_fold(images, config, folds)
            fold = world.shared_run(partial(_opened_fold, run, config, fold_images, number))
            if fold.status != "complete":
                told = _Prefixed(progress, f"fold {number} of {num_folds}: ")
                train_run(fold, fresh_network(fold), fold_images, told, stop, world)
                fold.update_manifest(status="complete")
    if world.is_first:
        _pool(run, images)


def images_of_fold(images: ImageSet, config: Config, folds: NDArray[np.int64]) -> ImageSet:
    """The images with the fold of the settings as test; mean and deviation are those of what trains.

    Args:
        folds: the number of each image's fold, as ``number_folds`` gives it.
    """
    data = config.data
    fold = fold_of(images, folds, settled(data.fold), val_fraction=data.val_fraction, seed=config.seed)
    return with_given_statistics(fold, data.mean, data.std)


def require_folds(images: ImageSet, config: Config) -> None:
    """Check, before anything is trained, that every fold that is asked for can be.

    Raises:
        DataError: there are too few pictures or groups.
    """
    data = config.data
    folds = number_folds(images, data.folds, config.seed)
    for number in range(1, data.folds + 1):
        fold_splits(images, folds, number, val_fraction=data.val_fraction, seed=config.seed)


def _opened_fold(run: Run, config: Config, fold_images: ImageSet, number: int) -> Run:
    """The run of one fold, made if it is not there yet."""
    path = run.path / "folds" / str(number)
    if (path / "manifest.json").is_file():
        return Run.open(path)
    storage.remove_directory(path)  # what a killed process began to make
    manifest = {key: value for key, value in run.manifest.items() if key not in _OF_THE_RUN_ALONE}
    manifest |= {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": data_facts(fold_images),
        "preprocessing": fold_images.preprocess.to_dict(),
        "weights": None,
    }
    return Run.create(path, config, manifest, split_rows(fold_images))


def _pool(run: Run, images: ImageSet) -> None:
    """Every image's answer from the fold that tested it, in the order of the images; and the scores of all."""
    probabilities_NK = np.full((len(images), len(images.classes)), np.nan)
    folds = [Run.open(run.path / "folds" / str(number)) for number in range(1, run.config.data.folds + 1)]
    row_of = {key: row for row, key in enumerate(zip(images.hashes, images.names, strict=True))}
    for fold in folds:
        tested = [(row.content_hash, row.path) for row in fold.splits() if row.split == "test"]
        hashes, answers = read_predictions(fold, "test")
        if hashes != [content_hash for content_hash, _ in tested]:
            raise RunError(f"{fold.path}: predictions/test.csv is not of its test images; remove {fold.path}, resume.")
        probabilities_NK[[row_of[key] for key in tested]] = answers
    rows = np.flatnonzero(~np.isnan(probabilities_NK).any(axis=1))
    labels, answers = images.labels[rows], probabilities_NK[rows]
    logits = np.log(np.maximum(answers, np.finfo(np.float64).tiny)).astype(np.float32)
    pooled = ScoredSplit(
        split="folds",
        scores=score(logits, labels, images.classes),
        labels_N=labels,
        logits_NK=logits,
        hashes=tuple(images.hashes[row] for row in rows),
        names=tuple(images.names[row] for row in rows),
        pixels_NHWC=None,
    )
    write_predictions(run, pooled, answers)
    accuracies = [fold.manifest["scores"]["test"]["accuracy"]["value"] for fold in folds]
    is_known = np.array([content in images.known for content in pooled.hashes], dtype=bool)
    scores = headlines(pooled, is_known, images.classes)
    run.update_manifest(folds={"num_folds": len(folds), "accuracies": accuracies, "scores": scores})


@contextmanager
def _told_of(run: Run, where: str) -> Iterator[None]:
    """What stops a fold stops its run, which is what the user resumes."""
    try:
        yield
    except Interrupted as stopped:
        run.update_manifest(status="interrupted")
        message = f"stopped in {where} and saved; go on with: vitreous resume {run.path}"
        raise Interrupted(message, stopped.exit_code - 128) from None
    except MachineError as error:
        run.update_manifest(status="failed")
        raise MachineError(f"{where}: {error}") from error


class _Prefixed:
    """Progress that says of what it is."""

    def __init__(self, progress: Progress, prefix: str) -> None:
        self.progress, self.prefix = progress, prefix

    def say(self, text: str) -> None:
        self.progress.say(self.prefix + text)

    def task(self, title: str, total: int, unit: str, done: int = 0) -> AbstractContextManager[Task]:
        return self.progress.task(self.prefix + title, total, unit, done)

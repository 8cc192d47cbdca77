"""Two runs side by side, on the images that neither has seen."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.errors import ConfigError, RunError
from vitreous.evaluation import comparison
from vitreous.run import Run, run_path
from vitreous.workflow.run_training import read_predictions


def compare(first: str | Path, second: str | Path, *, split: str | None = None) -> dict[str, Any]:
    """Whether the second run answers better than the first, on the images that stand in this part of both.

    Both runs' stored answers are read, so nothing is computed again. An image that one of the runs was trained on, or
    chose its epoch by, does not count: it stands in no test part of both.

    Args:
        first, second: runs of the same classes.
        split: ``test`` or ``val``; by default test where both have one.

    Returns:
        ``runs``, ``split``, ``num_images``, ``accuracies``, ``difference`` with its interval, ``p_value``, ``is_real``
        and more; plain values.

    Raises:
        UserError: no such run, other classes, or no image in common.
    """
    runs = [Run.open(run_path(str(path))) for path in (first, second)]
    if (sets := [set(run.classes) for run in runs])[0] != sets[1]:
        differing = ", ".join(sorted(sets[0] ^ sets[1])[:5])
        raise ConfigError(
            f"{runs[0].path} and {runs[1].path} know other classes ({differing}), so their scores are of two tasks; "
            "compare runs of the same classes."
        )
    name = split or ("test" if all(_has_predictions(run, "test") for run in runs) else "val")
    answers = [_answers(run, name) for run in runs]
    keys = [key for key in answers[0] if key in answers[1]]
    if not keys:
        raise RunError(
            f"no {name} image of {runs[0].path} is one of {runs[1].path}, so there is nothing to compare them by; "
            "train both on the same data with the same seed, or with parts of your own (train/, val/, test/ folders)."
        )
    labels = [answers[0][key][0] for key in keys]
    if relabelled := sum(label != answers[1][key][0] for label, key in zip(labels, keys, strict=True)):
        raise RunError(
            f"{relabelled} of {len(keys)} {name} images are labelled otherwise in {runs[1].path} than in "
            f"{runs[0].path}; compare runs of the same labels."
        )
    order = [runs[1].classes.index(label) for label in runs[0].classes]
    compared = comparison.compare(
        np.stack([answers[0][key][1] for key in keys]),
        np.stack([answers[1][key][1] for key in keys])[:, order],
        np.array([runs[0].classes.index(label) for label in labels], dtype=np.int64),
    )
    return {
        "runs": [str(run.path) for run in runs],
        "models": [run.manifest["model"]["name"] for run in runs],
        "split": name,
        "num_left_out": [len(each) - len(keys) for each in answers],
        **compared.to_json(),
    }


def _has_predictions(run: Run, split: str) -> bool:
    return (run.path / "predictions" / f"{split}.csv").is_file()


def _answers(run: Run, split: str) -> dict[tuple[str, int], tuple[str, Any]]:
    """Label and probabilities of each image, by its content hash and how many of the same content came before.

    Raises:
        RunError: the run was not scored on this part.
    """
    if not _has_predictions(run, split):
        raise RunError(
            f"{run.path} is {run.status} and has no scores on {split}; `vitreous resume {run.path}` completes a run, "
            "--split names another part."
        )
    hashes, probabilities = read_predictions(run, split)
    labels = defaultdict(list)
    for row in run.splits():
        if row.split == split:
            labels[row.content_hash].append(row.label)
    seen: dict[str, int] = defaultdict(int)
    answers = {}
    for content_hash, row in zip(hashes, probabilities, strict=True):
        number = seen[content_hash]
        seen[content_hash] += 1
        if number >= len(labels[content_hash]):
            raise RunError(f"{run.path}: predictions/{split}.csv is not of the images in splits.csv; restore a copy.")
        answers[content_hash, number] = (labels[content_hash][number], row)
    return answers

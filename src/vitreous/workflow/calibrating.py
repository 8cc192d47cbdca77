"""The end of training: what the validation images teach about confidence, stored beside the weights."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import nn

from vitreous.data.prepared import ImageSet
from vitreous.errors import RunError
from vitreous.evaluation.calibration import calibrate
from vitreous.evaluation.familiarity import fit_familiarity
from vitreous.predictor import Predictor
from vitreous.predictor.calibration import read_calibration, write_calibration
from vitreous.predictor.torch_backend import calibrated_predictor
from vitreous.progress import Progress
from vitreous.run import Run
from vitreous.training.engine import recorded_threads
from vitreous.weights import network_from_run
from vitreous.workflow.run_images import images_of

_MOST_TRAINING_IMAGES = 10_000  # that tell where training images lie


def calibrate_run(
    run: Run,
    network: nn.Module,
    images: ImageSet,
    progress: Progress,
    before_batch: Callable[[], None] = lambda: None,
) -> Predictor:
    """Calibrate a run whose network has its best weights; its predictor, which uses what was learned.

    The temperature comes from the images that chose the epoch; conformal scores and the distances of ordinary images
    from the other half of val, where there is one. Without validation images nothing is written.

    Args:
        before_batch: may raise, and then nothing is written.
    """
    device = run.config.engine.device
    predictor = calibrated_predictor(run, network, None, device)
    selecting, calibrating = images.selecting, images.calibrating
    training = _some_of_each_class(images) if len(calibrating) else calibrating
    if not len(selecting):
        return predictor
    with progress.task("calibrating", len(selecting) + len(calibrating) + len(training), "images") as task:

        def answers(rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            batches = []
            for start in range(0, len(rows), predictor.batch_size):
                before_batch()
                batch = rows[start : start + predictor.batch_size]
                batches.append(predictor.backend.logits_and_features(images.pixels[batch]))
                task.advance(len(batch))
            logits, features = zip(*batches, strict=True)
            return np.concatenate(logits), np.concatenate(features)

        selected_NK, _ = answers(selecting)
        calibrated_NK, familiarity = selected_NK[:0], None
        if len(calibrating):
            calibrated_NK, features_ND = answers(calibrating)
            _, training_ND = answers(training)
            familiarity = fit_familiarity(training_ND, images.labels[training], features_ND)
    calibration = calibrate(
        (selected_NK, images.labels[selecting]), (calibrated_NK, images.labels[calibrating]), familiarity
    )
    write_calibration(run, calibration)
    return calibrated_predictor(run, network, calibration, device)


def mend_calibration(
    run: Run, progress: Progress, *, model: str | None = None, accept_changed_code: bool = False
) -> None:
    """Calibrate a complete run again where its calibration is damaged; do nothing where it is whole or was never there.

    Raises:
        RunError: the run's data are not what they were.
    """
    try:
        read_calibration(run)
    except RunError:
        with recorded_threads(run.config.engine):
            network = network_from_run(run, model=model, accept_changed_code=accept_changed_code)
            calibrate_run(run, network, images_of(run, progress), progress)
        progress.say(f"the calibration of {run.path} was damaged; it is made again.")


def _some_of_each_class(images: ImageSet) -> NDArray[np.int64]:
    """Training images, evenly taken where there are many; at least one of each class."""
    train = images.indices("train")
    by_class = train[np.argsort(images.labels[train], kind="stable")]
    step = max(1, -(-len(by_class) // _MOST_TRAINING_IMAGES))
    _, firsts = np.unique(images.labels[by_class], return_index=True)
    return np.union1d(by_class[::step], by_class[firsts])

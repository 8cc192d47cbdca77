"""What is done with a finished run: scores, predictions, the report, a copy for another program."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitreous.data.source import open_source
from vitreous.errors import ConfigError, DataError, DecodeError
from vitreous.evaluation.coverage import measure_coverage
from vitreous.evaluation.scored import ScoredSplit
from vitreous.exports.timm_folder import TimmFolder, export_timm, timm_architecture
from vitreous.predictor import Image, Prediction, Predictor
from vitreous.predictor.calibration import DEFAULT_COVERAGE, FALSE_ALARMS, conformal_rank
from vitreous.predictor.torch_backend import predictor_from_run, predictor_of
from vitreous.progress import SILENT, Progress
from vitreous.report import page
from vitreous.run import Run, run_path
from vitreous.training.engine import recorded_threads
from vitreous.weights import network_from_run
from vitreous.weights.conversion import Conversion
from vitreous.weights.conversion import convert as convert_weights
from vitreous.workflow.run_images import images_for, images_of, main_split, score_split, scored_splits, without_leaked


def evaluate(
    path: str | Path,
    data: str | Path | None = None,
    *,
    split: str | None = None,
    coverage: float | None = None,
    tta: bool = False,
    skip_broken: bool = False,
    device: str | None = None,
    model: str | None = None,
    accept_changed_code: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Score a run on a part of its own data, or on other data whose classes are matched by name.

    Args:
        path: the run.
        data: other data; by default the run's own.
        split: ``train``, ``val`` or ``test``; by default test where there is one, else val; of other data all images.
        coverage: of conformal sets, held against the truth; by default 0.9 where the run can promise it.
        tta: test-time augmentation: score the mean of the answers for each image and its mirror image.
        skip_broken: leave unreadable images out, counted, instead of refusing.
        device: where to run; by default as in training.
        model: ``file.py:factory`` again, where that built the network.
        accept_changed_code: take the file though it is not what it was.
        progress: where messages and bars go.

    Returns:
        ``run``, ``split``, ``num_images``, ``accuracy`` and ``per_class`` with intervals, and more; plain values.
        ``coverage`` and ``familiarity`` where the run is calibrated and the images are new to it; ``num_leaked`` and
        ``without_leaked`` where some of the images are also among those that the run was trained on or chose its epoch
        by.

    Raises:
        UserError: no such run, part or class, or a coverage that the run cannot promise.
    """
    if tta:
        refuse_coverage_of_means(coverage)
    run = Run.open(run_path(str(path)))
    with recorded_threads(run.config.engine):
        network = network_from_run(run, model=model, accept_changed_code=accept_changed_code)
        predictor = predictor_of(run, network, device or run.config.engine.device)
        predictor = predictor.mirror_averaged() if tta else predictor
        if coverage is not None:
            predictor.calibration.threshold(coverage)  # refused before anything is scored
        if data is None:
            images = images_of(run, progress)
        else:
            images = images_for(run, open_source(data, for_training=False), skip_broken=skip_broken, progress=progress)
        name = split or main_split(images)
        if coverage is not None and data is None and name != "test":
            raise ConfigError(
                f"a coverage is held against images that nothing was chosen by; {name} is none of these: name --split "
                "test, or other DATA."
            )
        if not len(images.indices(name)):
            raise DataError(f"there are no {name} images; parts: {', '.join(sorted(set(images.splits.tolist())))}.")
        scored = score_split(predictor, images, name, progress)
    facts = {
        "run": str(run.path),
        "model_sha256": run.manifest["weights"]["sha256"],
        "data": images.origin,
        "split": name,
        **({"tta": True} if tta else {}),
    }
    leaked: dict[str, Any] = {}
    if num_leaked := int(images.leaked[images.indices(name)].sum()):
        rest = without_leaked(scored, images)
        leaked = {"num_leaked": num_leaked, "without_leaked": rest and rest.scores.to_json()}
    is_new = data is not None or name == "test"  # val is what the run was calibrated on
    calibrated = _calibrated(scored, predictor, coverage) if is_new else {}
    return {**facts, **scored.scores.to_json(), **calibrated, **leaked}


def refuse_coverage_of_means(coverage: float | None) -> None:
    """Do nothing if no coverage is asked of answers that are means over mirror images.

    Raises:
        ConfigError: it is.
    """
    if coverage is not None:
        raise ConfigError("--coverage was calibrated on single answers, and --tta gives means of two; leave one out.")


def _calibrated(scored: ScoredSplit, predictor: Predictor, coverage: float | None) -> dict[str, Any]:
    """How the run's calibration does on these images."""
    calibration, facts = predictor.calibration, dict[str, Any]()
    if (
        coverage is None
        and conformal_rank(DEFAULT_COVERAGE, calibration.num_calibrating) <= calibration.num_calibrating
    ):
        coverage = DEFAULT_COVERAGE
    if coverage is not None:
        measured = measure_coverage(calibration, scored.probabilities, scored.labels_N, predictor.classes, coverage)
        facts["coverage"] = measured.to_json()
    if scored.familiarity_N is not None:
        num_foreign = int((scored.familiarity_N <= FALSE_ALARMS).sum())
        facts["familiarity"] = {"num_unfamiliar": num_foreign, "expected_share": FALSE_ALARMS}
    return facts


def load_run(
    path: str | Path, device: str | None = None, *, model: str | None = None, accept_changed_code: bool = False
) -> Predictor:
    """The predictor of a run: ``load_run("runs/lamps").predict("lamp.jpg").label``.

    Args:
        path: the run.
        device: where to run; by default the first CUDA device, else the processor.
        model: ``file.py:factory`` again, where that built the network; a run folder never causes code to be loaded.
        accept_changed_code: take the file though it is not what it was in training.

    Raises:
        RunError: no run there, weights that training did not write, or a ``model`` that is missing or another.
    """
    return predictor_from_run(run_path(str(path)), device, model=model, accept_changed_code=accept_changed_code)


@dataclass(frozen=True, slots=True)
class PredictedImage:
    """One image and what was said of it; exactly one of ``prediction`` and ``error`` is there."""

    path: str
    prediction: Prediction | None
    error: str | None


def predict(
    predictor: Predictor, images: Iterable[tuple[str, Image]], *, coverage: float | None = None
) -> Iterator[PredictedImage]:
    """Answers for named images, in order; one that cannot be read is an error row and does not stop the others.

    Args:
        coverage: also give the candidates; see ``Predictor.predict``.
    """
    names: list[str] = []

    def sources() -> Iterator[Image]:
        for name, image in images:
            names.append(name)
            yield image

    for number, answer in enumerate(predictor.predict_many(sources(), coverage=coverage)):
        if isinstance(answer, DecodeError):
            yield PredictedImage(names[number], None, str(answer))
        else:
            yield PredictedImage(names[number], answer, None)


def write_report(
    path: str | Path,
    *,
    with_images: bool = True,
    model: str | None = None,
    accept_changed_code: bool = False,
    progress: Progress = SILENT,
) -> Path:
    """Write a run's ``report.html`` again; without images it shows nothing of the user's pictures.

    Where ``file.py:factory`` built the network, ``model`` names it again; see ``load_run``.

    Raises:
        RunError: no finished run there.
    """
    run = Run.open(run_path(str(path)))
    with recorded_threads(run.config.engine):
        network = network_from_run(run, model=model, accept_changed_code=accept_changed_code)
        predictor = predictor_of(run, network)
        images = images_of(run, progress)
        scored = [score_split(predictor, images, name, progress) for name in scored_splits(images)]
        return page.write_report(run, network.cpu(), predictor.preprocess, scored, with_images=with_images)


def export(path: str | Path, *, format: str = "timm", out: str | Path | None = None) -> TimmFolder:
    """Write a run's network for another program, verified to give the same logits before it is kept.

    Args:
        path: the run, which is complete.
        format: ``timm``: a folder for ``timm.create_model("local-dir:DIR", pretrained=True)``.
        out: the new folder; by default ``exports/FORMAT`` in the run.

    Raises:
        UserError: no such run, format or counterpart of the network, or ``out`` exists.
        VerificationError: what was written scores otherwise; it is not kept.
    """
    if format != "timm":
        raise ConfigError(f"there is no export format {format!r}; --format timm writes a folder that timm loads.")
    run = Run.open(run_path(str(path)))
    timm_architecture(run.manifest["model"]["name"])  # before anything is built
    with recorded_threads(run.config.engine):
        network = network_from_run(run)
        return export_timm(run, network, predictor_of(run, network, "cpu"), Path(out or run.path / "exports" / format))


def convert(source: str | Path, out: str | Path | None = None, *, seconds: int = 300) -> Conversion:
    """Make a ``.safetensors`` file of the weights in a pickle of torch (.pth, .pt, .bin, .ckpt); runs no code of it.

    Args:
        source: the pickle.
        out: the new file; by default the same name in ``.safetensors``, in the current folder.
        seconds: after which the attempt ends.

    Raises:
        UserError: no such file, one that holds code or is damaged, or ``out`` exists; nothing is written.
    """
    source = Path(source)
    return convert_weights(source, Path(out or f"{source.stem}.safetensors"), seconds=seconds)

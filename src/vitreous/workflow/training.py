"""The walk of a training run, top to bottom: source -> data -> recipe -> network -> engine -> run folder -> loop ->
scores -> predictions, golden inputs, report.
"""

import dataclasses
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vitreous import storage
from vitreous.augmentation import Augmentation
from vitreous.checkpoint import KEPT, load_newest_checkpoint
from vitreous.config import Config, DataConfig, settled
from vitreous.data.decode import ImageFacts
from vitreous.data.images import BrokenImage
from vitreous.data.prepared import ImageSet, prepare, refuse_broken, scan
from vitreous.data.preprocess import Preprocess, share_kept_by_crop, suggest_preprocess
from vitreous.data.source import Source, open_source
from vitreous.errors import DataError, RunError
from vitreous.evaluation.scored import ScoredSplit
from vitreous.models import build_network, check_network, describe, is_timm
from vitreous.models.foreign import refuse_factory
from vitreous.models.head import head_of
from vitreous.models.table import ARCHITECTURES
from vitreous.predictor import Predictor
from vitreous.predictor.torch_backend import network_input, predictor_of
from vitreous.progress import SILENT, Progress
from vitreous.report import page
from vitreous.run import Run, SplitRow, free_run_path, require_free, require_space, run_path
from vitreous.training.engine import choose_engine, recorded_threads
from vitreous.training.finetune import freeze, is_head_only
from vitreous.training.head import can_fit
from vitreous.training.loop import StopRequest, fit, restore_weights
from vitreous.training.recipe import Facts, choose_recipe, default_pattern, refuse_without_weights
from vitreous.weights import load_weights, network_from_manifest
from vitreous.weights.adoption import adopt
from vitreous.weights.contract import architecture_of, sees_colours, with_asked_statistics, with_contract_of
from vitreous.weights.foreign import WeightFile, open_weights
from vitreous.weights.preprocessing import WeightPreprocessing
from vitreous.workflow.run_images import images_of, main_split, score_split, scored_splits

_GOLDEN_INPUTS = 4
_LEAST_KEPT = 2 / 3  # of a picture's area, by a crop that nobody asked for
StopContext = AbstractContextManager[StopRequest]


def train(
    data: str | Path,
    *,
    run: str | Path | None = None,
    config: Config | Path | str | None = None,
    progress: Progress = SILENT,
    stop: StopContext | None = None,
    **settings: Any,
) -> Run:
    """Train a classifier on labelled images and write its run folder.

    Args:
        data: a folder of class folders, a CSV, IDX or .npz file, or a built-in name; see the README.
        run: where the run folder goes: a path, or a name below ``runs``; by default a free name after the data's.
        config: settings, or a TOML file of them; what is not set is chosen from the data.
        progress: where messages and bars go.
        stop: while the loop runs, tells whether a signal asked to stop.
        **settings: single settings over the file's: ``model="lenet5"``, ``epochs=3``, ``image_size=64``, ``seed=1``,
            or any by its full name, ``**{"training.batch_size": 64}``.

    Returns:
        The complete run.

    Raises:
        UserError: data, settings or the run's name are wrong; nothing is written.
        MachineError: training failed; what was saved stays.
        Interrupted: a signal came; the run can be resumed.
    """
    path = run_path(str(run)) if run is not None else None
    if path is not None:
        require_free(path)
    asked = asked_settings(config, data, settings)
    refuse_without_weights(asked)
    source = open_source(data)
    file = _asked_weights(asked, progress)
    may_pad = file is not None and asked.data.fit is None
    if file is not None:
        asked = _with_what_weights_need(asked, file)
    images = _prepare(source, asked, progress, may_pad=may_pad)
    for remark in images.remarks:
        progress.say(remark)
    progress.say(_describe(images))
    if not len(images.indices("val")):
        raise DataError(f"{images.origin} leaves no image to choose the best epoch on; each class needs three or more.")
    asked = _with_contract_and_model(asked, images)
    arguments = _network_arguments(asked, images)
    network = build_network(**arguments)
    num_parameters = sum(parameter.numel() for parameter in network.parameters())
    progress.say(f"network: {asked.model.name} ({num_parameters:,} parameters)")
    head = head_of(network, arguments["in_channels"], arguments["image_size"])
    adoption = adopt(network, file, head=head, classes=images.classes) if file is not None else None
    for line in adoption.lines if adoption is not None else ():
        progress.say(f"weights: {line}")
    facts = Facts(
        class_counts=tuple(images.counts()["train"].values()),
        image_size=images.pixels.shape[1:3],
        num_parameters=num_parameters,
        has_norm=any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in network.modules()),
    )
    chosen, recipe = choose_recipe(asked, facts)
    progress.say(f"recipe: {recipe}")
    freeze(network, settled(chosen.training.freeze), head)
    chosen = _with_engine(chosen, network, images, progress)
    path = path or free_run_path(_stem(asked.data.source))
    manifest = _manifest(chosen, images, num_parameters, head)
    if file is not None and adoption is not None:
        wants_fit = adoption.is_head_new or chosen.training.freeze == "backbone"
        manifest["initial_weights"] = {
            "sha256": file.sha256,
            "preprocessing": dataclasses.asdict(settled(file.preprocessing)),
            "said": list(adoption.lines),
            "fits_head": wants_fit and can_fit(network, head),
        }
    require_space(path, _run_bytes(num_parameters, len(images)))
    started = Run.create(path, chosen, manifest, _split_rows(images))
    return _train_to_end(started, network, images, progress, stop)


def resume(
    path: str | Path,
    *,
    model: str | None = None,
    accept_changed_code: bool = False,
    progress: Progress = SILENT,
    stop: StopContext | None = None,
) -> Run:
    """Go on with a run that was stopped, to the same bits as if it had not been; a complete run is left alone.

    Args:
        path: the run.
        model: ``file.py:factory`` again, where that built the network.
        accept_changed_code: take the file though it is not what it was.
        progress: where messages and bars go.
        stop: while the loop runs, tells whether a signal asked to stop.

    Raises:
        RunError: no run there, or its data, or the file that builds its network, is not what it was.
    """
    run = Run.open(run_path(str(path)))
    if run.status == "complete":
        _mend_weights(run, progress)
        progress.say(f"{run.path} is complete; there is nothing to resume.")
        return run
    network = network_from_manifest(run.manifest, model=model, accept_changed_code=accept_changed_code)
    _adopt_again(run, network)
    return _train_to_end(run, network, images_of(run, progress), progress, stop)


def _train_to_end(run: Run, network: nn.Module, images: ImageSet, progress: Progress, stop: StopContext | None) -> Run:
    started = time.monotonic()
    with stop or nullcontext(lambda: None) as stop_request:
        fit(run, network, images, progress=progress, stop=stop_request)
    seconds = time.monotonic() - started
    with recorded_threads(run.config.engine):
        load_weights(network, run.verified_weights())  # the best, in place of the last
        predictor = predictor_of(run, network, run.config.engine.device)
        scored = [score_split(predictor, images, name, progress) for name in scored_splits(images)]
        _write_golden(run, predictor, images)
        for part in scored:
            _write_predictions(run, predictor, part)
        scores = {part.split: _headline(part) for part in scored}
        seconds += run.manifest.get("seconds", 0.0)
        run.update_manifest(scores=scores, seconds=round(seconds, 1))
        complete = Run(run.path, {**run.manifest, "status": "complete"})  # what the page says once it is there
        page.write_report(complete, network.cpu(), predictor.preprocess, scored)
    run.update_manifest(status="complete")
    return run


def asked_settings(config: Config | Path | str | None, data: str | Path, settings: Mapping[str, Any]) -> Config:
    """Defaults, then the file, then single settings."""
    asked = config if isinstance(config, Config) else Config.from_file(Path(config)) if config is not None else Config()
    if not isinstance(config, Config) and settings.get("model") is None:
        refuse_factory(asked.model.name, config)
    short = {
        "model": "model.name",
        "epochs": "training.epochs",
        "weights": "model.weights",
        "freeze": "training.freeze",
        "device": "engine.device",
        "precision": "engine.precision",
    }
    short |= {"image_size": "data.image_size", "skip_broken": "data.skip_broken"}
    located = str(Path(data).resolve()) if Path(data).exists() else str(data)
    for name, value in {**settings, "data.source": located}.items():
        if value is not None:
            value = str(value) if isinstance(value, Path) else value
            section, dot, key = short.get(name, name).partition(".")
            asked = asked.updated({section: {key: value}} if dot else {section: value})
    return asked


def asked_contract(source: Source, asked: Config, progress: Progress, *, may_pad: bool = False) -> Preprocess:
    """How images will be shown, from their headers; where it is the weights' alone, a harmful crop becomes a pad.

    Raises:
        UserError: no image can be read, or the network that was asked for does not take such images.
    """
    data = asked.data
    architecture = ARCHITECTURES.get((asked.model.name or "").lower())
    scanned = scan(source.images, progress)
    facts = [each for each in scanned if not isinstance(each, BrokenImage)]
    if not facts:
        refuse_broken([each for each in scanned if isinstance(each, BrokenImage)], len(scanned))
    if may_pad and data.fit == "crop":
        data = _without_harmful_crop(data, facts, progress)
    preprocess = suggest_preprocess(
        facts,
        image_size=data.image_size,
        channels=data.channels,
        fit=data.fit,
        crop_fraction=data.crop_fraction,
        interpolation=data.interpolation,
        model_input=architecture.input[1:] if architecture and architecture.largest_side else None,
    )
    if asked.model.name:
        check_network(  # before anything is decoded
            asked.model.name,
            num_classes=len(source.classes),
            in_channels=preprocess.channels,
            image_size=(preprocess.height, preprocess.width),
        )
    return preprocess


def _prepare(source: Source, asked: Config, progress: Progress, *, may_pad: bool) -> ImageSet:
    data = asked.data
    preprocess = asked_contract(source, asked, progress, may_pad=may_pad)
    images = prepare(
        source,
        preprocess=preprocess,
        val_fraction=data.val_fraction,
        test_fraction=data.test_fraction,
        seed=asked.seed,
        skip_broken=data.skip_broken,
        progress=progress,
    )
    return dataclasses.replace(images, preprocess=_with_asked_statistics(images.preprocess, data))


def _without_harmful_crop(data: DataConfig, facts: Sequence[ImageFacts], progress: Progress) -> DataConfig:
    kept = share_kept_by_crop(facts, data.image_size or (1, 1))
    if kept >= _LEAST_KEPT:
        return data
    progress.say(
        f"the weights are used to the middle of a picture, which is {kept:.0%} of these: they are shown whole instead, "
        "padded (--set data.fit=crop cuts them)"
    )
    return dataclasses.replace(data, fit="pad", crop_fraction=None)


def _with_asked_statistics(measured: Preprocess, data: DataConfig) -> Preprocess:
    """Mean and deviation as they were asked for, one number serving all channels, else as they were measured."""
    asked = [values * measured.channels if values and len(values) == 1 else values for values in (data.mean, data.std)]
    return measured.with_statistics(asked[0] or measured.mean, asked[1] or measured.std)


def _asked_weights(asked: Config, progress: Progress) -> WeightFile | None:
    if asked.model.weights is None:
        return None
    file = with_asked_statistics(open_weights(asked.model.weights), asked.data)
    progress.say(f"preprocessing of the weights: {file.origin}")
    return file


def _with_what_weights_need(asked: Config, file: WeightFile) -> Config:
    """The contract, and the network where none is named, that belong to a weight file."""
    data = with_contract_of(settled(file.preprocessing), asked.data, sees_colours=sees_colours(file))
    name = asked.model.name or architecture_of(file)
    model = dataclasses.replace(asked.model, name=name, weights=str(file.path.resolve()))
    return dataclasses.replace(asked, data=data, model=model)


def _with_contract_and_model(config: Config, images: ImageSet) -> Config:
    contract = images.preprocess
    size = (contract.height, contract.width)
    data = dataclasses.replace(
        config.data,
        image_size=size,
        channels=contract.channels,
        fit=contract.fit,
        crop_fraction=contract.crop_fraction,
        interpolation=contract.interpolation,
    )
    model = dataclasses.replace(config.model, name=config.model.name or default_pattern(size))
    return dataclasses.replace(config, data=data, model=model)


def _with_engine(config: Config, network: nn.Module, images: ImageSet, progress: Progress) -> Config:
    """Measure what was not asked of the engine, on the network itself; not where no step will follow."""
    if is_head_only(config.training) and config.engine.precision is None:
        config = dataclasses.replace(config, engine=dataclasses.replace(config.engine, precision="fp32"))
    sample = torch.from_numpy(images.indices("train")[:128])
    pixels = Augmentation(flip=False, shift_px=0)(torch.from_numpy(images.pixels), sample, seed=0, epoch=0)
    labels = torch.from_numpy(images.labels)[sample]
    engine, reason = choose_engine(config.engine, network.train(), network_input(pixels, images.preprocess), labels)
    progress.say(f"engine: {reason}")
    return dataclasses.replace(config, engine=engine)


def _network_arguments(config: Config, images: ImageSet) -> dict[str, Any]:
    return {
        "model": settled(config.model.name),
        "num_classes": len(images.classes),
        "in_channels": images.preprocess.channels,
        "image_size": (images.preprocess.height, images.preprocess.width),
        "classes": images.classes,
        "seed": config.seed,
    }


def _manifest(config: Config, images: ImageSet, num_parameters: int, head: str | None) -> dict[str, Any]:
    arguments = _network_arguments(config, images)
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": _versions(arguments["model"]),
        "device": config.engine.device,
        "seed": config.seed,
        "data": {
            "origin": images.origin,
            "kind": images.kind,
            "fingerprint": images.fingerprint,
            "counts": images.counts(),
            "skipped": [dataclasses.asdict(each) for each in images.broken],
            "remarks": list(images.remarks),
        },
        "classes": list(images.classes),
        "preprocessing": images.preprocess.to_dict(),
        "model": {
            **describe(arguments["model"]),
            "head": head,
            "arguments": {
                "num_classes": arguments["num_classes"],
                "in_channels": arguments["in_channels"],
                "image_size": list(arguments["image_size"]),
                "seed": arguments["seed"],
            },
            "parameters": num_parameters,
        },
        "weights": None,
    }


def _run_bytes(num_parameters: int, num_images: int) -> int:
    """About what a run folder takes: checkpoints of four copies of the parameters, tables, a page."""
    copies = 4 * (KEPT + 1) + 1
    return 4 * num_parameters * copies + 300 * num_images + 2 * 2**20


def _versions(model: str) -> dict[str, str]:
    packages = ["vitreous", "torch", "numpy", "pillow", "safetensors", "scikit-learn", *["timm"] * is_timm(model)]
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def _split_rows(images: ImageSet) -> Iterator[SplitRow]:
    for number, content_hash in enumerate(images.hashes):
        label = images.classes[int(images.labels[number])]
        yield SplitRow(content_hash, images.names[number], label, str(images.splits[number]))


def _headline(part: ScoredSplit) -> dict[str, Any]:
    scores = part.scores
    return {
        "num_images": scores.num_images,
        "accuracy": dataclasses.asdict(scores.accuracy),
        "balanced_accuracy": scores.balanced_accuracy,
        "macro_f1": scores.macro_f1,
        "log_loss": scores.log_loss,
    }


def _write_predictions(run: Run, predictor: Predictor, part: ScoredSplit) -> None:
    folder = run.path / "predictions"
    folder.mkdir(exist_ok=True)
    probabilities = predictor.probabilities(part.logits_NK)
    rows = (
        (part.hashes[number], predictor.classes[int(part.labels_N[number])], *map(repr, probabilities[number].tolist()))
        for number in range(len(part.hashes))
    )
    storage.write_csv(folder / f"{part.split}.csv", ("content_hash", "class", *predictor.classes), rows)


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


def _adopt_again(run: Run, network: nn.Module) -> None:
    """The foreign weights that the run began with, where it was stopped before the first checkpoint.

    Raises:
        RunError: the file is not what it was.
    """
    begun = run.manifest.get("initial_weights")
    if not begun or load_newest_checkpoint(run.checkpoints_path)[0] is not None:
        return
    file = open_weights(settled(run.config.model.weights))
    if file.sha256 != begun["sha256"]:
        raise RunError(
            f"{file.path} is not what {run.path} began with: SHA-256 {file.sha256[:12]}…, not {begun['sha256'][:12]}…."
        )
    file = dataclasses.replace(file, preprocessing=WeightPreprocessing(**begun["preprocessing"]))
    adopt(network, file, head=run.manifest["model"]["head"], classes=run.classes)


def _mend_weights(run: Run, progress: Progress) -> None:
    try:
        run.verified_weights()
    except RunError as error:
        if not restore_weights(run):
            raise
        progress.say(f"{error} Restored.")


def _stem(source: str) -> str:
    """A name for a run, after its data."""
    name = Path(source).stem
    return "".join(character if character.isalnum() or character in "-_." else "-" for character in name) or "run"


def _describe(images: ImageSet) -> str:
    total = len(images.hashes)
    sums = {split: sum(per_class.values()) for split, per_class in images.counts().items()}
    parts = ", ".join(f"{count:,} {split} ({count / total:.1%})" for split, count in sums.items())
    preprocess = images.preprocess
    return (
        f"{images.origin} ({images.kind}): {total:,} images of {len(images.classes)} classes, {parts}; "
        f"{preprocess.height} x {preprocess.width} x {preprocess.channels}, {preprocess.fit}"
    )

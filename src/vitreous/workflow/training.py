"""The walk of a training run, top to bottom: source -> data -> recipe -> network -> engine -> run folder -> loop,
scores, predictions, golden inputs -> folds, if any -> report.
"""

import dataclasses
import platform
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vitreous import storage
from vitreous.allocator import kept_blocks
from vitreous.augmentation import Augmentation
from vitreous.checkpoint import KEPT, load_newest_checkpoint
from vitreous.checks.data import data_findings
from vitreous.checks.examined import examine
from vitreous.config import Config, DataConfig, settled
from vitreous.data.decode import ImageFacts
from vitreous.data.exclusion import leave_out, read_exclusions, refuse_unknown
from vitreous.data.grouping import group_images
from vitreous.data.images import BrokenImage
from vitreous.data.prepared import ImageSet, number_folds, prepare, refuse_broken, scan, with_given_statistics
from vitreous.data.preprocess import Preprocess, share_kept_by_crop, suggest_preprocess
from vitreous.data.source import Source, open_source
from vitreous.errors import ConfigError, DataError, Interrupted, MachineError, RunError, UserError
from vitreous.models import build_network, check_network, describe, is_timm
from vitreous.models.foreign import is_factory, refuse_factory
from vitreous.models.head import head_of
from vitreous.models.table import ARCHITECTURES
from vitreous.predictor.torch_backend import network_input
from vitreous.progress import SILENT, Progress
from vitreous.report import page
from vitreous.run import FollowedRun, Run, free_run_path, list_runs, require_free, require_space, run_path
from vitreous.trace import trace
from vitreous.training.distributed import (
    ALONE,
    World,
    is_restart,
    joined,
    launch_name,
    refuse_ranks,
    require_shares,
    with_processes,
)
from vitreous.training.engine import choose_engine, peak_macs_per_second, recorded_threads
from vitreous.training.finetune import freeze, is_head_only
from vitreous.training.head import can_fit
from vitreous.training.loop import StopRequest, restore_weights
from vitreous.training.mirroring import measure_handedness
from vitreous.training.range_test import NUM_STEPS, RangeTest, range_test
from vitreous.training.recipe import Facts, choose_recipe, default_pattern, refuse_without_weights
from vitreous.training.resizing import refuse_sizes
from vitreous.weights import network_from_manifest
from vitreous.weights.adoption import adopt
from vitreous.weights.contract import architecture_of, sees_colours, with_asked_statistics, with_contract_of
from vitreous.weights.foreign import WeightFile, open_weights
from vitreous.weights.preprocessing import WeightPreprocessing
from vitreous.wording import listed
from vitreous.workflow.calibrating import mend_calibration
from vitreous.workflow.cross_validation import (
    cross_validate,
    has_folds,
    held_with_folds,
    images_of_fold,
    require_folds,
)
from vitreous.workflow.planning import Budget, plan_epochs, plan_network, refuse_unplannable
from vitreous.workflow.run_images import data_facts, images_of, split_rows
from vitreous.workflow.run_training import train_run

_FILES_TOLD = 20  # of a finding, in the manifest
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
            ``group_by="patient"``, ``exclude="fixes.csv"``, ``folds=5``, or any by its full name,
            ``**{"training.batch_size": 64}``.

    Returns:
        The complete run.

    Raises:
        UserError: data, settings or the run's name are wrong; nothing is written.
        MachineError: training failed; what was saved stays.
        Interrupted: a signal came; the run can be resumed.
    """
    started = time.monotonic()
    with joined() as world, kept_blocks():
        progress = progress if world.is_first else SILENT
        asked = asked_settings(config, data, settings)
        if (begun := _begun_before_restart(run, asked, world)) is not None:
            progress.say(f"started again after a failure: going on with {begun}")
            factory = asked.model.name if is_factory(asked.model.name or "") else None
            return _resume(begun, world, model=factory, progress=progress, stop=stop)
        return _train(data, asked, world, started=started, run=run, progress=progress, stop=stop)


@kept_blocks()
def find_learning_rate(
    data: str | Path,
    *,
    config: Config | Path | str | None = None,
    progress: Progress = SILENT,
    stop: StopContext | None = None,
    **settings: Any,
) -> RangeTest:
    """Try rising learning rates on the network that ``train`` would train; nothing is kept.

    Args:
        data, config, settings: as of ``train``.
        progress: where messages and bars go.
        stop: tells whether a signal asked to stop.

    Raises:
        UserError: data or settings are wrong, or there is nothing to train but the head.
        Interrupted: a signal came.
    """
    refuse_ranks("a learning rate is looked for by one process")
    asked = asked_settings(config, data, settings)
    if asked.training.minutes is not None:
        raise ConfigError("a learning rate is looked for in a fixed number of steps; leave training.minutes out.")
    prepared = _prepare_run(data, asked, ALONE, started=time.monotonic(), progress=progress)
    if is_head_only(prepared.config.training):
        raise ConfigError("the head alone is fitted exactly and knows no learning rate; ask for epochs.")
    with stop or nullcontext(lambda: None) as stop_request, progress.task("trying rates", NUM_STEPS, "steps") as task:

        def before_step(number: int) -> None:
            if (signal_number := stop_request()) is not None:
                raise Interrupted("stopped; nothing was kept.", signal_number)
            task.advance(int(number > 0))

        return range_test(prepared.config, prepared.network, prepared.images, before_step)


@dataclass(frozen=True)
class _Prepared:
    """What a run begins with: all choices made, nothing written."""

    config: Config
    images: ImageSet
    network: nn.Module
    manifest: dict[str, Any]


def _train(
    data: str | Path,
    asked: Config,
    world: World,
    *,
    started: float,
    run: str | Path | None,
    progress: Progress,
    stop: StopContext | None,
) -> Run:
    path = run_path(str(run)) if run is not None else None
    if path is not None and world.is_first:
        require_free(path)
    prepared = _prepare_run(data, asked, world, started=started, progress=progress)
    config, images, network = prepared.config, prepared.images, prepared.network
    folder = path or free_run_path(_stem(config.data.source))
    num_runs = 1 + (config.data.folds if has_folds(config) else 0)

    def create() -> Run:
        require_space(folder, num_runs * _run_bytes(prepared.manifest["model"]["parameters"], len(images)))
        return Run.create(folder, config, prepared.manifest, split_rows(images))

    begun = world.shared_run(create)
    factory = config.model.name if is_factory(settled(config.model.name)) else None
    return _train_to_end(begun, network, images, partial(_fresh_network, model=factory), progress, stop, world)


def _prepare_run(data: str | Path, asked: Config, world: World, *, started: float, progress: Progress) -> _Prepared:
    names_asked = asked.asked()
    world.require_equal("the arguments", _arguments(asked))
    asked = with_processes(asked, world)
    refuse_without_weights(asked)
    refuse_unplannable(asked)
    budget = None if asked.training.minutes is None else Budget(asked.training.minutes, started)
    source = asked_source(data, asked)
    file = _asked_weights(asked, progress)
    may_pad = file is not None and asked.data.fit is None
    if file is not None:
        asked = _with_what_weights_need(asked, file)
    examined = world.by_turns(lambda: examine(source, progress))
    findings = data_findings(examined)
    if budget is not None and file is None:
        asked = _planned(asked, source, budget, world, progress)
    images = world.by_turns(lambda: _prepare(source, examined.hashes, asked, progress, may_pad=may_pad))
    told = [finding for finding in findings if finding.severity != "note"]
    for finding in told:
        progress.say(f"check: {finding.seen} ({finding.code})")
    if told:
        progress.say(f"`vitreous check {data}` names the files, and says what to do")
    images = dataclasses.replace(images, known=_known_to(file))
    if num_known := sum(images.hashes[i] in images.known for i in np.flatnonzero(images.leaked)):
        progress.say(
            f"{num_known:,} images of val and test trained the run whose weights these are; scores are given with "
            "and without them"
        )
    for remark in images.remarks:
        progress.say(remark)
    progress.say(_describe(images))
    if not len(images.indices("val")):
        raise DataError(
            f"{images.origin} leaves no image to choose the best epoch on; each class needs three or more pictures, or "
            "groups (near duplicates are one picture, unless --set data.near_duplicates=false)."
        )
    if has_folds(asked):
        require_folds(images, asked)
    world.require_equal("the images of DATA", _order_of(images))
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
        handedness=measure_handedness(images) if asked.augmentation.flip is None else None,
    )
    chosen, recipe = choose_recipe(asked, facts)
    fits_head = adoption is not None and can_fit(network, head)
    fits_head &= adoption is None or adoption.is_head_new or chosen.training.freeze == "backbone"
    freeze(network, settled(chosen.training.freeze), head)
    refuse_sizes(network, (arguments["in_channels"], *arguments["image_size"]), chosen.training)
    chosen = _with_engine(chosen, network, images, progress)
    speed = {"peak_macs_per_second": peak_macs_per_second(chosen.engine), "macs": _macs(network, images.preprocess)}
    if budget is not None:
        chosen = Config.from_toml(world.shared(chosen.to_toml))
        planned, line = plan_epochs(chosen, network, images, budget, fits_head=fits_head, world=world)
        progress.say(f"plan: {line}")
        length = {name: getattr(planned.training, name) for name in ("minutes", "epochs", "epoch_share")}
        asked = dataclasses.replace(asked, training=dataclasses.replace(asked.training, **length), engine=chosen.engine)
        chosen, recipe = choose_recipe(asked, facts)
    chosen = Config.from_toml(world.shared(chosen.to_toml))  # what was measured, as the first process measured it
    progress.say(f"recipe: {recipe}")
    require_shares(world, min(settled(chosen.training.batch_size), facts.num_train), chosen.training.accumulate)
    manifest = _manifest(chosen, images, num_parameters, head)
    manifest |= {"asked": names_asked, "speed": speed, "launch": launch_name()}
    manifest["findings"] = [{**each.to_json(), "files": each.files[:_FILES_TOLD], "exclude": []} for each in findings]
    if file is not None and adoption is not None:
        manifest["initial_weights"] = {
            "sha256": file.sha256,
            "preprocessing": dataclasses.asdict(settled(file.preprocessing)),
            "said": list(adoption.lines),
            "fits_head": fits_head,
        }
    return _Prepared(chosen, images, network, manifest)


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
    with joined() as world, kept_blocks():
        progress = progress if world.is_first else SILENT
        place = run_path(str(path))
        return _resume(place, world, model=model, accept_changed_code=accept_changed_code, progress=progress, stop=stop)


def _resume(
    path: Path,
    world: World,
    *,
    model: str | None,
    accept_changed_code: bool = False,
    progress: Progress,
    stop: StopContext | None,
) -> Run:
    run = world.shared_run(lambda: Run.open(path), with_splits=True)
    if run.status == "complete":
        if world.is_first:
            _mend_weights(run, progress)
            mend_calibration(run, progress, model=model, accept_changed_code=accept_changed_code)
        progress.say(f"{run.path} is complete; there is nothing to resume.")
        return run
    fresh = partial(_fresh_network, model=model, accept_changed_code=accept_changed_code)
    images = world.by_turns(lambda: images_of(run, progress))
    return _train_to_end(run, fresh(run), images, fresh, progress, stop, world)


def _planned(asked: Config, source: Source, budget: Budget, world: World, progress: Progress) -> Config:
    """With the network and the size that suit the time, as the first process measures it."""

    def plan() -> str:
        return plan_network(asked, source, asked_contract(source, asked, progress), budget).to_toml()

    return Config.from_toml(world.shared(plan))


def _begun_before_restart(run: str | Path | None, asked: Config, world: World) -> Path | None:
    """The run that these arguments began before torchrun started the processes again, if they came so far."""
    if not is_restart():
        return None

    def find() -> str | None:
        if run is not None:
            path = run_path(str(run))
            return str(path) if (path / "manifest.json").is_file() else None
        known, _ = list_runs()
        begun = [each for each in known if each.manifest.get("launch") == launch_name() and each.status != "complete"]
        return str(begun[-1].path) if begun else None

    found = world.shared(find)
    return None if found is None else Path(found)


def _arguments(asked: Config) -> dict[str, Any]:
    """What every process must be asked alike, and compute with; where files lie may differ from host to host."""
    settings = {
        f"{section}.{name}": value
        for section, values in tomllib.loads(asked.to_toml()).items()
        if isinstance(values, dict)
        for name, value in values.items()
        if f"{section}.{name}" not in ("data.source", "data.exclude", "model.weights")
    }
    return {"seed": asked.seed, **settings, **{name: version(name) for name in ("vitreous", "torch")}}


def _order_of(images: ImageSet) -> dict[str, Any]:
    """What tells whether another process has the same images in the same order."""
    lines = (f"{images.hashes[i]} {images.splits[i]} {images.labels[i]}" for i in range(len(images)))
    return {"count": len(images), "fingerprint": storage.sha256_bytes("\n".join(lines).encode())}


def _train_to_end(
    run: Run,
    network: nn.Module,
    images: ImageSet,
    fresh_network: Callable[[Run], nn.Module],
    progress: Progress,
    stop: StopContext | None,
    world: World,
) -> Run:
    _say_where_bits_may_differ(run, progress, world)
    try:
        with held_with_folds(run), stop or nullcontext(lambda: None) as stop_request:
            answers = train_run(run, network, images, progress, stop_request, world)
            if has_folds(run.config):
                cross_validate(run, images, fresh_network, progress, stop_request, world)
        if answers is not None:
            predictor, scored = answers
            with recorded_threads(run.config.engine):
                complete = Run(run.path, {**run.manifest, "status": "complete"})  # what the page says once it is there
                page.write_report(complete, network.cpu(), predictor.preprocess, scored)
    except BaseException as error:
        if not isinstance(error, Exception):  # a signal while the report is written, or a second one before
            run.update_manifest(status="interrupted")
        elif run.status == "running":  # it failed after the loop, which tells of its own failures
            with suppress(MachineError):  # the disk may be what failed
                run.update_manifest(status="failed")
        raise
    run.update_manifest(status="complete")
    world.shared(lambda: None)  # nobody leaves before the first process has written all
    return run


def _say_where_bits_may_differ(run: Run, progress: Progress, world: World) -> None:
    """Before the first step: why a run that is stopped would not go on to the same bits, if it would not."""
    processes = run.config.engine.processes or 1
    if processes != world.size:
        progress.say(
            f"this run was begun by {processes} processes, now {world.size}: it goes on, but not to the same bits"
        )
    device = settled(run.config.engine.device)
    if device != "cpu":
        progress.say(f"{device} adds in no fixed order: a run that is stopped goes on, but not to the same bits")
    begun, now = run.manifest["versions"], _versions(run.manifest["model"]["name"])
    if changed := [f"{name} {begun[name]}, now {now[name]}" for name in now if begun.get(name, now[name]) != now[name]]:
        progress.say(f"this run was begun with {listed(changed)}: it goes on, but perhaps not to the same bits")


def asked_settings(config: Config | Path | str | None, data: str | Path, settings: Mapping[str, Any]) -> Config:
    """Defaults, then the file, then single settings."""
    asked = config if isinstance(config, Config) else Config.from_file(Path(config)) if config is not None else Config()
    if not isinstance(config, Config) and settings.get("model") is None:
        refuse_factory(asked.model.name, config)
    short = {
        "model": "model.name",
        "epochs": "training.epochs",
        "minutes": "training.minutes",
        "weights": "model.weights",
        "freeze": "training.freeze",
        "device": "engine.device",
        "precision": "engine.precision",
    }
    short |= {name: f"data.{name}" for name in ("image_size", "skip_broken", "group_by", "exclude", "folds")}
    located = {"data.source": _located(data)}
    if (exclude := settings.get("exclude") or asked.data.exclude) is not None:
        located["exclude"] = _located(exclude)
    for name, value in {**settings, **located}.items():
        if value is not None:
            value = str(value) if isinstance(value, Path) else value
            section, dot, key = short.get(name, name).partition(".")
            asked = asked.updated({section: {key: value}} if dot else {section: value})
    return asked


def _located(path: str | Path) -> str:
    return str(Path(path).resolve()) if Path(path).exists() else str(path)


def asked_source(data: str | Path, asked: Config) -> Source:
    """DATA without what the settings leave out, and with the groups that they name; fit to be trained on.

    Raises:
        DataError: what is wrong with it, or with the settings for it.
    """
    source = open_source(data, for_training=False)
    if asked.data.exclude is not None:
        file = Path(asked.data.exclude)
        names = read_exclusions(file)
        refuse_unknown(source, names, file)
        source = leave_out(source, names)
    if asked.data.group_by is not None:
        source = group_images(source, asked.data.group_by)
    source.check_trainable()
    return source


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


def _prepare(source: Source, hashes: Sequence[str], asked: Config, progress: Progress, *, may_pad: bool) -> ImageSet:
    data = asked.data
    preprocess = asked_contract(source, asked, progress, may_pad=may_pad)
    images = prepare(
        source,
        preprocess=preprocess,
        val_fraction=data.val_fraction,
        test_fraction=data.test_fraction,
        seed=asked.seed,
        hashes=hashes,
        near_duplicates=data.near_duplicates,
        skip_broken=data.skip_broken,
        progress=progress,
    )
    if data.fold is not None:
        return images_of_fold(images, asked, number_folds(images, data.folds, asked.seed))
    return with_given_statistics(images, data.mean, data.std)


def _without_harmful_crop(data: DataConfig, facts: Sequence[ImageFacts], progress: Progress) -> DataConfig:
    kept = share_kept_by_crop(facts, data.image_size or (1, 1))
    if kept >= _LEAST_KEPT:
        return data
    progress.say(
        f"the weights are used to the middle of a picture, which is {kept:.0%} of these: they are shown whole instead, "
        "padded (--set data.fit=crop cuts them)"
    )
    return dataclasses.replace(data, fit="pad", crop_fraction=None)


def _asked_weights(asked: Config, progress: Progress) -> WeightFile | None:
    if asked.model.weights is None:
        return None
    file = with_asked_statistics(open_weights(asked.model.weights), asked.data)
    progress.say(f"preprocessing of the weights: {file.origin}")
    return file


def _known_to(file: WeightFile | None) -> frozenset[str]:
    """The content hashes that weights were trained on, where they are those of a run, or of one that began with it."""
    folder = file.path.parent if file is not None else None
    if folder is None or not (folder / "manifest.json").is_file():
        return frozenset()
    return frozenset(row.content_hash for row in Run.open(folder).splits() if row.split == "train" or row.is_known)


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


def _macs(network: nn.Module, preprocess: Preprocess) -> int | None:
    """Of one image's way through the network; None where it takes a way that a trace cannot follow."""
    try:
        return trace(network, (preprocess.channels, preprocess.height, preprocess.width)).macs
    except UserError:
        return None


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
        "data": data_facts(images),
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


def _fresh_network(run: Run, *, model: str | None, accept_changed_code: bool = False) -> nn.Module:
    """The run's network as it was before its first step."""
    network = network_from_manifest(run.manifest, model=model, accept_changed_code=accept_changed_code)
    _adopt_again(run, network)
    return network


def _adopt_again(run: Run, network: nn.Module) -> None:
    """The foreign weights that the run began with, where it was stopped before the first checkpoint.

    Raises:
        RunError: the file is not what it was.
    """
    begun = run.manifest.get("initial_weights")
    if isinstance(run, FollowedRun):
        return  # the first process sends its weights
    if not begun or load_newest_checkpoint(run.checkpoints_path, run.identity)[0] is not None:
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
    num_groups = len(set(images.groups) - {""})
    groups = f" in {num_groups:,} groups" if num_groups else ""
    return (
        f"{images.origin} ({images.kind}): {total:,} images of {len(images.classes)} classes{groups}, {parts}; "
        f"{preprocess.height} x {preprocess.width} x {preprocess.channels}, {preprocess.fit}"
    )

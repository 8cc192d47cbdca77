"""All that a run begins with: images, network, weights, recipe, engine and plan; nothing is written yet."""

import dataclasses
import platform
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import nn

from vitreous import storage
from vitreous.augmentation import Augmentation
from vitreous.checks.data import data_findings
from vitreous.checks.examined import examine
from vitreous.checks.finding import Finding
from vitreous.config import Config, TrainingConfig, settled
from vitreous.data.prepared import ImageSet, number_folds, prepare, with_given_statistics
from vitreous.data.preprocess import Preprocess
from vitreous.data.source import Source
from vitreous.errors import DataError, UserError
from vitreous.models import build_network, describe, is_timm
from vitreous.models.head import head_of
from vitreous.predictor.torch_backend import network_input
from vitreous.progress import Progress
from vitreous.run import Run
from vitreous.trace import trace
from vitreous.training.distributed.torchrun import launch_name
from vitreous.training.distributed.world import World, require_shares, with_processes
from vitreous.training.engine import choose_engine, peak_macs_per_second
from vitreous.training.finetune import freeze, is_head_only
from vitreous.training.head import can_fit
from vitreous.training.mirroring import measure_handedness
from vitreous.training.recipe import Facts, choose_recipe, default_pattern, refuse_without_weights
from vitreous.training.resizing import refuse_sizes
from vitreous.weights.adoption import Adoption, adopt
from vitreous.weights.contract import architecture_of, sees_colours, with_asked_statistics, with_contract_of
from vitreous.weights.foreign import WeightFile, open_weights
from vitreous.workflow.asked import asked_contract, asked_source
from vitreous.workflow.cross_validation import has_folds, images_of_fold, require_folds
from vitreous.workflow.planning import Budget, plan_epochs, plan_network, refuse_unplannable
from vitreous.workflow.run_images import data_facts

_FILES_TOLD = 20  # of a finding, in the manifest


@dataclass(frozen=True)
class Prepared:
    """What a run begins with: all choices made."""

    config: Config
    images: ImageSet
    network: nn.Module
    manifest: dict[str, Any]


def prepare_run(data: str, asked: Config, world: World, *, started: float, progress: Progress) -> Prepared:
    """Look at the data, build the network, and choose whatever was not asked for.

    Args:
        data: as the user wrote it.
        asked: the settings; ``data.source`` among them.
        world: the processes that share the run; each prepares the same, the first one measures and chooses.
        started: when the command was given, a reading of ``time.monotonic``.
        progress: where messages and bars go.

    Raises:
        UserError: data, weights or settings are wrong, or do not fit each other.
    """
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
    images = world.by_turns(lambda: _prepare_images(source, examined.hashes, asked, progress, may_pad=may_pad))
    images = dataclasses.replace(images, known=_known_to(file))
    _say_what_was_seen(data, images, findings, progress)
    _require_parts(images, asked)
    world.require_equal("the images of DATA", _order_of(images))
    asked = _with_contract_and_model(asked, images)
    start = _build(asked, images, file, progress)
    chosen, speed = _choose(asked, images, start, budget, world, progress)
    manifest = _manifest(chosen, images, start)
    manifest |= {"asked": names_asked, "speed": speed, "launch": launch_name()}
    manifest["findings"] = [{**each.to_json(), "files": each.files[:_FILES_TOLD], "exclude": []} for each in findings]
    return Prepared(chosen, images, start.network, manifest)


def versions_of(model: str) -> dict[str, str]:
    """What decides a run's bits: of Python and the packages that compute."""
    packages = ["vitreous", "torch", "numpy", "pillow", "safetensors", "scikit-learn", *["timm"] * is_timm(model)]
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


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


def _planned(asked: Config, source: Source, budget: Budget, world: World, progress: Progress) -> Config:
    """With the network and the size that suit the time, as the first process measures it."""

    def plan() -> str:
        return plan_network(asked, source, asked_contract(source, asked, progress), budget).to_toml()

    return Config.from_toml(world.shared(plan))


def _prepare_images(
    source: Source, hashes: Sequence[str], asked: Config, progress: Progress, *, may_pad: bool
) -> ImageSet:
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


def _known_to(file: WeightFile | None) -> frozenset[str]:
    """The content hashes that weights were trained on, where they are those of a run, or of one that began with it."""
    folder = file.path.parent if file is not None else None
    if folder is None or not (folder / "manifest.json").is_file():
        return frozenset()
    return frozenset(row.content_hash for row in Run.open(folder).splits() if row.split == "train" or row.is_known)


def _say_what_was_seen(data: str, images: ImageSet, findings: Sequence[Finding], progress: Progress) -> None:
    told = [finding for finding in findings if finding.severity != "note"]
    for finding in told:
        progress.say(f"check: {finding.seen} ({finding.code})")
    if told:
        progress.say(f"`vitreous check {data}` names the files, and says what to do")
    if num_known := sum(images.hashes[i] in images.known for i in np.flatnonzero(images.leaked)):
        progress.say(
            f"{num_known:,} images of val and test trained the run whose weights these are; scores are given with "
            "and without them"
        )
    for remark in images.remarks:
        progress.say(remark)
    progress.say(_describe(images))


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


def _require_parts(images: ImageSet, asked: Config) -> None:
    if not len(images.indices("val")):
        raise DataError(
            f"{images.origin} leaves no image to choose the best epoch on; each class needs three or more pictures, or "
            "groups (near duplicates are one picture, unless --set data.near_duplicates=false)."
        )
    if has_folds(asked):
        require_folds(images, asked)


def _order_of(images: ImageSet) -> dict[str, Any]:
    """What tells whether another process has the same images in the same order."""
    lines = (f"{images.hashes[i]} {images.splits[i]} {images.labels[i]}" for i in range(len(images)))
    return {"count": len(images), "fingerprint": storage.sha256_bytes("\n".join(lines).encode())}


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


@dataclass(frozen=True)
class _Start:
    """A network before its first step, and where its weights came from."""

    network: nn.Module
    num_parameters: int
    head: str | None  # the name of the layer that tells the classes apart
    file: WeightFile | None = None
    adoption: Adoption | None = None

    def fits_head(self, training: TrainingConfig) -> bool:
        """Whether the head is fitted on features before the first step: where it is new, or all that will learn."""
        if self.adoption is None or not can_fit(self.network, self.head):
            return False
        return self.adoption.is_head_new or training.freeze == "backbone"


def _build(config: Config, images: ImageSet, file: WeightFile | None, progress: Progress) -> _Start:
    arguments = _network_arguments(config, images)
    network = build_network(**arguments)
    num_parameters = sum(parameter.numel() for parameter in network.parameters())
    progress.say(f"network: {config.model.name} ({num_parameters:,} parameters)")
    head = head_of(network, arguments["in_channels"], arguments["image_size"])
    if file is None:
        return _Start(network, num_parameters, head)
    adoption = adopt(network, file, head=head, classes=images.classes)
    for line in adoption.lines:
        progress.say(f"weights: {line}")
    return _Start(network, num_parameters, head, file, adoption)


def _choose(
    asked: Config, images: ImageSet, start: _Start, budget: Budget | None, world: World, progress: Progress
) -> tuple[Config, dict[str, Any]]:
    """Recipe, engine and length, all settled, as the first process measured them; and how fast the machine is."""
    network = start.network
    facts = Facts(
        class_counts=tuple(images.counts()["train"].values()),
        image_size=images.pixels.shape[1:3],
        num_parameters=start.num_parameters,
        has_norm=any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in network.modules()),
        handedness=measure_handedness(images) if asked.augmentation.flip is None else None,
    )
    chosen, recipe = choose_recipe(asked, facts)
    freeze(network, settled(chosen.training.freeze), start.head)
    refuse_sizes(network, (images.preprocess.channels, *images.pixels.shape[1:3]), chosen.training)
    chosen = _with_engine(chosen, network, images, progress)
    speed = {"peak_macs_per_second": peak_macs_per_second(chosen.engine), "macs": _macs(network, images.preprocess)}
    if budget is not None:
        chosen = Config.from_toml(world.shared(chosen.to_toml))
        fits_head = start.fits_head(chosen.training)
        planned, line = plan_epochs(chosen, network, images, budget, fits_head=fits_head, world=world)
        progress.say(f"plan: {line}")
        length = {name: getattr(planned.training, name) for name in ("minutes", "epochs", "epoch_share")}
        asked = dataclasses.replace(asked, training=dataclasses.replace(asked.training, **length), engine=chosen.engine)
        chosen, recipe = choose_recipe(asked, facts)
    chosen = Config.from_toml(world.shared(chosen.to_toml))
    progress.say(f"recipe: {recipe}")
    require_shares(world, min(settled(chosen.training.batch_size), facts.num_train), chosen.training.accumulate)
    return chosen, speed


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


def _manifest(config: Config, images: ImageSet, start: _Start) -> dict[str, Any]:
    arguments = _network_arguments(config, images)
    manifest = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions_of(arguments["model"]),
        "device": config.engine.device,
        "seed": config.seed,
        "data": data_facts(images),
        "classes": list(images.classes),
        "preprocessing": images.preprocess.to_dict(),
        "model": {
            **describe(arguments["model"]),
            "head": start.head,
            "arguments": {
                "num_classes": arguments["num_classes"],
                "in_channels": arguments["in_channels"],
                "image_size": list(arguments["image_size"]),
                "seed": arguments["seed"],
            },
            "parameters": start.num_parameters,
        },
        "weights": None,
    }
    if start.file is not None and start.adoption is not None:
        manifest["initial_weights"] = {
            "sha256": start.file.sha256,
            "preprocessing": dataclasses.asdict(settled(start.file.preprocessing)),
            "said": list(start.adoption.lines),
            "fits_head": start.fits_head(config.training),
        }
    return manifest

"""What a user asked for: settings of a file and of arguments, the data they name, and how its images are shown."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vitreous.config import Config, DataConfig
from vitreous.data.decode import ImageFacts
from vitreous.data.exclusion import leave_out, read_exclusions, refuse_unknown
from vitreous.data.grouping import group_images
from vitreous.data.images import BrokenImage
from vitreous.data.prepared import refuse_broken, scan
from vitreous.data.preprocess import Preprocess, share_kept_by_crop, suggest_preprocess
from vitreous.data.source import Source, open_source
from vitreous.models import check_network
from vitreous.models.foreign import refuse_factory
from vitreous.models.table import ARCHITECTURES
from vitreous.progress import Progress

_LEAST_KEPT = 2 / 3  # of a picture's area, by a crop that nobody asked for


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


def _without_harmful_crop(data: DataConfig, facts: Sequence[ImageFacts], progress: Progress) -> DataConfig:
    kept = share_kept_by_crop(facts, data.image_size or (1, 1))
    if kept >= _LEAST_KEPT:
        return data
    progress.say(
        f"the weights are used to the middle of a picture, which is {kept:.0%} of these: they are shown whole instead, "
        "padded (--set data.fit=crop cuts them)"
    )
    return dataclasses.replace(data, fit="pad", crop_fraction=None)


def _located(path: str | Path) -> str:
    return str(Path(path).resolve()) if Path(path).exists() else str(path)

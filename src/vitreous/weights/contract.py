"""What a weight file asks of the run that starts from it: its network, and images as it is used to them."""

import dataclasses
import json
from typing import Any

from vitreous.config import DataConfig
from vitreous.errors import ConfigError
from vitreous.models import ARCHITECTURES
from vitreous.run import Run
from vitreous.weights.foreign import WeightFile
from vitreous.weights.likeness import looks_like
from vitreous.weights.preprocessing import PRESETS, WeightPreprocessing, ask_for_preprocessing, torchvision_name


def architecture_of(file: WeightFile) -> str:
    """The network that the weights belong to, where none was named.

    Raises:
        ConfigError: it does not follow from the file.
    """
    folder = file.path.parent
    if (folder / "manifest.json").is_file():
        return str(Run.open(folder).manifest["model"]["name"])
    if (named := _named_beside(file)) in ARCHITECTURES:
        return named
    if name := torchvision_name(file.path.stem):
        return name.partition("-")[0]
    alike = looks_like({name: tuple(tensor.shape) for name, tensor in file.tensors.items()})
    if alike is None:
        raise ConfigError(f"{file.path} is of no network that `vitreous models` lists; say which with --model.")
    if len(alike.names) > 1 or alike.share < 1:
        raise ConfigError(f"{file.path} looks like the weights of {alike}; say which with --model {alike.names[0]}.")
    return alike.names[0]


def with_asked_statistics(file: WeightFile, asked: DataConfig) -> WeightFile:
    """The file with the mean and standard deviation that the user says, where they say them.

    Raises:
        ConfigError: neither the file nor the user says how images were normalized.
    """
    known = file.preprocessing
    if known is None and not asked.preset and not (asked.mean and asked.std):
        raise ConfigError(ask_for_preprocessing(file.path))
    known = known or WeightPreprocessing(mean=(0.0,), std=(1.0,))
    mean, std = PRESETS[asked.preset] if asked.preset else (known.mean, known.std)
    mean, std = asked.mean or mean, asked.std or std
    most = max(len(mean), len(std))  # one number serves all channels
    mean, std = (numbers * most if len(numbers) == 1 else numbers for numbers in (mean, std))
    return dataclasses.replace(file, preprocessing=dataclasses.replace(known, mean=mean, std=std))


def with_contract_of(known: WeightPreprocessing, asked: DataConfig, *, sees_colours: bool) -> DataConfig:
    """The settings of the data, with what the weights are used to wherever nothing was asked.

    Grey images are shown to a network of colours as colours, which leaves its weights as they are.
    """
    channels = asked.channels or (3 if sees_colours else None)
    known = known.for_channels(channels) if channels else known
    fit = asked.fit or known.fit
    choices = {
        "image_size": known.size,
        "channels": channels,
        "fit": fit,
        "crop_fraction": known.crop_fraction if fit == "crop" else None,
        "interpolation": known.interpolation,
    }
    unasked: dict[str, Any] = {key: value for key, value in choices.items() if getattr(asked, key) is None}
    return dataclasses.replace(asked, **unasked | {"mean": known.mean, "std": known.std})


def sees_colours(file: WeightFile) -> bool:
    """Whether the first convolution has three input channels: no other layer ever has so few, or has one."""
    return any(tensor.ndim == 4 and tensor.shape[1] == 3 for tensor in file.tensors.values())


def _named_beside(file: WeightFile) -> str:
    """The name that a config.json of timm's gives its network; "" where there is none."""
    try:
        return str(json.loads((file.path.parent / "config.json").read_text(encoding="utf-8"))["architecture"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""

"""What may be asked of a run: frozen settings, read from TOML, overridden by flags, written back resolved.

A setting that is ``None`` (absent in TOML) is chosen from the data; the run folder's ``config.toml`` holds every
choice, so that the same file repeats the run.
"""

import dataclasses
import difflib
import json
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import tomli_w

from vitreous.errors import ConfigError

_T = TypeVar("_T")


def setting(
    default: Any,
    text: str,
    *,
    choices: tuple[str, ...] | None = None,
    least: float | None = None,
    most: float | None = None,
) -> Any:
    """One field of a section, with its bounds (both included) and the sentence that documents it."""
    return field(default=default, metadata={"text": text, "choices": choices, "least": least, "most": most})


@dataclass(frozen=True, kw_only=True, slots=True)
class _Section:
    """Settings that check themselves when made."""

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            _check_bounds(spec.name, getattr(self, spec.name), spec.metadata)


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig(_Section):
    """Which images, and how they become pixels."""

    source: str = setting("", "DATA as it was named")
    image_size: tuple[int, int] | None = setting(None, "height and width of the network's input, in pixels", least=1)
    channels: int | None = setting(None, "1 (grey) or 3 (colour)", least=1, most=3)
    fit: str | None = setting(
        None, "how an image of another shape meets the field", choices=("pad", "crop", "squash", "centre")
    )
    crop_fraction: float | None = setting(
        None, "with fit = crop: share of the sides of the largest centred part that is kept", least=0.1, most=1.0
    )
    interpolation: str | None = setting(
        None, "how pixels are resampled", choices=("nearest", "box", "bilinear", "bicubic", "lanczos")
    )
    preset: str | None = setting(
        None,
        "mean and std of the pictures that the weights were trained on; wanted only where the weight file does not say",
        choices=("imagenet", "inception", "none"),
    )
    mean: tuple[float, ...] | None = setting(
        None, "taken from the pixels, on the 0..1 scale: one number, or one a channel", least=0, most=1
    )
    std: tuple[float, ...] | None = setting(
        None, "what pixels are then divided by, on the 0..1 scale: one number, or one a channel", least=1e-4, most=10
    )
    val_fraction: float = setting(
        0.1, "share held back to choose settings, where DATA has no val part", least=0.01, most=0.5
    )
    test_fraction: float = setting(
        0.1, "share held back for the final score, where DATA has no test part", least=0, most=0.5
    )
    near_duplicates: bool = setting(
        True, "images that look the same stay on one side; false: only those whose content is equal do"
    )
    group_by: str | None = setting(
        None, "what stays on one side: a column of the CSV file, or a pattern with one (group) in the images' names"
    )
    exclude: str | None = setting(
        None, "a CSV file of images to leave out: its column path, where there is a column action those with exclude"
    )
    folds: int = setting(0, "cross-validation in so many parts, beside the run; 0 is off", least=0, most=100)
    fold: int | None = setting(None, "the part of a cross-validation that this run is tested on", least=1, most=100)
    skip_broken: bool = setting(False, "leave unreadable images out instead of refusing")

    def __post_init__(self) -> None:
        _Section.__post_init__(self)
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            if numbers is not None and len(numbers) not in (1, 3):
                raise ConfigError(f"{name} = {list(numbers)} has {len(numbers)} numbers; give 1, or 3 for colour.")
        if self.folds == 1:
            raise ConfigError("folds = 1 leaves nothing to train on; give 2 or more, or 0 for none.")
        if self.fold is not None and self.fold > self.folds:
            raise ConfigError(f"fold = {self.fold} must be in 1 .. folds = {self.folds}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig(_Section):
    """Which network."""

    name: str | None = setting(
        None, "a name from `vitreous models`, a line of the pattern language, timm:NAME or file.py:factory"
    )
    weights: str | None = setting(None, "the file, folder or run whose weights training starts from")


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentationConfig(_Section):
    """How training images are varied; always drawn from (seed, epoch, image)."""

    flip: bool | str | None = setting(
        None, "mirror left-right: true with probability 1/2, alternating in every second epoch"
    )
    shift_px: int | None = setting(None, "move by up to this many pixels each way, edges reflected", least=0, most=64)
    zoom: float | None = setting(
        None, "enlarge a part with a share of 1 - zoom .. 1 of the sides, lying anywhere", least=0.0, most=0.9
    )
    light: float | None = setting(
        None, "multiply brightness and contrast by 1 - light .. 1 + light each", least=0.0, most=0.9
    )
    rotate: float | None = setting(None, "turn by up to this many degrees either way", least=0.0, most=180.0)
    shear: float | None = setting(
        None, "slant along each axis by up to this share of the distance along the other", least=0.0, most=0.5
    )
    scale: float | None = setting(None, "enlarge or shrink about the centre by up to 1 + scale", least=0.0, most=1.0)
    saturation: float | None = setting(
        None, "multiply the colours' strength by 1 - saturation .. 1 + saturation", least=0.0, most=1.0
    )
    hue: float | None = setting(
        None, "turn the colours by up to this share of the circle either way", least=0.0, most=0.5
    )
    randaugment: int | None = setting(None, "number of RandAugment's operations an image; 0 is off", least=0, most=8)
    randaugment_magnitude: float = setting(9.0, "strength of RandAugment's operations", least=0.0, most=30.0)
    cutout: float | None = setting(
        None, "hide a square with this share of the shorter side; 0 is off", least=0.0, most=0.9
    )
    mixup: float | None = setting(
        None, "average two images; alpha of their shares' Beta distribution; 0 is off", least=0.0, most=100.0
    )
    cutmix: float | None = setting(
        None, "fill a box from another image; alpha of the areas' Beta distribution; 0 is off", least=0.0, most=100.0
    )

    def __post_init__(self) -> None:
        _Section.__post_init__(self)
        if isinstance(self.flip, str) and self.flip != "alternating":
            raise ConfigError(f"flip = {self.flip!r} is not true, false or alternating.")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig(_Section):
    """The loop."""

    epochs: int | None = setting(
        None, "passes over the training images; 0 fits the head of given weights alone", least=0, most=100_000
    )
    minutes: float | None = setting(
        None,
        "plan network, size and epochs so that the whole run takes so long; what is set stays",
        least=1e-3,
        most=1e5,
    )
    epoch_share: float = setting(
        1.0, "share of the training images that an epoch shows, others in each", least=1e-6, most=1.0
    )
    first_side: float = setting(
        1.0,
        "progressive resizing: share of the sides at which the first epoch shows images; grows to 1 in 3/4 of all",
        least=0.25,
        most=1.0,
    )
    batch_size: int | None = setting(
        None, "images in one optimizer step, of all processes together", least=2, most=65_536
    )
    accumulate: int = setting(
        1, "add a step's gradient up over so many parts of its batch, to save memory", least=1, most=1024
    )
    optimizer: str | None = setting(
        None, "sgd is Nesterov's; muon is for filters, beside sgd for the rest", choices=("sgd", "adamw", "muon")
    )
    learning_rate: float | None = setting(None, "the highest rate of the schedule", least=1e-9, most=100.0)
    momentum: float = setting(0.9, "of sgd, also beside muon; beta1 of adamw", least=0.0, most=0.999)
    weight_decay: float | None = setting(None, "on filters and matrices, not on biases or norms", least=0.0, most=10.0)
    schedule: str = setting("linear", "shape of the fall after the warm-up", choices=("linear", "cosine", "constant"))
    warmup_fraction: float = setting(0.15, "share of all steps in which the rate rises", least=0.0, most=0.9)
    label_smoothing: float | None = setting(None, "share of the target spread over all classes", least=0.0, most=0.9)
    clip_norm: float = setting(0.0, "largest norm of the whole gradient; 0 leaves it alone", least=0.0)
    ema_decay: float | None = setting(
        None, "per step, of the averaged weights that are scored and kept; 0 is off", least=0.0, most=0.99999
    )
    patience: int | None = setting(
        None, "stop after this many epochs without a better validation score; 0 is off", least=0
    )
    class_weights: str | None = setting(
        None, "of the loss: balanced gives every class the same total", choices=("none", "balanced")
    )
    freeze: str | None = setting(
        None, "what stays as given weights have it: none, backbone (all but the head), or all up to the layer named"
    )
    layer_decay: float | None = setting(
        None,
        "share of the learning rate that the first layer gets; falls geometrically from 1 at the last",
        least=1e-6,
        most=1.0,
    )
    batch_norm: str | None = setting(
        None,
        "while training: update its statistics from the batches, or keep those of given weights",
        choices=("update", "keep"),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineConfig(_Section):
    """How this machine computes; measured once, before step 1."""

    device: str | None = setting(None, "cpu, cuda or cuda:N")
    precision: str | None = setting(None, "of the training step; scores are always fp32", choices=("fp32", "bf16"))
    fp32_layers: tuple[str, ...] | None = setting(None, "paths of layers that compute in fp32 even if the rest is bf16")
    channels_last: bool | None = setting(None, "keep the channels of a pixel side by side in memory")
    threads: int | None = setting(None, "processor threads of each process", least=1, most=1024)
    processes: int | None = setting(None, "that share each batch, as torchrun started them", least=1, most=65_536)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    r"""All that is asked of a run.

    >>> Config.from_toml('seed = 3\n[training]\nepochs = 2').override(["training.batch_size=64"]).training.batch_size
    64
    """

    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**31:
            raise ConfigError(f"seed = {self.seed} must be in 0 .. {2**31 - 1}.")

    @classmethod
    def from_toml(cls, text: str) -> Self:
        """Read settings.

        Raises:
            ConfigError: not TOML, or a setting that is unknown, of the wrong kind or out of range.
        """
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"the configuration is not TOML: {error}.") from None
        return cls().updated(document)

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read settings from a TOML file.

        Raises:
            ConfigError: no such file, or as ``from_toml``, with the file's name.
        """
        try:
            return cls.from_toml(path.read_text(encoding="utf-8", errors="surrogateescape"))
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error}.") from None
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None

    def to_toml(self) -> str:
        """The settings that are set, as TOML."""
        document: dict[str, Any] = {"seed": self.seed}
        for name in _SECTIONS:
            values = dataclasses.asdict(getattr(self, name))
            document[name] = {key: value for key, value in values.items() if value is not None}
        return tomli_w.dumps(document)

    def asked(self) -> list[str]:
        """The full names of the settings that are not at their defaults.

        >>> Config(seed=3).override(["training.epochs=2"]).asked()
        ['seed', 'training.epochs']
        """
        defaults = Config()
        names = ["seed"] if self.seed != defaults.seed else []
        for section in _SECTIONS:
            ours, theirs = getattr(self, section), getattr(defaults, section)
            fields = [spec.name for spec in dataclasses.fields(ours)]
            names += [f"{section}.{name}" for name in fields if getattr(ours, name) != getattr(theirs, name)]
        return names

    def updated(self, document: Mapping[str, Any]) -> Self:
        """These settings with those of ``document`` (nested as in TOML) laid over them.

        Raises:
            ConfigError: a setting is unknown, of the wrong kind or out of range.
        """
        changes: dict[str, Any] = {}
        for key, value in document.items():
            if key == "seed":
                changes[key] = _coerce("seed", value, int)
            elif key not in _SECTIONS:
                raise ConfigError(_unknown(key, ["seed", *_SECTIONS]))
            elif not isinstance(value, Mapping):
                raise ConfigError(f"{key} is a section; write {key}.NAME = VALUE.")
            else:
                changes[key] = _update_section(key, getattr(self, key), value)
        return dataclasses.replace(self, **changes)

    def override(self, assignments: Iterable[str]) -> Self:
        """These settings with ``section.name=value`` texts laid over them, as ``--set`` gives them.

        Raises:
            ConfigError: as ``updated``, or an assignment without ``=``.
        """
        config = self
        for assignment in assignments:
            name, equals, text = assignment.partition("=")
            if not equals:
                raise ConfigError(f"--set wants NAME=VALUE, got {assignment!r}; e.g. --set training.epochs=5.")
            value = _parse_value(text.strip())
            section, dot, key = name.strip().partition(".")
            config = config.updated({section: {key: value}} if dot else {section: value})
        return config


_SECTIONS = tuple(spec.name for spec in dataclasses.fields(Config) if spec.name != "seed")


def settled(value: _T | None) -> _T:
    """A setting after the choices were made; that one is missing is our mistake, not the user's."""
    assert value is not None, "a setting was read before it was chosen"
    return value


def documented_settings() -> Iterable[tuple[str, str, str]]:
    """Every setting as (name, default, sentence), for the documentation and ``--help``."""
    yield "seed", "0", "of the split, the first weights, the order and the augmentation"
    for section in _SECTIONS:
        for spec in dataclasses.fields(getattr(Config(), section)):
            default = "chosen from the data" if spec.default is None else json.dumps(spec.default)
            yield f"{section}.{spec.name}", default, spec.metadata["text"]


def _update_section(section: str, settings: _Section, values: Mapping[str, Any]) -> _Section:
    hints = typing.get_type_hints(type(settings))
    changes = {}
    for key, value in values.items():
        if key not in hints:
            raise ConfigError(_unknown(f"{section}.{key}", [f"{section}.{name}" for name in hints]))
        changes[key] = _coerce(f"{section}.{key}", value, hints[key])
    try:
        return dataclasses.replace(settings, **changes)
    except ConfigError as error:
        raise ConfigError(f"{section}.{error}") from None


def _coerce(name: str, value: Any, hint: Any) -> Any:
    """``value`` as the annotated type; whole floats do not become integers, integers may become floats."""
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for kind in allowed:
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if kind == tuple[float, ...]:
            numbers = value if isinstance(value, list | tuple) else [value]
            if numbers and all(type(number) in (int, float) for number in numbers):
                return tuple(map(float, numbers))
        elif kind == tuple[str, ...]:
            texts = value if isinstance(value, list | tuple) else [value]
            if all(type(text) is str for text in texts):
                return tuple(texts)
        elif typing.get_origin(kind) is tuple:
            if isinstance(value, int) and not isinstance(value, bool):
                return (value, value)
            if isinstance(value, list | tuple) and len(value) == 2 and all(type(item) is int for item in value):
                return tuple(value)
        elif kind is not types.NoneType and type(value) is kind:
            return value
    wanted = " or ".join(_kind_name(kind) for kind in allowed if kind is not types.NoneType)
    raise ConfigError(f"{name} wants {wanted}, got {value!r}.")


def _kind_name(kind: Any) -> str:
    names = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "a text",
        tuple[float, ...]: "one number or a list of numbers",
        tuple[str, ...]: "one text or a list of texts",
    }
    return names.get(kind, "one size or [height, width]")


def _parse_value(text: str) -> Any:
    """A value as TOML writes it; anything else is a text, so that quotes are not needed in a shell."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _check_bounds(name: str, value: Any, bounds: Mapping[str, Any]) -> None:
    if value is None:
        return
    if bounds["choices"] and value not in bounds["choices"]:
        raise ConfigError(f"{name} = {value!r} is not one of {', '.join(bounds['choices'])}.")
    for number in value if isinstance(value, tuple) else (value,):
        if bounds["least"] is not None and not number >= bounds["least"]:
            raise ConfigError(f"{name} = {number} must be at least {bounds['least']}.")
        if bounds["most"] is not None and not number <= bounds["most"]:
            raise ConfigError(f"{name} = {number} must be at most {bounds['most']}.")


def _unknown(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known)}."
    return f"there is no setting {name!r}; {hint}"

"""What to train when little was asked: network, augmentation and schedule, chosen from the data and said in a line.

The figures were found on validation splits of Fashion-MNIST, CIFAR-10 and photographs of traffic lights, never on test
images.
"""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from vitreous.augmentation.description import describe
from vitreous.config import AugmentationConfig, Config, TrainingConfig, settled
from vitreous.errors import ConfigError
from vitreous.training.mirroring import Handedness
from vitreous.wording import counted

_Settings = TypeVar("_Settings", TrainingConfig, AugmentationConfig)

# The highest rate for batches of 256, by optimizer and by whether the network bears a high one.
_RATES = {
    ("muon", True): 0.28,
    ("muon", False): 0.02,
    ("sgd", True): 0.4,
    ("sgd", False): 0.02,
    ("adamw", True): 0.006,
    ("adamw", False): 0.001,
}
_DECAYS = {"muon": 0.1, "sgd": 5e-4, "adamw": 0.01}
_SMALL_IMAGES = 96  # pixels: up to this side, Muon was held against sgd
_FEW_STEPS = 2000  # up to so many Muon gained, and over 2,900 it lost
_FINE_TUNING_RATES = {"muon": 0.01, "sgd": 0.01, "adamw": 5e-4}  # for batches of 32, in the last layer
_NOT_VARIED: dict[str, Any] = {spec.name: 0.0 for spec in dataclasses.fields(AugmentationConfig)}
_NOT_VARIED |= {"flip": False, "shift_px": 0, "randaugment": 0}
_VARIED_FINE_TUNING = _NOT_VARIED | {"zoom": 0.3, "light": 0.2}
WIDTHS = (1.5, 1.0, 0.75, 0.5, 0.375, 0.25)  # of the default network, to choose from where time is short
_SMALL_NETWORK = 200_000  # parameters
_OFTEN = 16  # epochs after which variation pays


@dataclass(frozen=True, slots=True)
class Facts:
    """What the choice depends on."""

    class_counts: tuple[int, ...]  # training images of each class
    image_size: tuple[int, int]
    num_parameters: int
    has_norm: bool  # batch norm somewhere: it is what lets a deep network bear a high rate
    handedness: Handedness | None = None  # where it was measured

    @property
    def num_train(self) -> int:
        return sum(self.class_counts)

    @property
    def learns_too_little(self) -> bool:
        """Rather than too much by heart: a small network without norms."""
        return self.num_parameters < _SMALL_NETWORK and not self.has_norm

    @property
    def may_be_mirrored(self) -> bool:
        """Nothing is supposed: where no handedness was looked for, there may be some."""
        return self.handedness is not None and self.handedness.is_ruled_out

    @property
    def is_imbalanced(self) -> bool:
        return min(self.class_counts) * 3 < max(self.class_counts)


def choose_recipe(asked: Config, facts: Facts) -> tuple[Config, str]:
    """Fill in every setting of the augmentation and the loop that was not asked for; returns a line on it."""
    if asked.model.weights is None:
        training = _fill(asked.training, _from_scratch(asked.training, facts))
        varied = _varied_from_scratch(facts, settled(training.epochs))
    else:
        training = _fill(asked.training, _fine_tuning(asked.training, facts))
        varied = _VARIED_FINE_TUNING | {"flip": facts.may_be_mirrored}
    augmentation = _fill(asked.augmentation, varied)
    longest_shift = min(facts.image_size) - 1
    augmentation = dataclasses.replace(augmentation, shift_px=min(settled(augmentation.shift_px), longest_shift))
    chosen = dataclasses.replace(asked, training=training, augmentation=augmentation)
    return chosen, "; ".join(_told(asked, chosen, facts))


def refuse_without_weights(asked: Config) -> None:
    """Refuse what only makes sense with given weights where none are given.

    Raises:
        ConfigError: something would be kept of random weights.
    """
    if asked.model.weights is not None:
        return
    training = asked.training
    pointless = {
        "training.freeze": training.freeze not in (None, "none"),
        "training.batch_norm": training.batch_norm == "keep",
        "training.epochs": training.epochs == 0,
    }
    if wanted := [name for name, is_asked in pointless.items() if is_asked]:
        value = getattr(training, wanted[0].partition(".")[2])
        raise ConfigError(f"{wanted[0]} = {value} needs weights worth keeping; name them with --weights.")


def default_pattern(image_size: tuple[int, int], width: float = 1.0) -> str:
    """The network that is trained when none is named: a few convolutions, one residual group, a global maximum.

    The body works on a map of 10 to 20 pixels; stages of convolution and pooling bring larger images down to it.
    ``width`` multiplies the number of filters, which stays a multiple of 8.

    >>> default_pattern((28, 28))
    'conv32bn pool conv64bn conv64bn pool conv128bn res[conv128bn conv128bn] pool conv256bn gmp fc'
    >>> default_pattern((20, 20), width=0.25)
    'conv16bn conv16bn pool conv32bn res[conv32bn conv32bn] pool conv64bn gmp fc'
    """
    num_stages, side = 0, min(image_size)
    while side > 20:
        num_stages, side = num_stages + 1, side // 2
    w, x, y, z = (8 * max(1, round(num_filters * width / 8)) for num_filters in (32, 64, 128, 256))
    stem = [f"conv{w}bn pool"] * num_stages
    body = f"conv{x}bn conv{x}bn pool conv{y}bn res[conv{y}bn conv{y}bn] pool conv{z}bn gmp fc"
    return " ".join([*stem, body])


def _from_scratch(asked: TrainingConfig, facts: Facts) -> dict[str, Any]:
    batch_size = asked.batch_size or _batch_size(facts.num_train, largest=256 if facts.learns_too_little else 128)
    epochs = asked.epochs or _epochs_from_scratch(facts, batch_size)
    steps = epochs * asked.epoch_share * facts.num_train / batch_size
    optimizer = asked.optimizer or _usual_optimizer(facts, steps)
    growth = batch_size / 256  # linear in the batch (Goyal et al. 2017); orthogonal updates have one size, so its root
    growth = growth**0.5 if optimizer == "muon" else growth
    bears_high_rate = facts.has_norm or facts.learns_too_little
    return {
        "optimizer": optimizer,
        "batch_size": batch_size,
        "learning_rate": float(f"{_RATES[optimizer, bears_high_rate] * growth:.2g}"),
        "epochs": epochs,
        "weight_decay": _DECAYS[optimizer],
        "label_smoothing": 0.0 if facts.learns_too_little else 0.1,
        "ema_decay": 0.0,
        "patience": 0,
        "class_weights": "none",  # from random weights, weighting cost accuracy wherever it was tried: docs/log.md
        "freeze": "none",
        "layer_decay": 1.0,
        "batch_norm": "update",
    }


def _usual_optimizer(facts: Facts, steps: float) -> str:
    """Muon learns in few steps; over many, SGD ends higher: docs/log.md."""
    if not facts.has_norm:
        return "adamw"
    return "muon" if max(facts.image_size) <= _SMALL_IMAGES and steps <= _FEW_STEPS else "sgd"


def _fine_tuning(asked: TrainingConfig, facts: Facts) -> dict[str, Any]:
    """The first layers see what every photograph has, so they move least; statistics of small batches are too noisy."""
    optimizer = asked.optimizer or "adamw"
    batch_size = asked.batch_size or _batch_size(facts.num_train, largest=32)
    steps = max(1, facts.num_train // batch_size)
    epochs = 0 if asked.freeze == "backbone" else max(3, min(30, math.ceil(600 / steps)))
    epochs = epochs if asked.epochs is None else asked.epochs
    return {
        "optimizer": optimizer,
        "batch_size": batch_size,
        "epochs": epochs,
        "learning_rate": _FINE_TUNING_RATES[optimizer] * batch_size / 32,
        "weight_decay": _DECAYS[optimizer],
        "label_smoothing": 0.1,
        "ema_decay": 0.99,
        "patience": max(3, epochs // 2),
        "class_weights": "balanced" if facts.is_imbalanced else "none",
        "freeze": "none" if epochs else "backbone",
        "layer_decay": 0.1,
        "batch_norm": "keep",
    }


def _varied_from_scratch(facts: Facts, epochs: int) -> dict[str, Any]:
    """A small shift never changes what an image shows; a mirror may (letters, left and right), so it is tested.

    Variation pays where the same images are met often; else it only makes them harder to learn.
    """
    share = 1 / 32 if facts.learns_too_little else 1 / 16
    if epochs < _OFTEN:
        return _NOT_VARIED
    shift_px = max(1, round(min(facts.image_size) * share))
    return _NOT_VARIED | {"shift_px": shift_px, "flip": facts.may_be_mirrored}


def _fill(asked: _Settings, choices: dict[str, Any]) -> _Settings:
    """What was asked stays."""
    return dataclasses.replace(asked, **{key: value for key, value in choices.items() if getattr(asked, key) is None})


def _batch_size(num_train: int, largest: int) -> int:
    """A power of two that gives at least 30 steps an epoch, from 16 (or ``largest``) up to ``largest``."""
    batch = largest
    while batch > 16 and num_train // batch < 30:
        batch //= 2
    return batch


def _epochs_from_scratch(facts: Facts, batch_size: int) -> int:
    """As many as a few minutes allow, no more than pays, and at least 600 steps unless that takes 100 epochs."""
    images_seen = 1_080_000 if facts.learns_too_little else 380_000
    epochs = max(6, min(20, round(images_seen / facts.num_train)))
    steps = max(1, facts.num_train // batch_size)
    return max(epochs, min(100, math.ceil(600 / steps)))


def _told(asked: Config, chosen: Config, facts: Facts) -> Iterator[str]:
    training, augmentation = chosen.training, chosen.augmentation
    if training.epochs == 0:
        yield f"only the head is fitted, on features of {facts.num_train:,} images"
    else:
        yield (
            f"{counted(settled(training.epochs), 'epoch')} of {counted(facts.num_train, 'image')} "
            f"in batches of {training.batch_size}, {training.optimizer} at {training.learning_rate:g}"
            f"{f', falling to {training.layer_decay:g} of it in the first layer' if training.layer_decay != 1 else ''}"
        )
        if training.first_side < 1:
            yield f"images have {training.first_side:.0%} of their sides at first"
        yield ", ".join(describe(augmentation))
        if asked.augmentation.flip is None and facts.handedness is not None:
            yield str(facts.handedness)
        if training.freeze != "none":
            yield f"{training.freeze} and what is before it stays as it is"
        if training.batch_norm == "keep":
            yield "batch norms keep the statistics of the weights"
    if training.class_weights == "balanced":
        least, most = min(facts.class_counts), max(facts.class_counts)
        yield f"every class counts the same in the loss (the smallest has {least} images, the largest {most})"

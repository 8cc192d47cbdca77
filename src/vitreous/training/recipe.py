"""What to train when little was asked: network, augmentation and schedule, chosen from the data and said in a line.

The figures were found on validation splits of Fashion-MNIST and of photographs of traffic lights, never on test images.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from vitreous.config import AugmentationConfig, Config, TrainingConfig, settled

# The highest rate for batches of 256, by optimizer and by whether the network bears a high one.
_RATES = {("sgd", True): 0.4, ("sgd", False): 0.02, ("adamw", True): 0.006, ("adamw", False): 0.001}
_SMALL_NETWORK = 200_000  # parameters: such a network rather learns too little than too much by heart


@dataclass(frozen=True, slots=True)
class Facts:
    """What the choice depends on."""

    num_train: int
    image_size: tuple[int, int]
    num_parameters: int
    has_norm: bool  # batch norm somewhere: it is what lets a deep network bear a high rate

    @property
    def is_small_network(self) -> bool:
        return self.num_parameters < _SMALL_NETWORK


def choose_recipe(asked: Config, facts: Facts) -> tuple[Config, str]:
    """Fill in every setting of the augmentation and the loop that was not asked for; returns a line on it."""
    training = _choose_training(asked.training, facts)
    augmentation = _choose_augmentation(asked.augmentation, facts, settled(training.epochs))
    line = (
        f"{training.epochs} epochs of {facts.num_train:,} images in batches of {training.batch_size}, "
        f"{training.optimizer} at {training.learning_rate:g}, shift {augmentation.shift_px} px"
        f"{', mirrored' if augmentation.flip else ''}"
    )
    return dataclasses.replace(asked, training=training, augmentation=augmentation), line


def default_pattern(image_size: tuple[int, int]) -> str:
    """The network that is trained when none is named: a few convolutions, one residual group, a global maximum.

    The body works on a map of 10 to 20 pixels; stages of convolution and pooling bring larger images down to it.

    >>> default_pattern((28, 28))
    'conv32bn pool conv64bn conv64bn pool conv128bn res[conv128bn conv128bn] pool conv256bn gmp fc'
    """
    num_stages, side = 0, min(image_size)
    while side > 20:
        num_stages, side = num_stages + 1, side // 2
    stem = ["conv32bn pool"] * num_stages
    return " ".join([*stem, "conv64bn conv64bn pool conv128bn res[conv128bn conv128bn] pool conv256bn gmp fc"])


def _choose_augmentation(asked: AugmentationConfig, facts: Facts, epochs: int) -> AugmentationConfig:
    """A small shift never changes what an image shows; a mirror may (letters, left and right), so it must be asked for.

    Variation pays where the same images are met often; else it only makes them harder to learn.
    """
    shift_px = asked.shift_px
    if shift_px is None:
        share = 1 / 32 if facts.is_small_network else 1 / 16
        shift_px = max(1, round(min(facts.image_size) * share)) if epochs >= 16 else 0
    return dataclasses.replace(asked, flip=bool(asked.flip), shift_px=min(shift_px, min(facts.image_size) - 1))


def _choose_training(asked: TrainingConfig, facts: Facts) -> TrainingConfig:
    small = facts.is_small_network
    optimizer = asked.optimizer or ("sgd" if facts.has_norm and not small else "adamw")
    batch_size = asked.batch_size or _choose_batch(facts.num_train, largest=256 if small else 128)
    highest_rate = _RATES[optimizer, facts.has_norm or small] * batch_size / 256  # linear scaling: Goyal et al. 2017
    choices: dict[str, Any] = {
        "optimizer": optimizer,
        "batch_size": batch_size,
        "epochs": _choose_epochs(facts, batch_size),
        "learning_rate": highest_rate,
        "weight_decay": {"sgd": 5e-4, "adamw": 0.01}[optimizer],
        "label_smoothing": 0.0 if small else 0.1,
    }
    return dataclasses.replace(asked, **{key: value for key, value in choices.items() if getattr(asked, key) is None})


def _choose_batch(num_train: int, largest: int) -> int:
    """A power of two that gives at least 30 steps an epoch, from 16 to ``largest``."""
    batch = largest
    while batch > 16 and num_train // batch < 30:
        batch //= 2
    return batch


def _choose_epochs(facts: Facts, batch_size: int) -> int:
    """As many as a few minutes allow, no more than pays, and at least 600 steps unless that takes 100 epochs."""
    images_seen = 1_080_000 if facts.is_small_network else 380_000
    epochs = max(6, min(20, round(images_seen / facts.num_train)))
    steps = max(1, facts.num_train // batch_size)
    return max(epochs, min(100, math.ceil(600 / steps)))

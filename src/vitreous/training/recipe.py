"""What to train when little was asked: network, augmentation and schedule, chosen from the data and said in a line.

The figures were found on validation splits of Fashion-MNIST and of photographs of traffic lights, never on test images.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from vitreous.config import AugmentationConfig, Config, TrainingConfig


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What the choice depends on."""

    num_train: int
    image_size: tuple[int, int]


def choose_recipe(asked: Config, facts: DataFacts) -> tuple[Config, str]:
    """Fill in every setting of the network, the augmentation and the loop that was not asked for; returns a line on it."""
    model = asked.model.name or default_pattern(facts.image_size)
    chosen = dataclasses.replace(
        asked,
        model=dataclasses.replace(asked.model, name=model),
        augmentation=_choose_augmentation(asked.augmentation, facts),
        training=_choose_training(asked.training, facts, model),
    )
    training, augmentation = chosen.training, chosen.augmentation
    line = (
        f"{training.epochs} epochs of {facts.num_train:,} images in batches of {training.batch_size}, "
        f"{training.optimizer} at {training.learning_rate:g}, shift {augmentation.shift_px} px"
        f"{', mirrored' if augmentation.flip else ''}; network: {model}"
    )
    return chosen, line


def default_pattern(image_size: tuple[int, int]) -> str:
    """The network that is trained when none is named: a few convolutions, one residual group, a global maximum.

    The same body works on a map of about 14 pixels; larger images are brought down to it by space-to-depth and by a
    stage of convolution and pooling for each further factor of two.

    >>> default_pattern((28, 28))
    'unshuffle2 conv64bn conv64bn pool conv128bn res[conv128bn conv128bn] pool conv256bn gmp fc'
    >>> default_pattern((64, 64)).split()[:4]
    ['unshuffle2', 'conv32bn', 'pool', 'conv64bn']
    """
    words = []
    side = min(image_size)
    if side >= 20 and all(size % 2 == 0 for size in image_size):
        words.append("unshuffle2")
        side //= 2
    while side > 24:
        words += ["conv32bn", "pool"]
        side //= 2
    return " ".join([*words, "conv64bn conv64bn pool conv128bn res[conv128bn conv128bn] pool conv256bn gmp fc"])


def _choose_augmentation(asked: AugmentationConfig, facts: DataFacts) -> AugmentationConfig:
    """A small shift never changes what an image shows; a mirror may (letters, left and right), so it must be asked for."""
    shift_px = round(min(facts.image_size) / 16) if asked.shift_px is None else asked.shift_px
    return dataclasses.replace(asked, flip=bool(asked.flip), shift_px=min(shift_px, min(facts.image_size) - 1))


def _choose_training(asked: TrainingConfig, facts: DataFacts, model: str) -> TrainingConfig:
    is_lenet = model.lower().startswith("lenet5")
    defaults: dict[str, Any] = {
        "optimizer": "sgd",
        "batch_size": _choose_batch(facts.num_train),
        "epochs": _choose_epochs(facts.num_train, images_seen=1_200_000 if is_lenet else 430_000),
        "weight_decay": 5e-4,
    }
    batch_size = asked.batch_size or defaults["batch_size"]
    rate = 0.1 if is_lenet else 0.4
    if asked.optimizer == "adamw":
        rate = 0.003
        defaults["weight_decay"] = 0.05
    defaults["learning_rate"] = rate * batch_size / 256  # linear scaling: Goyal et al. 2017
    return dataclasses.replace(asked, **{key: value for key, value in defaults.items() if getattr(asked, key) is None})


def _choose_batch(num_train: int) -> int:
    """A power of two that gives at least 30 steps an epoch, from 16 to 256."""
    batch = 256
    while batch > 16 and num_train // batch < 30:
        batch //= 2
    return batch


def _choose_epochs(num_train: int, images_seen: int) -> int:
    return max(8, min(40, round(images_seen / num_train)))

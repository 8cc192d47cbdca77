"""A head on torchvision's mobilenet_v2 by fastai's vision_learner, frozen, five epochs of its one cycle.

    python fastai_head.py DATA WEIGHTS.safetensors [--defaults]

By default what makes it fastest: batch norms frozen like the rest (fastai trains them on, and so computes every
gradient), channels last, workers that persist, and test images looked at once, after the last epoch. Its to_bf16 is
not among it: it acts on CUDA alone. With --defaults, as fastai comes. Prints JSON.
"""

import argparse
import json
import time
from pathlib import Path

import torchvision_operators
from safetensors.torch import load_file

torchvision_operators.define()

from fastai.vision.all import (  # noqa: E402, needs the operators
    BnFreeze,
    Callback,
    CancelValidException,
    ChannelsLast,
    ImageDataLoaders,
    Resize,
    accuracy,
    imagenet_stats,
    set_seed,
    vision_learner,
)
from fastai.vision.learner import default_split, model_meta  # noqa: E402
from torch import nn  # noqa: E402
from torchvision.models import mobilenet_v2  # noqa: E402

EPOCHS, BATCH_SIZE = 5, 64


class Clock(Callback):
    """How long the training part of each epoch takes, and how many images it sees."""

    def before_fit(self) -> None:
        self.epoch_seconds, self.num_seen = [], 0

    def before_train(self) -> None:
        self.started = time.perf_counter()

    def after_batch(self) -> None:
        if self.training:
            self.num_seen += len(self.yb[0])

    def after_train(self) -> None:
        self.epoch_seconds.append(time.perf_counter() - self.started)


class ValidateLast(Callback):
    """No look at the test images but after the last epoch."""

    def before_validate(self) -> None:
        if self.epoch < self.n_epoch - 1:
            raise CancelValidException


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--defaults", action="store_true")
    arguments = parser.parse_args()
    set_seed(0)

    def pretrained_mobilenet(pretrained: bool) -> nn.Module:
        model = mobilenet_v2()
        model.load_state_dict(load_file(arguments.weights))
        return model

    # fastai knows no MobileNet: where its head begins, and what its images are normalized by.
    model_meta[pretrained_mobilenet] = {"cut": 1, "split": default_split, "stats": imagenet_stats}
    quick = {} if arguments.defaults else {"persistent_workers": True}
    num_train = sum(1 for _ in (arguments.data / "train").rglob("*.jpg"))
    loaders = ImageDataLoaders.from_folder(
        arguments.data, train="train", valid="test", item_tfms=Resize(224), bs=min(BATCH_SIZE, num_train), **quick
    )
    clock = Clock()
    callbacks = [clock] if arguments.defaults else [clock, BnFreeze(), ChannelsLast(), ValidateLast()]
    learner = vision_learner(
        loaders, pretrained_mobilenet, metrics=accuracy, train_bn=arguments.defaults, cbs=callbacks
    )
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(EPOCHS)
    outcome = {"epoch_seconds": clock.epoch_seconds, "num_seen": clock.num_seen}
    share = float(learner.recorder.final_record[-1])
    print(json.dumps(outcome | {"accuracy": share, "num_test": len(loaders.valid_ds)}))


if __name__ == "__main__":
    main()

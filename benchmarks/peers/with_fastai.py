"""fastai: torchvision's ResNet-18 step by step; the network of its book's chapter 13, or its xresnet18, in one cycle.

The book's: five convolutions of stride 2, the first 5x5, each with batch norm, batches of 512, one cycle up to 0.1. At
its best with channels last and data in memory. Its to_bf16 and to_fp16 act on CUDA alone.
"""

from itertools import pairwise

import stopwatch
import torch
import torchvision_operators

torchvision_operators.define()

from fastai.vision.all import (  # noqa: E402, needs the operators
    SGD,
    Callback,
    CancelValidException,
    ChannelsLast,
    ConvLayer,
    DataLoaders,
    Flatten,
    Learner,
    NormType,
    set_seed,
    xresnet18,
)
from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402
from torch_parts import TEST_BATCH, Batches, accuracy, normalized, quick_batches  # noqa: E402

BATCH = 512
RATES = {"book": 0.1, "xresnet18": 0.005}
WIDTHS = (8, 16, 32, 64)


class Clock(Callback):
    """Tells the watch of steps, or of epochs and what they reached."""

    def __init__(self, watch: stopwatch.Stopwatch, test: Batches | None = None) -> None:
        self.watch, self.test = watch, test

    def before_train(self) -> None:
        self.watch.begin()

    def after_batch(self) -> None:
        if self.test is None and self.training:
            if self.watch.arguments.device != "cpu":
                torch.cuda.synchronize()
            self.watch.step()

    def after_train(self) -> None:
        self.watch.end()
        if self.test is not None:
            self.watch.reached(accuracy(self.model, self.test, self.watch.arguments.device))

    def before_validate(self) -> None:
        raise CancelValidException


def main() -> None:
    arguments = stopwatch.asked(__doc__, recipes=tuple(RATES), best="fp32")
    watch = stopwatch.Stopwatch(arguments)
    if arguments.do == "steps":
        steps(arguments, watch)
    else:
        curve(arguments, watch)


def steps(arguments: stopwatch.Arguments, watch: stopwatch.Stopwatch) -> None:
    from torchvision.models import resnet18

    images, labels = map(torch.from_numpy, stopwatch.noise(arguments.batch, arguments.side))
    batches = DataLoader([(images, labels)] * arguments.steps, batch_size=None)
    learner = learning(resnet18(num_classes=stopwatch.NUM_CLASSES), batches, arguments, Clock(watch), opt_func=SGD)
    with learner.no_bar(), learner.no_logging():
        learner.fit(1, lr=0.01)
    watch.tell(batch=arguments.batch)


def curve(arguments: stopwatch.Arguments, watch: stopwatch.Stopwatch) -> None:
    set_seed(arguments.seed)
    x_train, y_train, x_test, y_test = stopwatch.arrays(arguments.data)
    batch, num_channels = arguments.batch or BATCH, x_train.shape[3]
    if arguments.best:
        train = quick_batches(x_train, y_train, batch)
    else:
        train = DataLoader(TensorDataset(normalized(x_train), torch.from_numpy(y_train)), batch, shuffle=True)
    if arguments.recipe == "book":
        network = book_network(num_channels)
    else:
        network = xresnet18(n_out=stopwatch.NUM_CLASSES, c_in=num_channels)
    test = quick_batches(x_test, y_test, TEST_BATCH, shuffled=False)
    learner = learning(network, train, arguments, Clock(watch, test))
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(arguments.epochs, RATES[arguments.recipe])
    watch.tell(num_train=len(y_train), num_test=len(y_test), batch=batch)


def book_network(num_channels: int) -> nn.Module:
    widths = (num_channels, *WIDTHS)
    body = [
        ConvLayer(each, after, ks=3 if number else 5, stride=2, norm_type=NormType.Batch)
        for number, (each, after) in enumerate(pairwise(widths))
    ]
    head = ConvLayer(WIDTHS[-1], stopwatch.NUM_CLASSES, stride=2, act_cls=None, norm_type=None)
    return nn.Sequential(*body, head, Flatten())


def learning(
    network: nn.Module, train: DataLoader, arguments: stopwatch.Arguments, clock: Clock, **more: object
) -> Learner:
    """Without a validation part: the test images are looked at by the clock."""
    callbacks = [clock, ChannelsLast()] if arguments.best else [clock]
    loaders = DataLoaders(train, train, device=torch.device(arguments.device))
    network = torch.compile(network) if arguments.compile else network
    return Learner(loaders, network, loss_func=nn.CrossEntropyLoss(), cbs=callbacks, **more)


if __name__ == "__main__":
    main()

"""Lightning: torchvision's ResNet-18 step by step, and the network and settings of PyTorch's MNIST example.

Its own image classifier example is that one. At its best with precision="bf16-mixed", channels last and data in memory;
progress bar, logger and checkpoints are off in both.
"""

import logging
import warnings

import stopwatch
import torch
import torchvision_operators

torchvision_operators.define()

import lightning  # noqa: E402, needs the operators
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402
from torch_parts import (  # noqa: E402
    TEST_BATCH,
    Batches,
    accuracy,
    example_network,
    published_batches,
    quick_batches,
)
from with_torch import BATCH, FALL, LEARNING_RATE  # noqa: E402


class Module(lightning.LightningModule):
    """A network with the example's loss and optimizer; tells the watch of steps and epochs."""

    def __init__(self, network: nn.Module, watch: stopwatch.Stopwatch, test: Batches | None = None) -> None:
        super().__init__()
        self.network, self.watch, self.test = network, watch, test

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        images, labels = batch
        return functional.cross_entropy(self.network(images), labels)

    def configure_optimizers(self) -> object:
        if self.test is None or self.watch.arguments.optimizer == "sgd":
            return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)
        optimizer = torch.optim.Adadelta(self.parameters(), lr=LEARNING_RATE)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=FALL)]

    def on_train_batch_end(self, *_: object) -> None:
        if self.test is None:
            if self.device.type != "cpu":
                torch.cuda.synchronize()
            self.watch.step()

    def on_train_epoch_start(self) -> None:
        self.watch.begin()

    def on_train_epoch_end(self) -> None:
        self.watch.end()
        if self.test is not None:
            self.watch.reached(accuracy(self.network, self.test, self.device))


def main() -> None:
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    arguments = stopwatch.asked(__doc__)
    watch = stopwatch.Stopwatch(arguments)
    if arguments.do == "steps":
        steps(arguments, watch)
    else:
        curve(arguments, watch)


def steps(arguments: stopwatch.Arguments, watch: stopwatch.Stopwatch) -> None:
    from torchvision.models import resnet18

    images, labels = map(torch.from_numpy, stopwatch.noise(arguments.batch, arguments.side))
    if arguments.best:
        images = images.contiguous(memory_format=torch.channels_last)
    module = Module(laid_out(resnet18(num_classes=stopwatch.NUM_CLASSES), arguments), watch)
    batches = DataLoader([(images, labels)] * arguments.steps, batch_size=None)
    trainer(arguments, max_epochs=1).fit(module, batches)
    watch.tell(batch=arguments.batch)


def curve(arguments: stopwatch.Arguments, watch: stopwatch.Stopwatch) -> None:
    torch.manual_seed(arguments.seed)
    x_train, y_train, x_test, y_test = stopwatch.arrays(arguments.data)
    batches = quick_batches if arguments.best else published_batches
    test = quick_batches(x_test, y_test, TEST_BATCH, shuffled=False)
    module = Module(laid_out(example_network(), arguments), watch, test)
    trainer(arguments, max_epochs=arguments.epochs).fit(module, batches(x_train, y_train, arguments.batch or BATCH))
    watch.tell(num_train=len(y_train), num_test=len(y_test), batch=arguments.batch or BATCH)


def laid_out(network: nn.Module, arguments: stopwatch.Arguments) -> nn.Module:
    network = network.to(memory_format=torch.channels_last) if arguments.best else network
    return torch.compile(network) if arguments.compile else network


def trainer(arguments: stopwatch.Arguments, max_epochs: int) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator="cpu" if arguments.device == "cpu" else "gpu",
        devices=1,
        max_epochs=max_epochs,
        precision="bf16-mixed" if arguments.precision == "bf16" else "32-true",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


if __name__ == "__main__":
    main()

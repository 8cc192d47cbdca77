"""timm: its ResNet-18 step by step, and its training recipe on its smallest ResNet with a stem for small images.

Its train.py is not in its wheel, so this is what it does with its own parts: SGD with Nesterov's momentum at 0.1 for
batches of 256, a cosine after a warm-up, label smoothing 0.1. Images are not varied and 28 px wide, which is sensible
for a few epochs. At its best with --channels-last --amp --amp-dtype bfloat16; --compile is its --torchcompile.
"""

import stopwatch
import torch
import torchvision_operators

torchvision_operators.define()

import timm  # noqa: E402, needs the operators
from timm.loss import LabelSmoothingCrossEntropy  # noqa: E402
from timm.optim import create_optimizer_v2  # noqa: E402
from timm.scheduler import create_scheduler_v2  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.optim import Optimizer  # noqa: E402
from torch_parts import TEST_BATCH, accuracy, quick_batches  # noqa: E402

RATE, RATE_BATCH, BATCH = 0.1, 256, 128


def main() -> None:
    arguments = stopwatch.asked(__doc__)
    watch = stopwatch.Stopwatch(arguments)
    if arguments.do == "steps":
        steps(arguments, watch)
    else:
        curve(arguments, watch)


def steps(arguments: stopwatch.Arguments, watch: stopwatch.Stopwatch) -> None:
    network = laid_out(timm.create_model("resnet18", num_classes=stopwatch.NUM_CLASSES), arguments)
    images, labels = map(torch.from_numpy, stopwatch.noise(arguments.batch, arguments.side))
    images, labels = images.to(arguments.device), labels.to(arguments.device)
    if arguments.best:
        images = images.contiguous(memory_format=torch.channels_last)
    optimizer = create_optimizer_v2(network, opt="sgd", lr=0.01, momentum=0.9)
    for _ in range(arguments.steps):
        update(network, images, labels, optimizer, arguments)
        if arguments.device != "cpu":
            torch.cuda.synchronize()
        watch.step()
    watch.tell(batch=arguments.batch)


def curve(arguments: stopwatch.Arguments, watch: stopwatch.Stopwatch) -> None:
    torch.manual_seed(arguments.seed)
    x_train, y_train, x_test, y_test = stopwatch.arrays(arguments.data)
    batch = arguments.batch or BATCH
    model = timm.create_model("resnet10t", in_chans=x_train.shape[3], num_classes=stopwatch.NUM_CLASSES)
    network = laid_out(model, arguments)
    train = quick_batches(x_train, y_train, batch)
    test = quick_batches(x_test, y_test, TEST_BATCH, shuffled=False)
    optimizer = create_optimizer_v2(network, opt="sgd", lr=RATE * batch / RATE_BATCH, momentum=0.9, weight_decay=2e-5)
    schedule, _ = create_scheduler_v2(
        optimizer,
        sched="cosine",
        num_epochs=arguments.epochs,
        warmup_epochs=1,
        step_on_epochs=False,
        updates_per_epoch=len(train),
    )
    num_updates = 0
    for _ in range(arguments.epochs):
        watch.begin()
        for images, labels in train:
            update(network, images.to(arguments.device), labels.to(arguments.device), optimizer, arguments)
            num_updates += 1
            schedule.step_update(num_updates)
        watch.end()
        watch.reached(accuracy(network, test, arguments.device))
    watch.tell(num_train=len(y_train), num_test=len(y_test), batch=batch)


def laid_out(network: nn.Module, arguments: stopwatch.Arguments) -> nn.Module:
    network = network.to(arguments.device)
    if arguments.best:
        network = network.to(memory_format=torch.channels_last)
    return torch.compile(network) if arguments.compile else network


def update(
    network: nn.Module, images: Tensor, labels: Tensor, optimizer: Optimizer, arguments: stopwatch.Arguments
) -> None:
    with torch.autocast(arguments.device, torch.bfloat16, enabled=arguments.precision == "bf16"):
        loss = LabelSmoothingCrossEntropy(smoothing=0.1)(network(images), labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


if __name__ == "__main__":
    main()

"""Plain PyTorch: torchvision's ResNet-18 step by step, its MNIST example's network and loop, ImageFolder's images.

At its best as the performance tuning guide has it for a processor: channels last, bf16 by autocast where the processor
has it, data in memory or read by a worker a core that stays; --compile adds torch.compile. Folders are shown as 224 px,
mirrored by chance.
"""

import os
from itertools import islice, repeat
from pathlib import Path

import stopwatch
import torch
import torchvision_operators
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from torch_parts import TEST_BATCH, accuracy, example_network, published_batches, quick_batches

LEARNING_RATE, FALL, BATCH = 1.0, 0.7, 64  # the example's Adadelta; the rate falls to so much of it each epoch
SIDE, FOLDER_BATCH = 224, 32
FOLDER_MEAN, FOLDER_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main() -> None:
    arguments = stopwatch.asked(__doc__)
    watch = stopwatch.Stopwatch(arguments)
    torchvision_operators.define()
    {"steps": steps, "curve": curve, "input": reading}[arguments.do](arguments, watch)


def steps(arguments: stopwatch.Arguments, watch: stopwatch.Stopwatch) -> None:
    from torchvision.models import resnet18

    network = laid_out(resnet18(num_classes=stopwatch.NUM_CLASSES), arguments)
    if arguments.data is None:
        images, labels = map(torch.from_numpy, stopwatch.noise(arguments.batch, arguments.side))
        batches = repeat((images.contiguous(memory_format=torch.channels_last) if arguments.best else images, labels))
    else:
        batches = folder_batches(arguments.data / "train", arguments)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    for images, labels in islice(batches, arguments.steps):
        images, labels = images.to(arguments.device), labels.to(arguments.device)
        update(network, images, labels, optimizer, arguments)
        if arguments.device != "cpu":
            torch.cuda.synchronize()
        watch.step()
    watch.tell(batch=arguments.batch)


def curve(arguments: stopwatch.Arguments, watch: stopwatch.Stopwatch) -> None:
    torch.manual_seed(arguments.seed)
    x_train, y_train, x_test, y_test = stopwatch.arrays(arguments.data)
    network = laid_out(example_network(), arguments)
    batches = quick_batches if arguments.best else published_batches
    train = batches(x_train, y_train, arguments.batch or BATCH)
    test = quick_batches(x_test, y_test, TEST_BATCH, shuffled=False)
    if arguments.optimizer == "sgd":
        optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9, nesterov=True)
    else:
        optimizer = torch.optim.Adadelta(network.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=FALL)
    for _ in range(arguments.epochs):
        watch.begin()
        for images, labels in train:
            update(network, images.to(arguments.device), labels.to(arguments.device), optimizer, arguments)
        watch.end()
        schedule.step()
        watch.reached(accuracy(network, test, arguments.device))
    watch.tell(num_train=len(y_train), num_test=len(y_test), batch=arguments.batch or BATCH)


def reading(arguments: stopwatch.Arguments, watch: stopwatch.Stopwatch) -> None:
    batches = folder_batches(arguments.data, arguments)
    num_images = 0
    for _ in range(arguments.epochs):
        watch.begin()
        num_images = sum(len(labels) for _, labels in batches)
        watch.end()
    watch.tell(num_images=num_images)


def folder_batches(folder: Path, arguments: stopwatch.Arguments) -> DataLoader:
    """fp32 N,3,224,224, normalized. At its best uint8 until it is small, as the page on transforms v2 advises."""
    from torchvision import datasets, transforms
    from torchvision.transforms import v2

    if arguments.best:
        steps = [v2.PILToTensor(), v2.Resize(SIDE), v2.CenterCrop(SIDE), v2.RandomHorizontalFlip()]
        transform = v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True), v2.Normalize(FOLDER_MEAN, FOLDER_STD)])
    else:
        steps = [transforms.Resize(SIDE), transforms.CenterCrop(SIDE), transforms.RandomHorizontalFlip()]
        steps += [transforms.ToTensor(), transforms.Normalize(FOLDER_MEAN, FOLDER_STD)]
        transform = transforms.Compose(steps)
    workers = {"num_workers": len(os.sched_getaffinity(0)), "persistent_workers": True} if arguments.best else {}
    dataset = datasets.ImageFolder(folder, transform)
    return DataLoader(dataset, batch_size=arguments.batch or FOLDER_BATCH, shuffle=True, **workers)


def laid_out(network: nn.Module, arguments: stopwatch.Arguments) -> nn.Module:
    network = network.to(arguments.device)
    if arguments.best:
        network = network.to(memory_format=torch.channels_last)
    return torch.compile(network) if arguments.compile else network


def update(
    network: nn.Module, images: Tensor, labels: Tensor, optimizer: Optimizer, arguments: stopwatch.Arguments
) -> None:
    optimizer.zero_grad()
    with torch.autocast(arguments.device, torch.bfloat16, enabled=arguments.precision == "bf16"):
        loss = functional.cross_entropy(network(images), labels)
    loss.backward()
    optimizer.step()


if __name__ == "__main__":
    main()

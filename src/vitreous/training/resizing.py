"""Progressive resizing: the first epochs show images smaller, which costs less; the last ones as they are scored.

Howard (2018) trained ImageNet so for DAWNBench. The last quarter has the whole size, because a network that was shown
one size sees another one with wrong statistics (Touvron et al. 2019, "Fixing the train-test resolution discrepancy").
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from vitreous.config import TrainingConfig, settled
from vitreous.errors import ConfigError, ShapeError

_GROWN = 0.75  # share of the epochs after which images have their whole size; the last one has it always
_MULTIPLE = 16  # of pixels; so few sizes that making their kernels costs nothing


def shown_size(size: tuple[int, int], epoch: int, training: TrainingConfig) -> tuple[int, int]:
    """Height and width of what the network is shown of images of ``size`` in an epoch, the first being 0.

    The sides grow along a line from ``training.first_side`` of theirs to the whole.

    >>> training = TrainingConfig(epochs=8, first_side=0.5)
    >>> [shown_size((128, 128), epoch, training)[0] for epoch in range(8)]
    [64, 80, 80, 96, 112, 112, 128, 128]
    """
    growing = min(_GROWN * settled(training.epochs), settled(training.epochs) - 1)
    if training.first_side == 1 or epoch >= growing:
        return size
    share = training.first_side + (1 - training.first_side) * epoch / growing
    height, width = (min(side, max(_MULTIPLE, round(side * share / _MULTIPLE) * _MULTIPLE)) for side in size)
    return height, width


def mean_area(size: tuple[int, int], training: TrainingConfig) -> float:
    """The share of an image's pixels that an epoch shows, on average over all epochs: about that of a step's cost."""
    sizes = [shown_size(size, epoch, training) for epoch in range(settled(training.epochs))]
    return sum(height * width for height, width in sizes) / (len(sizes) * size[0] * size[1])


def resized(images_NCHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Each pixel the mean of what it covers, so that nothing is skipped."""
    if images_NCHW.shape[2:] == size:
        return images_NCHW
    return functional.interpolate(images_NCHW, size, mode="bilinear", antialias=True, align_corners=False)


def refuse_sizes(network: nn.Module, shape_CHW: tuple[int, int, int], training: TrainingConfig) -> None:
    """Refuse a network that takes its images in one size only, where smaller ones would be shown first.

    Raises:
        ConfigError: ``network`` fails on one of the sizes.
    """
    channels, *size = shape_CHW
    whole = (size[0], size[1])
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    try:
        for each in sorted({shown_size(whole, epoch, training) for epoch in range(settled(training.epochs))} - {whole}):
            with torch.no_grad():
                network(torch.zeros(1, channels, *each, device=device))
    except (RuntimeError, ShapeError) as error:
        raise ConfigError(
            f"training.first_side = {training.first_side:g} shows images of {each[0]} x {each[1]} first, and this "
            f"network does not take them; leave it at 1, or take a network that ends in gap or gmp."
        ) from error
    finally:
        network.train(was_training)

"""VGG: 3x3 convolutions in five stages, each halved by a pool. N,C,H,W -> logits N,K, from 32 pixels a side.

The keys of the weights are torchvision's. The paper's configurations: 11 is A, 13 B, 16 D, 19 E.

Source: Simonyan, Zisserman 2014, "Very Deep Convolutional Networks for Large-Scale Image Recognition", table 1;
batch norm, which came later, as in torchvision: between each convolution and its ReLU.
"""

from collections import OrderedDict
from collections.abc import Iterator

from torch import nn

from vitreous.models.initialisation import initialise_he

FILTERS = (64, 128, 256, 512, 512)  # of the five stages
NUM_CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def vgg(depth: int, *, num_classes: int, in_channels: int, has_norm: bool = False) -> nn.Sequential:
    """VGG with 11, 13, 16 or 19 layers; VGG-16 has 138,357,544 parameters for 1000 classes of colour images.

    Without batch norm the first weights decide whether it learns at all: the paper trained 11 layers first and started
    the deeper networks from those. He's weights make that unneeded; fully connected layers start from a standard
    deviation of 0.01, as in torchvision.
    """
    network = nn.Sequential(
        OrderedDict(
            features=nn.Sequential(*_features(depth, in_channels, has_norm)),  # N,512,7,7 from 224 px
            avgpool=nn.AdaptiveAvgPool2d(7),  # changes nothing at 224 px; makes 7x7 of any other map
            flatten=nn.Flatten(),
            classifier=nn.Sequential(
                nn.Linear(512 * 7 * 7, 4096),
                nn.ReLU(),
                nn.Dropout(),
                nn.Linear(4096, 4096),
                nn.ReLU(),
                nn.Dropout(),
                nn.Linear(4096, num_classes),
            ),
        )
    )
    initialise_he(network, linear_std=0.01)
    return network


def _features(depth: int, in_channels: int, has_norm: bool) -> Iterator[nn.Module]:
    for filters, num_convolutions in zip(FILTERS, NUM_CONVOLUTIONS[depth], strict=True):
        for _ in range(num_convolutions):
            yield nn.Conv2d(in_channels, filters, 3, padding=1)  # its bias stays beside batch norm, as in torchvision
            if has_norm:
                yield nn.BatchNorm2d(filters)
            yield nn.ReLU()
            in_channels = filters
        yield nn.MaxPool2d(2)

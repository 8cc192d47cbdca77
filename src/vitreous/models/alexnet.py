"""AlexNet in one column, as libraries build it today. N,C,H,W -> logits N,K, from 63 pixels a side.

The network of 2012 was split over two graphics cards, normalised each value by those of neighbouring maps, and had 96,
256, 384, 384, 256 filters. The keys of the weights are torchvision's.

Source: Krizhevsky, Sutskever, Hinton 2012, "ImageNet Classification with Deep Convolutional Neural Networks",
section 3; one column: Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks".
"""

from collections import OrderedDict

from torch import nn


def alexnet(*, num_classes: int, in_channels: int) -> nn.Sequential:
    """Five convolutions, three fully connected layers; 61,100,840 parameters for 1000 classes of colour images.

    The weights keep torch's first values, uniform within 1 / sqrt(fan-in), as in torchvision. Those of the paper's
    section 5 (standard deviation 0.01, biases of 1 in most layers) did not train elsewhere: the biases "gave flat loss"
    (BVLC's Caffe, models/bvlc_alexnet/readme.md).
    """
    features = nn.Sequential(
        nn.Conv2d(in_channels, 64, 11, stride=4, padding=2),  # N,64,55,55 from 224 px
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),  # N,64,27,27
        nn.Conv2d(64, 192, 5, padding=2),  # N,192,27,27
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),  # N,192,13,13
        nn.Conv2d(192, 384, 3, padding=1),  # N,384,13,13
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),  # N,256,13,13
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),  # N,256,13,13
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),  # N,256,6,6
    )
    classifier = nn.Sequential(
        nn.Dropout(),
        nn.Linear(256 * 6 * 6, 4096),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(4096, 4096),
        nn.ReLU(),
        nn.Linear(4096, num_classes),
    )
    return nn.Sequential(
        OrderedDict(
            features=features,
            avgpool=nn.AdaptiveAvgPool2d(6),  # changes nothing at 224 px; makes 6x6 of any other map
            flatten=nn.Flatten(),
            classifier=classifier,
        )
    )

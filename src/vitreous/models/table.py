"""The architectures that go by a name. No torch here: the table can be printed, and a choice refused, without it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vitreous.errors import ShapeError


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """One row: what the network is, which images it takes, and where the function is that builds it."""

    name: str
    target: str  # "module:function"; called with num_classes and in_channels, and with classes if it wants their names
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)  # and with these
    year: int
    depth: int  # layers, counted as the paper does
    input: tuple[int, int, int]  # channels, height, width that it was designed for
    idea: str
    source: str
    smallest_side: int  # of an image that fits, in pixels
    largest_side: int | None = None
    limit: str = ""  # why sides are limited
    wants_class_names: bool = False

    @property
    def num_classes(self) -> int:
        """Of the data that it was published for: ImageNet's thousand, or ten."""
        return 1000 if self.input == _PHOTOGRAPH else 10

    def check(self, image_size: tuple[int, int]) -> None:
        """Refuse images that do not fit.

        Raises:
            ShapeError: a side is too short or too long.
        """
        largest = self.largest_side
        if all(side >= self.smallest_side and (largest is None or side <= largest) for side in image_size):
            return
        sides = f"{self.smallest_side} px or more" if largest is None else f"{self.smallest_side} to {largest} px"
        height = self.input[1]
        raise ShapeError(
            f"{self.name} takes images with sides of {sides} ({self.limit}), not {image_size[0]}x{image_size[1]}; "
            f"scale them with --image-size {height}"
        )


_LECUN = "LeCun, Bottou, Bengio, Haffner 1998, Gradient-Based Learning Applied to Document Recognition"
_KRIZHEVSKY = "Krizhevsky, Sutskever, Hinton 2012, ImageNet Classification with Deep Convolutional Neural Networks"
_SIMONYAN = "Simonyan, Zisserman 2014, Very Deep Convolutional Networks for Large-Scale Image Recognition"
_HE = "He, Zhang, Ren, Sun 2015, Deep Residual Learning for Image Recognition"
_SANDLER = "Sandler, Howard, Zhu, Zhmoginov, Chen 2018, MobileNetV2: Inverted Residuals and Linear Bottlenecks"
_PADDED = "every window is padded, so that one pixel is enough"
_PHOTOGRAPH = (3, 224, 224)
_CIFAR = (3, 32, 32)
_ROWS = [
    Architecture(
        name="lenet5",
        target="vitreous.models.lenet:lenet5",
        year=1998,
        depth=7,
        input=(1, 32, 32),
        idea="shared filters, then pooling, twice; in today's form: ReLU, max pooling, every C3 map sees all of S2",
        source=_LECUN,
        smallest_side=32,
        largest_side=35,
        limit="C5, a 5x5 convolution, must find a 5x5 map on S4",
    ),
    Architecture(
        name="lenet5-1998",
        target="vitreous.models.lenet:lenet5_1998",
        year=1998,
        depth=7,
        input=(1, 32, 32),
        idea="as published: sparse C3, trainable subsampling, scaled tanh, and a picture of each class as its code",
        source=_LECUN,
        smallest_side=32,
        largest_side=35,
        limit="C5, a 5x5 convolution, must find a 5x5 map on S4",
        wants_class_names=True,
    ),
    Architecture(
        name="alexnet",
        target="vitreous.models.alexnet:alexnet",
        year=2012,
        depth=8,
        input=_PHOTOGRAPH,
        idea="ReLU, dropout and a million photographs; in one column, as libraries build it today",
        source=f"{_KRIZHEVSKY}; one column: Krizhevsky 2014, One weird trick for parallelizing CNNs",
        smallest_side=63,
        limit="the third max pool, 3x3, must find a 3x3 map",
    ),
    *(
        Architecture(
            name=f"vgg{depth}",
            target="vitreous.models.vgg:vgg",
            arguments={"depth": depth},
            year=2014,
            depth=depth,
            input=_PHOTOGRAPH,
            idea="nothing but 3x3 convolutions: two see as far as one of 5x5, with fewer weights and one more ReLU",
            source=f"{_SIMONYAN}, table 1, {configuration}",
            smallest_side=32,
            limit="the fifth max pool, 2x2, must find a 2x2 map",
        )
        for depth, configuration in {11: "A", 13: "B", 16: "D", 19: "E"}.items()
    ),
    *(
        Architecture(
            name=f"vgg{depth}_bn",
            target="vitreous.models.vgg:vgg",
            arguments={"depth": depth, "has_norm": True},
            year=2015,
            depth=depth,
            input=_PHOTOGRAPH,
            idea=f"vgg{depth} with batch norm before each ReLU of a convolution",
            source=f"{_SIMONYAN}; Ioffe, Szegedy 2015, Batch Normalization",
            smallest_side=32,
            limit="the fifth max pool, 2x2, must find a 2x2 map",
        )
        for depth in (11, 13, 16, 19)
    ),
    *(
        Architecture(
            name=f"resnet{depth}",
            target="vitreous.models.resnet:resnet",
            arguments={"depth": depth},
            year=2015,
            depth=depth,
            input=_PHOTOGRAPH,
            idea="blocks learn what to add to their input, which a shortcut hands on",
            source=_HE,
            smallest_side=1,
            limit=_PADDED,
        )
        for depth in (18, 34)
    ),
    *(
        Architecture(
            name=f"resnet{depth}",
            target="vitreous.models.resnet:resnet",
            arguments={"depth": depth},
            year=2015,
            depth=depth,
            input=_PHOTOGRAPH,
            idea="residual blocks of 1x1, 3x3, 1x1 convolutions; in today's form: stride on the 3x3",
            source=f"{_HE}; stride: Gross, Wilber 2016, Training and investigating Residual Nets",
            smallest_side=1,
            limit=_PADDED,
        )
        for depth in (50, 101, 152)
    ),
    *(
        Architecture(
            name=f"resnet{depth}-paper",
            target="vitreous.models.resnet:resnet",
            arguments={"depth": depth, "stride_on": "1x1"},
            year=2015,
            depth=depth,
            input=_PHOTOGRAPH,
            idea="as the authors published it: stride on a block's first 1x1",
            source=_HE,
            smallest_side=1,
            limit=_PADDED,
        )
        for depth in (50, 101, 152)
    ),
    *(
        Architecture(
            name=f"resnet{depth}-cifar",
            target="vitreous.models.resnet:cifar_resnet",
            arguments={"depth": depth},
            year=2015,
            depth=depth,
            input=_CIFAR,
            idea="residual blocks for small images; no shortcut has weights",
            source=f"{_HE}, section 4.2",
            smallest_side=1,
            limit=_PADDED,
        )
        for depth in (20, 32, 44, 56, 110)
    ),
    *(
        Architecture(
            name=f"plain{depth}-cifar",
            target="vitreous.models.resnet:cifar_resnet",
            arguments={"depth": depth, "has_shortcuts": False},
            year=2015,
            depth=depth,
            input=_CIFAR,
            idea=f"resnet{depth}-cifar without its shortcuts, to compare",
            source=f"{_HE}, section 4.2",
            smallest_side=1,
            limit=_PADDED,
        )
        for depth in (20, 32, 44, 56, 110)
    ),
    Architecture(
        name="mobilenet_v2",
        target="vitreous.models.mobilenet:mobilenet_v2",
        year=2018,
        depth=53,  # the paper names none: 52 convolutions and the output
        input=_PHOTOGRAPH,
        idea="a block widens its input, filters each channel alone, and narrows it again; shortcuts join narrow ends",
        source=_SANDLER,
        smallest_side=1,
        limit=_PADDED,
    ),
]
ARCHITECTURES = {row.name: row for row in _ROWS}

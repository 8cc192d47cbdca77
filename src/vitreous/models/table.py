"""The architectures that go by a name. No torch here: the table can be printed, and a choice refused, without it."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vitreous.errors import ConfigError, ShapeError


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """An error as its paper states it: of how many networks, on which images, how they were shown."""

    error_percent: float
    measure: str  # "top-1", "top-5"
    data: str
    how: str
    where: str  # in the paper: a table or a section
    num_networks: int = 1
    is_this_form: bool = True  # False: of the paper's network, of which this architecture is a variant
    note: str = ""


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
    published: tuple[Published, ...] = ()  # the first is the one to compare by; empty where no paper states one
    note: str = ""

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


def architecture_named(name: str) -> Architecture:
    """The row of this name.

    Raises:
        ConfigError: there is none; the message offers the nearest names.
    """
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    near = difflib.get_close_matches(name.lower(), ARCHITECTURES, n=2)
    meant = f"did you mean {' or '.join(near)}?" if near else "`vitreous models` lists the names."
    raise ConfigError(
        f"there is no network named '{name}'; {meant}\n"
        "A line of words builds one of your own: conv32 pool conv64 pool flatten fc"
    )


# --- what was published -----------------------------------------------------------------------------------------------

_IMAGENET = "ImageNet 2012 validation"
_TEN_CROPS = "ten crops"
_SCALES = "whole images at several scales"  # fully convolutional: He et al., section 4.1
_DENSE_AND_CROPS = "whole images and many crops, at several scales"
_LENET = (
    Published(error_percent=0.95, measure="top-1", data="MNIST test", how="whole images", where="section III.B"),
    Published(
        error_percent=0.8,
        measure="top-1",
        data="MNIST test",
        how="whole images",
        where="section III.B",
        note="trained on distorted copies besides",
    ),
)
_ALEXNET = (
    Published(error_percent=18.2, measure="top-5", data=_IMAGENET, how=_TEN_CROPS, where="table 2, 1 CNN"),
    Published(error_percent=40.7, measure="top-1", data=_IMAGENET, how=_TEN_CROPS, where="table 2, 1 CNN"),
    Published(
        error_percent=15.3,
        measure="top-5",
        data="ImageNet 2012 test",
        how=_TEN_CROPS,
        where="table 2, 7 CNNs",
        num_networks=7,
        note="two of the seven had seen all of ImageNet 2011 before",
    ),
)


def _imagenet(top1: float, top5: float, *, how: str, where: str) -> tuple[Published, Published]:
    return (
        Published(error_percent=top5, measure="top-5", data=_IMAGENET, how=how, where=where),
        Published(error_percent=top1, measure="top-1", data=_IMAGENET, how=how, where=where),
    )


_VGG = {
    11: _imagenet(29.6, 10.4, how="whole images at one scale", where="table 3, A"),
    13: _imagenet(28.7, 9.9, how="whole images at one scale", where="table 3, B"),
    16: _imagenet(24.4, 7.2, how=_DENSE_AND_CROPS, where="table 5, D"),
    19: _imagenet(24.4, 7.1, how=_DENSE_AND_CROPS, where="table 5, E"),
}
_RESNET = {
    18: (
        Published(
            error_percent=27.88,
            measure="top-1",
            data=_IMAGENET,
            how=_TEN_CROPS,
            where="table 2",
            is_this_form=False,
            note="with shortcuts that have no weights (option A); here they have some where the shape changes (B)",
        ),
    ),
    34: (
        *_imagenet(21.84, 5.71, how=_SCALES, where="table 4, B"),
        *_imagenet(24.52, 7.46, how=_TEN_CROPS, where="table 3, B"),
    ),
    50: (
        *_imagenet(20.74, 5.25, how=_SCALES, where="table 4"),
        *_imagenet(22.85, 6.71, how=_TEN_CROPS, where="table 3"),
    ),
    101: (
        *_imagenet(19.87, 4.60, how=_SCALES, where="table 4"),
        *_imagenet(21.75, 6.05, how=_TEN_CROPS, where="table 3"),
    ),
    152: (
        *_imagenet(19.38, 4.49, how=_SCALES, where="table 4"),
        *_imagenet(21.43, 5.71, how=_TEN_CROPS, where="table 3"),
    ),
}
_CIFAR_RESNET = {
    depth: (
        Published(
            error_percent=error,
            measure="top-1",
            data="CIFAR-10 test",
            how="whole images",
            where="table 6",
            note="the best of five; their mean is 6.61 with a standard deviation of 0.16" if depth == 110 else "",
        ),
    )
    for depth, error in {20: 8.75, 32: 7.51, 44: 7.17, 56: 6.97, 110: 6.43}.items()
}


def _of_the_papers_form(published: tuple[Published, ...]) -> tuple[Published, ...]:
    return tuple(replace(each, is_this_form=False) for each in published)


# --- the rows ---------------------------------------------------------------------------------------------------------

_LECUN = "LeCun, Bottou, Bengio, Haffner 1998, Gradient-Based Learning Applied to Document Recognition"
_KRIZHEVSKY = "Krizhevsky, Sutskever, Hinton 2012, ImageNet Classification with Deep Convolutional Neural Networks"
_SIMONYAN = "Simonyan, Zisserman 2014, Very Deep Convolutional Networks for Large-Scale Image Recognition"
_HE = "He, Zhang, Ren, Sun 2015, Deep Residual Learning for Image Recognition"
_SANDLER = "Sandler, Howard, Zhu, Zhmoginov, Chen 2018, MobileNetV2: Inverted Residuals and Linear Bottlenecks"
_ZHANG = "Zhang 2019, Making Convolutional Networks Shift-Invariant Again"
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
        idea="shared filters, pooling, twice; today: ReLU, max pooling, dense C3",
        source=_LECUN,
        smallest_side=32,
        largest_side=35,
        limit="C5, a 5x5 convolution, must find a 5x5 map on S4",
        published=_of_the_papers_form(_LENET),
    ),
    Architecture(
        name="lenet5-1998",
        target="vitreous.models.lenet:lenet5_1998",
        year=1998,
        depth=7,
        input=(1, 32, 32),
        idea="as published: sparse C3, trainable subsampling, pictures as class codes",
        source=_LECUN,
        smallest_side=32,
        largest_side=35,
        limit="C5, a 5x5 convolution, must find a 5x5 map on S4",
        wants_class_names=True,
        published=_LENET,
        note=(
            "326,520 MACs are those of the paper's connections and of its output, which squares distances; "
            "the code multiplies C3's missing connections as zeros and gives torch 415,680"
        ),
    ),
    Architecture(
        name="alexnet",
        target="vitreous.models.alexnet:alexnet",
        year=2012,
        depth=8,
        input=_PHOTOGRAPH,
        idea="ReLU, dropout, a million photographs; in one column, as libraries have it",
        source=f"{_KRIZHEVSKY}; one column: Krizhevsky 2014, One weird trick for parallelizing CNNs",
        smallest_side=63,
        limit="the third max pool, 3x3, must find a 3x3 map",
        published=_of_the_papers_form(_ALEXNET),
    ),
    *(
        Architecture(
            name=f"vgg{depth}",
            target="vitreous.models.vgg:vgg",
            arguments={"depth": depth},
            year=2014,
            depth=depth,
            input=_PHOTOGRAPH,
            idea="3x3 convolutions only: two see as far as one of 5x5, with fewer weights",
            source=f"{_SIMONYAN}, table 1, {configuration}",
            smallest_side=32,
            limit="the fifth max pool, 2x2, must find a 2x2 map",
            published=_VGG[depth],
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
            published=_RESNET[depth],
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
            idea="residual blocks of 1x1, 3x3, 1x1; today's form: stride on the 3x3",
            source=f"{_HE}; stride: Gross, Wilber 2016, Training and investigating Residual Nets",
            smallest_side=1,
            limit=_PADDED,
            published=_of_the_papers_form(_RESNET[depth]),
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
            published=_RESNET[depth],
        )
        for depth in (50, 101, 152)
    ),
    *(
        Architecture(
            name=f"resnet{depth}-blur",
            target="vitreous.models.resnet:resnet",
            arguments={"depth": depth, "is_blurred": True},
            year=2019,
            depth=depth,
            input=_PHOTOGRAPH,
            idea=f"resnet{depth} with a blur before units are left out: it minds shifts less",
            source=f"{_ZHANG}, section 3; network: {_HE}",
            smallest_side=17,
            limit="the last blur mirrors its map at the border, and must find a 2x2 map",
        )
        for depth in (18, 34, 50)
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
            published=_CIFAR_RESNET[depth],
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
        idea="widen, filter each channel alone, narrow; shortcuts join the narrow ends",
        source=_SANDLER,
        smallest_side=1,
        limit=_PADDED,
        published=(
            Published(
                error_percent=28.0,
                measure="top-1",
                data="ImageNet",
                how="it is not said how the images were cut",
                where="table 4",
                note="stated as 72.0 % of the answers right",
            ),
        ),
    ),
]
ARCHITECTURES = {row.name: row for row in _ROWS}

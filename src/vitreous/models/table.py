"""The architectures that go by a name. No torch here: the table can be printed, and a choice refused, without it."""

from dataclasses import dataclass

from vitreous.errors import ShapeError


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """One row: what the network is, which images it takes, and where the function is that builds it."""

    name: str
    target: str  # "module:function"; called with num_classes and in_channels, and with classes if it wants their names
    year: int
    depth: int  # layers, counted as the paper does
    input: tuple[int, int, int]  # channels, height, width that it was designed for
    idea: str
    source: str
    smallest_side: int  # of an image that fits, in pixels
    largest_side: int | None = None
    limit: str = ""  # why sides are limited
    wants_class_names: bool = False

    def check(self, image_size: tuple[int, int]) -> None:
        """Refuse images that do not fit.

        Raises:
            ShapeError: a side is too short or too long.
        """
        largest = self.largest_side
        if all(side >= self.smallest_side and (largest is None or side <= largest) for side in image_size):
            return
        sides = f"{self.smallest_side} px or more" if largest is None else f"{self.smallest_side} to {largest} px"
        height, width = self.input[1:]
        raise ShapeError(
            f"{self.name} takes images with sides of {sides} ({self.limit}), not {image_size[0]}x{image_size[1]}; "
            f"scale them to {height}x{width}"
        )


_LECUN = "LeCun, Bottou, Bengio, Haffner 1998, Gradient-Based Learning Applied to Document Recognition"
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
]
ARCHITECTURES = {row.name: row for row in _ROWS}

"""THE preprocess contract: from any picture to the network's pixels, the same on every path.

It is written into the run folder, so that prediction, export and serving repeat what training saw.
"""

import dataclasses
import hashlib
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from PIL import Image

from vitreous.data.decode import Encoded, ImageFacts, Pixels, decode_picture
from vitreous.errors import DataError

FITS = ("pad", "crop", "squash", "centre")
INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

_DECODE_VERSION = 2  # one more whenever decode or the geometry below gives other pixels for some file


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocess:
    """Which field of pixels the network sees, and how a picture of another shape comes into it.

    ``fit`` is one of:
        pad     scale the whole picture to fit inside the field; fill the rest (an odd pixel goes right or bottom)
        crop    scale the picture to cover the field; keep the centre, or only ``crop_fraction`` of its sides
        squash  scale each axis alone
        centre  as ``pad``, but never enlarge
    ``crop_fraction`` is timm's ``crop_pct``, and the 224/256 of torchvision's presets. They scale the picture to whole
    pixels and then cut whole pixels out of it; here the same part, to fractions of a pixel, is resampled at once.
    ``mean`` and ``std`` are on the 0..1 scale, one per channel; they do not touch the uint8 pixels made here.

    >>> Preprocess(height=32, width=32, channels=1, fit="centre").pixels(np.full((28, 28), 9, np.uint8)).shape
    (32, 32, 1)
    """

    height: int
    width: int
    channels: int
    fit: str
    interpolation: str = "bilinear"
    pad_value: int = 0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    crop_fraction: float = 1.0

    def __post_init__(self) -> None:
        for name, lowest, highest in (("height", 1, 65_536), ("width", 1, 65_536), ("pad_value", 0, 255)):
            _check_whole(name, getattr(self, name), lowest, highest)
        _check_choice("channels", self.channels, (1, 3))
        _check_choice("fit", self.fit, FITS)
        _check_choice("interpolation", self.interpolation, INTERPOLATIONS)
        object.__setattr__(self, "mean", _per_channel("mean", self.mean, 0.0, self.channels))
        object.__setattr__(self, "std", _per_channel("std", self.std, 1.0, self.channels))
        if min(self.std) <= 0:
            raise DataError(f"preprocess: std = {self.std} must be above 0.")
        object.__setattr__(self, "crop_fraction", _fraction("crop_fraction", self.crop_fraction))
        if self.crop_fraction < 1 and self.fit != "crop":
            raise DataError(
                f"preprocess: crop_fraction = {self.crop_fraction:g} has a meaning for fit = crop only; "
                f"with fit = {self.fit} leave it at 1."
            )

    def pixels(self, image: Encoded | Pixels) -> Pixels:
        """The network's pixels: uint8 (height, width, channels).

        An image that already has that shape comes back as it is, unless ``crop_fraction`` cuts a part out of it.

        Args:
            image: encoded bytes, a file, or decoded uint8 pixels (H, W) or (H, W, 1 or 3).

        Raises:
            DecodeError: the file cannot be read; the reason, without its name.
            DataError: an array of another kind.
        """
        if isinstance(image, np.ndarray):
            image = _with_channels(image)
            if image.shape == self.shape and self.crop_fraction == 1:
                return image
            picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        else:
            height, width = (math.ceil(side / self.crop_fraction) for side in (self.height, self.width))
            picture = decode_picture(image, least=(height, width))  # of the whole, once its part fills the field
        if self.channels == 1:
            picture = picture.convert("L")  # ITU-R 601 luma
        fitted = np.array(self._fitted(picture))
        if fitted.ndim == 3:
            return fitted
        pixels = np.empty(self.shape, np.uint8)
        for channel in range(self.channels):  # several times as fast as np.repeat
            pixels[..., channel] = fitted
        return pixels

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of what ``pixels`` gives."""
        return self.height, self.width, self.channels

    def with_statistics(self, mean: Sequence[float], std: Sequence[float]) -> Self:
        """The same pixels, normalized by other numbers."""
        return dataclasses.replace(self, mean=tuple(mean), std=tuple(std))

    def pixel_key(self) -> str:
        """A SHA-256 of all that decides the uint8 pixels (so not of mean and std)."""
        deciding = self.to_dict() | {"mean": None, "std": None, "decode_version": _DECODE_VERSION}
        if self.crop_fraction == 1:
            del deciding["crop_fraction"]  # the key of the same pixels before there were fractions, so packs stay valid
        return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """The contract as JSON will hold it."""
        return dataclasses.asdict(self) | {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The contract as ``to_dict`` gave it; the first versions had no crop_fraction.

        Raises:
            DataError: a key is missing or unknown, or a value is out of range.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if missing := sorted(known - values.keys() - {"crop_fraction"}):
            raise DataError(f"preprocess: {', '.join(missing)} missing; the file is damaged or of another version.")
        if unknown := sorted(values.keys() - known):
            raise DataError(f"preprocess: {', '.join(unknown)} unknown; the file is damaged or of another version.")
        return cls(**values)

    def _fitted(self, picture: Image.Image) -> Image.Image:
        field = (self.width, self.height)
        method = INTERPOLATIONS[self.interpolation]
        match self.fit:
            case "squash":
                return picture.resize(field, method)
            case "crop":
                return picture.resize(field, method, box=_centre_box(picture.size, field, self.crop_fraction))
            case _:
                inside = _size_inside(picture.size, field, enlarge=self.fit == "pad")
                return _centred(picture.resize(inside, method), field, self.pad_value)


def suggest_preprocess(
    facts: Sequence[ImageFacts],
    *,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    fit: str | None = None,
    crop_fraction: float | None = None,
    interpolation: str | None = None,
    model_input: tuple[int, int] | None = None,
) -> Preprocess:
    """The contract that suits these images; what is given explicitly wins.

    Args:
        image_size: (height, width), or the side of a square.
        crop_fraction: below 1 it makes ``fit`` "crop" where that is not given.
        model_input: (height, width) of a network that is built for one size only.

    Raises:
        DataError: no image, or a setting out of range.
    """
    if not facts:
        raise DataError("no image could be read, so there is nothing to learn the size from.")
    sizes = {(fact.height, fact.width) for fact in facts}
    if isinstance(image_size, int):
        image_size = image_size, image_size
    height, width = image_size or model_input or _usual_size(facts, sizes)
    crop_fraction = 1.0 if crop_fraction is None else crop_fraction
    fits_as_is = len(sizes) == 1 and all(h <= height and w <= width for h, w in sizes)
    return Preprocess(
        height=height,
        width=width,
        channels=channels or (1 if all(fact.is_grey for fact in facts) else 3),
        fit=fit or _usual_fit(crop_fraction, keeps_size=fits_as_is and image_size is None),
        crop_fraction=crop_fraction,
        interpolation=interpolation or "bilinear",
    )


def share_kept_by_crop(facts: Sequence[ImageFacts], field: tuple[int, int]) -> float:
    """The share of a picture that has the shape of the field (height, width) and lies in its middle; the median.

    >>> share_kept_by_crop([ImageFacts(width=30, height=90, is_grey=False)], (224, 224))
    0.3333333333333333
    """
    shapes = ((fact.width / fact.height) / (field[1] / field[0]) for fact in facts)
    return statistics.median(min(shape, 1 / shape) for shape in shapes)


def _usual_fit(crop_fraction: float, *, keeps_size: bool) -> str:
    """Who asks for a size wants it filled."""
    if crop_fraction < 1:
        return "crop"
    return "centre" if keeps_size else "pad"


def _usual_size(facts: Sequence[ImageFacts], sizes: set[tuple[int, int]]) -> tuple[int, int]:
    """The size that all small images share, else a square of about the median long side, from 32 to 128."""
    if len(sizes) == 1 and max(size := next(iter(sizes))) <= 128:
        return size
    long_side = statistics.median(max(fact.height, fact.width) for fact in facts)
    side = min(max(8 * math.ceil(long_side / 8), 32), 128)
    return side, side


def _with_channels(pixels: Pixels) -> Pixels:
    """(H, W) or (H, W, C) as (H, W, C)."""
    shape = pixels.shape if pixels.ndim == 3 else (*pixels.shape, 1)
    if pixels.dtype != np.uint8 or len(shape) != 3 or shape[2] not in (1, 3) or 0 in shape:
        raise DataError(
            f"an image must be uint8 of shape (H, W), (H, W, 1) or (H, W, 3); this is {pixels.dtype} {pixels.shape}."
        )
    return pixels.reshape(shape)


# Sizes below are Pillow's: (width, height).


def _centre_box(size: tuple[int, int], field: tuple[int, int], fraction: float) -> tuple[float, float, float, float]:
    """``fraction`` of the sides of the largest centred part of the field's shape, in pixels and their fractions."""
    (width, height), (field_width, field_height) = size, field
    part_width = min(width, height * field_width / field_height) * fraction
    part_height = min(height, width * field_height / field_width) * fraction
    left, top = (width - part_width) / 2, (height - part_height) / 2
    return left, top, left + part_width, top + part_height


def _size_inside(size: tuple[int, int], field: tuple[int, int], *, enlarge: bool) -> tuple[int, int]:
    """The size of the whole picture scaled into the field; no side falls to 0."""
    scale = min(field[0] / size[0], field[1] / size[1])
    if scale >= 1 and not enlarge:
        return size
    width, height = (min(max(round(side * scale), 1), limit) for side, limit in zip(size, field, strict=True))
    return width, height


def _centred(picture: Image.Image, field: tuple[int, int], pad_value: int) -> Image.Image:
    if picture.size == field:
        return picture
    canvas = Image.new(picture.mode, field, pad_value if picture.mode == "L" else (pad_value,) * 3)
    canvas.paste(picture, ((field[0] - picture.width) // 2, (field[1] - picture.height) // 2))
    return canvas


def _check_whole(name: str, value: object, lowest: int, highest: int) -> None:
    if type(value) is not int or not lowest <= value <= highest:
        raise DataError(f"preprocess: {name} = {value!r} must be a whole number from {lowest} to {highest}.")


def _check_choice(name: str, value: object, choices: Sequence[object] | Mapping[str, object]) -> None:
    if value not in tuple(choices):
        raise DataError(f"preprocess: {name} = {value!r} must be one of {', '.join(map(str, choices))}.")


def _fraction(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.01 <= value <= 1:
        raise DataError(f"preprocess: {name} = {value!r} must be a number from 0.01 to 1.")
    return float(value)


def _per_channel(name: str, values: object, default: float, channels: int) -> tuple[float, ...]:
    if not isinstance(values, list | tuple) or len(values) not in (0, channels):
        raise DataError(f"preprocess: {name} = {values!r} must have {channels} numbers.")
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        raise DataError(f"preprocess: {name} = {values!r} must be finite numbers.")
    return tuple(map(float, values)) or (default,) * channels

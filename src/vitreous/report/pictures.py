"""Arrays into pictures inside the page: colours first (that is what tests look at), then bytes."""

import base64
import io
from dataclasses import dataclass

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

MAX_SIDE_PX = 256  # a larger picture is shrunk before it goes into the page
_PIXELATED_UP_TO_PX = 96  # up to here pixels are shown as squares, and kept exactly (PNG)
_MOST_INK, _FAINTER = 0.85, 0.75  # of a map over an image, which is seen under it; the power that lifts faint values
_FULL_COLOUR = 0.7  # on the scale of the signed colours: neither pale nor nearly black
_COLOURS = "RdBu_r"  # blue below 0, white at 0, red above; told apart by all kinds of colour vision


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of the page; ``is_pixelated`` where its pixels should be seen as squares."""

    uri: str
    width: int
    height: int

    @property
    def is_pixelated(self) -> bool:
        return max(self.width, self.height) <= _PIXELATED_UP_TO_PX


def picture(pixels_HWC: NDArray[np.uint8]) -> Picture:
    """A picture from H,W,1 or H,W,3; exact where it is small, JPEG and at most ``MAX_SIDE_PX`` where it is large."""
    image = Image.fromarray(pixels_HWC[:, :, 0] if pixels_HWC.shape[2] == 1 else np.ascontiguousarray(pixels_HWC))
    file = io.BytesIO()
    if max(image.size) <= _PIXELATED_UP_TO_PX:
        kind = "png"
        image.save(file, "PNG", optimize=True)
    else:
        kind = "jpeg"
        image.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX))
        image.save(file, "JPEG", quality=85)
    uri = f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
    return Picture(uri, *image.size)


def signed_colours(values: NDArray[np.floating], limit: float) -> NDArray[np.uint8]:
    """Colours of signed values, one scale from -limit (blue) over 0 (white) to limit (red): shape + (3,).

    >>> signed_colours(np.array([0.0]), 1.0).tolist()
    [[247, 246, 246]]
    """
    shares = np.clip((values / limit + 1) / 2, 0, 1) if limit > 0 else np.full(values.shape, 0.5)
    return np.asarray(matplotlib.colormaps[_COLOURS](shares, bytes=True)[..., :3])


def filter_colours(filters_KCHW: NDArray[np.floating], limit: float) -> NDArray[np.uint8]:
    """Colours of filters on grey (C = 1: signed colours) or on red, green and blue (C = 3: mid-grey is 0): K,H,W,3."""
    if filters_KCHW.shape[1] == 1:
        return signed_colours(filters_KCHW[:, 0], limit)
    shares = filters_KCHW.transpose(0, 2, 3, 1) / (2 * limit) + 0.5 if limit > 0 else np.full((1,), 0.5)
    return np.asarray(np.rint(np.broadcast_to(shares, filters_KCHW.transpose(0, 2, 3, 1).shape) * 255).astype(np.uint8))


def over(pixels_HWC: NDArray[np.uint8], map_HW: NDArray[np.floating], limit: float) -> NDArray[np.uint8]:
    """The image in grey, inked red where a map is above 0 and blue below it, fully at +-limit: H,W,3."""
    grey_HW1 = pixels_HWC.mean(axis=2, keepdims=True)
    shares_HW1 = np.clip(np.abs(map_HW) / limit, 0, 1)[..., None]
    ink_HW1 = _MOST_INK * shares_HW1**_FAINTER  # faint values would not be seen
    colours_HW3 = signed_colours(np.sign(map_HW) * _FULL_COLOUR, 1.0)
    return np.asarray(np.rint(grey_HW1 * (1 - ink_HW1) + colours_HW3 * ink_HW1).astype(np.uint8))


def scale_bar() -> Picture:
    """The signed colour scale itself, from its lower end to its upper."""
    return picture(signed_colours(np.linspace(-1, 1, 64)[None, :], 1.0))

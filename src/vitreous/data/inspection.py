"""One look at each image: is all of it there, what does its file say of itself, and how it looks in 32 x 32 pixels.

Every image is decoded once, to its last byte. What was seen is kept in the cache under the image's content hash, so
that a second look at the same files takes seconds, and one at a changed folder costs only what is new.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageFile

from vitreous.data.cache import keep_rows, kept_rows
from vitreous.data.decode import FORMATS, Pixels, decode, opened, orientation
from vitreous.data.images import ArrayImages, BrokenImage, FileImages, Images
from vitreous.data.preprocess import Preprocess
from vitreous.data.threads import map_images
from vitreous.errors import DecodeError
from vitreous.progress import SILENT, Progress

SIDE = 32  # of the small picture; its perceptual hash needs no more

_FORMATS = ("in an array", *FORMATS)
_VERSION = 1  # one more whenever a look gives other numbers for some image

# What is kept of an image. Sizes are those of the upright picture, in pixels.
LOOK = np.dtype(
    [
        ("content", "u1", (32,)),  # its content hash
        ("height", "i4"),
        ("width", "i4"),
        ("format", "u1"),  # an index into _FORMATS
        ("mode", "S8"),  # Pillow's name of what the file stores: L, RGB, P, CMYK, I;16 ...
        ("is_grey", "?"),  # the file stores no colour
        ("bits", "u1"),  # of one channel, as stored
        ("orientation", "u1"),  # EXIF; 1 is upright
        ("is_animated", "?"),  # it holds further pictures
        ("is_transparent", "?"),  # somewhere, and be it a little
        ("colour", "u1"),  # the largest difference between the channels of a pixel of the small picture
        ("spread", "f4"),  # standard deviation of all levels, 0 to 127.5
        ("phash", "u8"),  # perceptual hash of the small picture (imagehash.phash)
        ("small", "u1", (SIDE, SIDE, 3)),
    ]
)
Looks = NDArray[Any]  # of dtype LOOK

_SMALL = Preprocess(height=SIDE, width=SIDE, channels=3, fit="squash")


@dataclass(frozen=True)
class Inspection:
    """What was seen of the N images of a source.

    ``looks`` (M, of dtype LOOK) holds those that can be read, ``readable`` (M) their indices; ``broken`` the others.
    """

    looks: Looks
    readable: NDArray[np.int64]
    broken: tuple[BrokenImage, ...]

    def formats(self) -> list[str]:
        """The format of each readable image: JPEG, PNG, ..., or "in an array"."""
        return [_FORMATS[number] for number in self.looks["format"]]


def inspect_images(images: Images, hashes: Sequence[str], progress: Progress = SILENT) -> Inspection:
    """Look at every image; at those that were looked at before, in the cache.

    Args:
        hashes: the content hash of each image, "" where it cannot be read.

    Raises:
        MachineError: no space, or no right to write, where the cache lies.
    """
    kind = "files" if isinstance(images, FileImages) else "arrays"
    prefix = f"looks-{_VERSION}-{kind}-{PIL.__version__}-"
    key = prefix + hashlib.sha256("\n".join(hashes).encode()).hexdigest()
    looks, reasons = keep_rows(key, len(images), (), LOOK, lambda: _rows(images, hashes, prefix, progress), progress)
    return Inspection(
        looks,
        np.setdiff1d(np.arange(len(images)), np.array(list(reasons), dtype=np.int64)),
        tuple(BrokenImage(i, images.name(i), reason) for i, reason in sorted(reasons.items())),
    )


def _rows(images: Images, hashes: Sequence[str], prefix: str, progress: Progress) -> Iterator[NDArray[Any] | str]:
    known = _known(set(hashes), prefix)
    if len(known) == len(set(hashes)):
        progress = SILENT  # nothing to wait for

    def row(i: int) -> NDArray[Any] | str:
        earlier = known.get(hashes[i])
        return _look(images, i, hashes[i]) if earlier is None else earlier

    return map_images(row, len(images), title="looking at images", progress=progress)


def _known(hashes: set[str], prefix: str) -> dict[str, NDArray[Any]]:
    """The looks of these contents in earlier packs."""
    known: dict[str, NDArray[Any]] = {}
    for looks in kept_rows(prefix, LOOK):
        contents = (content.tobytes().hex() for content in looks["content"])
        known |= {content: looks[i] for i, content in enumerate(contents) if content in hashes}
        if len(known) == len(hashes):
            break
    return known


def _look(images: Images, i: int, content_hash: str) -> NDArray[Any] | str:
    """One row, or the reason why the image cannot be read."""
    look = np.zeros((), LOOK)
    try:
        pixels = _read_file(images, i, look) if isinstance(images, FileImages) else _read_array(images, i, look)
    except DecodeError as error:
        return str(error)
    small = _SMALL.pixels(pixels)
    look["content"] = np.frombuffer(bytes.fromhex(content_hash or "00" * 32), np.uint8)
    look["is_grey"] = pixels.shape[2] == 1
    look["spread"] = pixels.std(dtype=np.float32)
    look["colour"] = np.ptp(small, axis=2).max()
    look["small"] = small
    look["phash"] = _perceptual_hash(small)
    return look


def _read_array(images: Images, i: int, look: NDArray[Any]) -> Pixels:
    assert isinstance(images, ArrayImages)
    pixels: Pixels = images.array[i]
    look["height"], look["width"], channels = pixels.shape
    look["mode"], look["bits"], look["orientation"] = "L" if channels == 1 else "RGB", 8, 1
    return pixels


def _read_file(images: FileImages, i: int, look: NDArray[Any]) -> Pixels:
    path = images.paths[i]
    with opened(path) as image:
        look["format"] = _FORMATS.index(str(image.format))
        look["mode"], look["bits"] = image.mode, _bits(image)
        look["orientation"] = orientation(image) if image.format != "PNG" or "exif" in image.info else 1
        look["width"], look["height"] = image.size if look["orientation"] < 5 else image.size[::-1]
        look["is_transparent"] = image.has_transparency_data and _without_fail(lambda: _is_transparent(image))
        look["is_animated"] = _without_fail(lambda: bool(getattr(image, "is_animated", False)))  # may leave the first
    return decode(path, least=(SIDE, SIDE))


def _without_fail(look: Callable[[], bool]) -> bool:
    """False where a damaged part that the picture does not need stands in the way."""
    try:
        return look()
    except Exception:  # Pillow raises whatever the bytes provoke; decoding tells whether the picture suffers
        return False


def _is_transparent(image: ImageFile.ImageFile) -> bool:
    layered = image if image.mode in ("RGBA", "LA") else image.convert("RGBA")
    return bool(np.asarray(layered.getchannel("A")).min() < 255)


def _bits(image: ImageFile.ImageFile) -> int:
    """Of one channel as the file stores it: Pillow itself gives 16-bit colour as 8."""
    if image.mode == "1":
        return 1
    if image.mode.startswith("I;16"):
        return 16
    rawmode = str(image.tile[0].args) if image.tile else ""
    return 16 if ";16" in rawmode else 8


def _perceptual_hash(small: Pixels) -> int:
    import imagehash

    bits = imagehash.phash(Image.fromarray(small)).hash
    return int.from_bytes(np.packbits(bits).tobytes(), "big")

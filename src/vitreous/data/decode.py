"""THE decode: from an encoded file to an upright 8-bit picture, or to a reason in plain words.

Every path takes this one (training, evaluation, prediction, export, serving), so that the same file is the same pixels
everywhere. Pillow's ``verify()`` passes a half-cut JPEG; here a picture counts as read when all its pixels are.
"""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageCms,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from vitreous.errors import DecodeError, MachineError

Encoded: TypeAlias = bytes | Path
Pixels: TypeAlias = npt.NDArray[np.uint8]

FORMATS = {
    "JPEG": JpegImagePlugin,  # each registers itself in Image.OPEN; Pillow's other formats stay shut
    "PNG": PngImagePlugin,
    "WEBP": WebPImagePlugin,
    "BMP": BmpImagePlugin,
    "GIF": GifImagePlugin,
    "TIFF": TiffImagePlugin,
}
MAX_PIXELS = 64_000_000

_GREY_MODES = {"1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N"}
_REFUSED_MODES = {"I": "32-bit integers", "F": "floating-point numbers"}

# What each EXIF orientation needs to stand upright (EXIF 2.3, tag 0x0112); 5 to 8 swap height and width.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_BITS_PER_SAMPLE = 258  # TIFF 6.0, section 8; Pillow gives 12 bits as 16 with the upper ones empty

_WARNINGS_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What the header tells: the size in pixels once upright, and whether there is no colour."""

    height: int
    width: int
    is_grey: bool


def inspect(source: Encoded) -> ImageFacts:
    """Read the header only.

    A PNG whose EXIF block lies behind its pixels is reported as it is stored; ``decode`` turns it.

    Raises:
        DecodeError: the reason, without the file's name.
    """
    with opened(source) as image:
        width, height = image.size
        if _is_sideways(image):
            height, width = width, height
        return ImageFacts(height, width, image.mode in _GREY_MODES)


def decode(source: Encoded, least: tuple[int, int] | None = None) -> Pixels:
    """The whole picture, upright: uint8 (H, W, 3), or (H, W, 1) where the file is grey.

    Transparency is laid on white, 12- and 16-bit grey is scaled to 8 bits, CMYK and LAB become RGB, an animation gives
    its first frame.

    Args:
        least: (height, width) that the caller will scale to. A JPEG is then decoded at its codec's largest reduction
            (1, 1/2, 1/4, 1/8) that has at least twice that on both axes: a pure function of its size and ``least``.

    Raises:
        DecodeError: the reason, without the file's name.
    """
    with opened(source) as image:
        pixels = np.array(_picture(image, least))
        return pixels[..., None] if pixels.ndim == 2 else pixels


def decode_picture(source: Encoded, least: tuple[int, int] | None = None) -> Image.Image:
    """What ``decode`` gives, as Pillow's picture: RGB, or L where the file is grey.

    Raises:
        DecodeError: the reason, without the file's name.
    """
    with opened(source) as image:
        return _picture(image, least)


@contextmanager
def opened(source: Encoded) -> Iterator[ImageFile.ImageFile]:
    """The file behind its header, of an allowed size; a failure of Pillow inside the context gets its plain reason."""
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else _regular_file(source) as file:
            image = _identified(file)
            _check_size_and_mode(image)
            yield image
    except (DecodeError, MachineError):
        raise
    except MemoryError:
        raise MachineError("not enough memory to decode an image; close other programs or use fewer cores.") from None
    except (
        Exception
    ) as error:  # Pillow raises whatever the bytes provoke: OSError, SyntaxError, struct.error, KeyError ...
        raise DecodeError(_reason(error)) from error


def _regular_file(path: Path) -> IO[bytes]:
    if path.exists() and not path.is_file():  # opening a pipe would wait for ever
        raise DecodeError("is not a regular file")
    return path.open("rb")


def _identified(file: IO[bytes]) -> ImageFile.ImageFile:
    """Like ``Image.open``, but the first bytes alone choose the format, and size is judged by us, who can name it."""
    prefix = file.read(16)
    if not prefix:
        raise DecodeError("is empty (0 bytes)")
    for name in FORMATS:
        factory, accepts = Image.OPEN[name]
        if accepts is None or accepts(prefix):
            file.seek(0)
            with _unwarned():
                image = factory(file, "")
                if name == "TIFF":
                    image.getexif()  # kept by the image, whose load() would read it outside of this context
            return image
    raise DecodeError("is not a JPEG, PNG, WebP, BMP, GIF or TIFF image")


@contextmanager
def _unwarned() -> Iterator[None]:
    """Metadata may be odd without harm to the picture; the same pixels must come whatever the warning filters are."""
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _check_size_and_mode(image: ImageFile.ImageFile) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise DecodeError("has no pixels")
    if width * height > MAX_PIXELS:
        raise DecodeError(f"has {width} x {height} pixels; the limit is {MAX_PIXELS // 1_000_000} million")
    if image.mode in _REFUSED_MODES:
        raise DecodeError(f"holds {_REFUSED_MODES[image.mode]}; save it with 8 or 16 bits")


def orientation(image: ImageFile.ImageFile) -> int:
    """The EXIF orientation, 1 to 8; 1 where it is absent or its block is damaged."""
    if image.format == "TIFF":  # Pillow turns these itself, and gives the upright size
        return 1
    try:
        with _unwarned():
            return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # the picture may be whole though its metadata is not
        return 1


def _is_sideways(image: ImageFile.ImageFile) -> bool:
    in_header = image.format != "PNG" or "exif" in image.info  # else getexif would decode the whole PNG to look for it
    return in_header and orientation(image) >= 5


def _picture(image: ImageFile.ImageFile, least: tuple[int, int] | None) -> Image.Image:
    if least is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
        height, width = reversed(least) if _is_sideways(image) else least
        image.draft(None, (2 * width, 2 * height))
    image.load()
    return _eight_bit(_turned(image))


def _turned(image: ImageFile.ImageFile) -> Image.Image:
    method = _UPRIGHT.get(orientation(image))
    return image if method is None else image.transpose(method)


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return _from_16_bit(image)
    mode = "L" if image.mode in _GREY_MODES else "RGB"
    if image.has_transparency_data:
        canvas = Image.new("RGBA", image.size, "white")
        canvas.alpha_composite(image.convert("RGBA"))
        return canvas.convert(mode)
    return _from_lab(image) if image.mode == "LAB" else image.convert(mode)


def _from_16_bit(image: Image.Image) -> Image.Image:
    """The highest level -> 255, the others to the nearest; a transparent level becomes white."""
    levels = np.array(image).astype(np.uint32)
    is_12_bit = isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(_BITS_PER_SAMPLE) == (12,)
    highest = 4095 if is_12_bit else 65535
    pixels = ((levels * 255 + highest // 2) // highest).clip(max=255).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        pixels[levels == transparent] = 255
    return Image.fromarray(pixels)


def _from_lab(image: Image.Image) -> Image.Image:
    profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.applyTransform(image, ImageCms.buildTransform(*profiles, "LAB", "RGB"))
    assert converted is not None
    return converted


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be read: {error.strerror}"
    if isinstance(error, Image.DecompressionBombError):  # a frame larger than its file's header said
        return f"has too many pixels; the limit is {MAX_PIXELS // 1_000_000} million"
    if "truncated" in str(error).lower() or isinstance(error, EOFError):
        return "is cut short"
    return f"is damaged ({str(error) or type(error).__name__})"

"""Image files of every kind that a folder may hold: ordinary, odd, damaged, hostile; each with the verdict it must get.

They are made here, from a picture whose pixels are known, so what a readable one must show is known too.
"""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

_ORIENTATION = 0x0112  # the EXIF tag
_PNG = b"\x89PNG\r\n\x1a\n"
# How a scene lies in the file for each EXIF orientation (EXIF 2.3); numpy undoes what the decoder must do.
_STORED: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@dataclass(frozen=True, slots=True)
class Specimen:
    """One file. ``refused`` is a word of the reason that must be given, or None: then ``pixels`` must be seen.

    ``tolerance`` is the mean difference in levels that a lossy format may make.
    """

    name: str
    data: bytes
    refused: str | None = None
    pixels: Pixels | None = None  # H,W,C
    tolerance: float = 0.0


def specimens() -> list[Specimen]:
    """All of them; the same bytes on every machine with the same Pillow."""
    return [
        *_ordinary(),
        *_turned(),
        *_deep(),
        *_transparent(),
        *_coloured(),
        *_moving(),
        *_odd(),
        *_damaged(),
        *_hostile(),
    ]


def _scene(height: int = 40, width: int = 60) -> Pixels:
    """A smooth picture in colour that no turn or mirror leaves as it is."""
    y, x = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1)
    waves = [127 + 120 * np.sin(2 * np.pi * (x * (1 + p) + y * y + p)) for p in (0.3, 0.1, 0.7)]
    return np.stack(waves, axis=-1).astype(np.uint8)


def _grey() -> Pixels:
    return _scene()[..., :1]


def _encode(pixels: NDArray[Any] | Image.Image, format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(file, format, **options)
    return file.getvalue()


def _ordinary() -> Iterator[Specimen]:
    scene, grey = _scene(), _grey()
    for format in ("PNG", "BMP", "TIFF"):
        yield Specimen(f"colour.{format.lower()}", _encode(scene, format), pixels=scene)
        yield Specimen(f"grey.{format.lower()}", _encode(grey[..., 0], format), pixels=grey)
    yield Specimen("lossless.webp", _encode(scene, "WEBP", lossless=True), pixels=scene)
    yield Specimen("lossy.webp", _encode(scene, "WEBP", quality=95), pixels=scene, tolerance=4)
    yield Specimen("colour.jpg", _encode(scene, "JPEG", quality=95), pixels=scene, tolerance=4)
    yield Specimen("grey.jpg", _encode(grey[..., 0], "JPEG", quality=95), pixels=grey, tolerance=2)
    yield Specimen("progressive.jpg", _encode(scene, "JPEG", quality=95, progressive=True), pixels=scene, tolerance=4)
    yield Specimen("256 colours.gif", _encode(scene, "GIF"), pixels=scene, tolerance=12)
    for compression in ("tiff_deflate", "tiff_lzw", "packbits"):
        yield Specimen(f"{compression}.tif", _encode(scene, "TIFF", compression=compression), pixels=scene)


def _turned() -> Iterator[Specimen]:
    scene = _scene()
    for orientation, stored in _STORED.items():
        exif = Image.Exif()
        exif[_ORIENTATION] = orientation
        lying = np.ascontiguousarray(stored(scene))
        yield Specimen(f"orientation {orientation}.png", _encode(lying, exif=exif), pixels=scene)
        jpeg = _encode(lying, "JPEG", quality=95, exif=exif)
        yield Specimen(f"orientation {orientation}.jpg", jpeg, pixels=scene, tolerance=4)


def _deep() -> Iterator[Specimen]:
    """More or fewer than eight bits: the brightest stays the brightest, and what lies between keeps its place."""
    levels = np.linspace(0, 65535, 2400).round().astype(np.uint16).reshape(40, 60)
    eight = ((levels.astype(np.float64) / 257).round()).astype(np.uint8)[..., None]
    yield Specimen("16 bits.png", _encode(levels), pixels=eight)
    yield Specimen("16 bits.tif", _encode(levels, "TIFF"), pixels=eight)
    big_endian = _tiff(levels.astype(">u2").tobytes(), (40, 60), bits=16, order=">")
    yield Specimen("16 bits, big end first.tif", big_endian, pixels=eight)
    deep = np.stack([levels, levels[::-1], levels], axis=-1)
    top = (deep >> 8).astype(np.uint8)
    colour = _png(_rows(deep.astype(">u2").view(np.uint8).reshape(40, -1)), 60, 40, depth=16, colour=2)
    yield Specimen("16 bits in colour.png", colour, pixels=top, tolerance=1)
    twelve = (np.arange(2400) % 4096).astype(np.uint16).reshape(40, 60)
    shown = (twelve.astype(np.float64) * 255 / 4095).round().astype(np.uint8)[..., None]
    yield Specimen("12 bits.tif", _tiff(_packed_12(twelve), (40, 60), bits=12, order="<"), pixels=shown)
    black_or_white = np.where(_grey() > 127, 255, 0).astype(np.uint8)
    bits = Image.fromarray(black_or_white[..., 0]).convert("1", dither=Image.Dither.NONE)
    yield Specimen("1 bit.png", _encode(bits), pixels=black_or_white)
    yield Specimen("1 bit, group 4.tif", _encode(bits, "TIFF", compression="group4"), pixels=black_or_white)
    four = np.tile(np.arange(16, dtype=np.uint8), (16, 1))
    packed = (four[:, ::2] << 4) | four[:, 1::2]
    yield Specimen("4 bits.png", _png(_rows(packed), 16, 16, depth=4, colour=0), pixels=(four * 17)[..., None])


def _transparent() -> Iterator[Specimen]:
    """What shows through is white."""
    scene = _scene()
    alpha = np.full((40, 60, 1), 255, np.uint8)
    alpha[:, :30] = 0
    half = np.where(alpha == 0, 255, scene).astype(np.uint8)
    yield Specimen("alpha.png", _encode(np.concatenate([scene, alpha], axis=2)), pixels=half)
    webp = _encode(np.concatenate([scene, alpha], axis=2), "WEBP", lossless=True)
    yield Specimen("alpha.webp", webp, pixels=half)
    grey = np.concatenate([_grey(), alpha], axis=2)
    white = np.where(alpha == 0, 255, _grey()).astype(np.uint8)
    yield Specimen("grey with alpha.png", _encode(Image.fromarray(grey, "LA")), pixels=white)
    palette = Image.new("P", (60, 40), 1)
    palette.putpalette([255, 0, 0, 0, 0, 255])  # red below what is transparent
    palette.paste(0, (0, 0, 30, 40))
    seen = np.full((40, 60, 3), 255, np.uint8)
    seen[:, 30:] = (0, 0, 255)
    yield Specimen("palette with a hidden colour.png", _encode(palette, transparency=0), pixels=seen)
    yield Specimen("palette with a hidden colour.gif", _encode(palette, "GIF", transparency=0), pixels=seen)


def _coloured() -> Iterator[Specimen]:
    scene = _scene()
    cmyk = Image.fromarray(scene).convert("CMYK")
    back = np.asarray(cmyk.convert("RGB"))
    yield Specimen("cmyk.jpg", _encode(cmyk, "JPEG", quality=95), pixels=back, tolerance=4)
    yield Specimen("cmyk.tif", _encode(cmyk, "TIFF"), pixels=back)
    ycc = Image.fromarray(scene).convert("YCbCr")
    yield Specimen("ycbcr.jpg", _encode(ycc, "JPEG", quality=95), pixels=scene, tolerance=4)
    palette = Image.fromarray(scene).quantize(64)
    yield Specimen("palette.png", _encode(palette), pixels=np.asarray(palette.convert("RGB")))
    yield Specimen("palette.bmp", _encode(palette, "BMP"), pixels=np.asarray(palette.convert("RGB")))


def _moving() -> Iterator[Specimen]:
    """Of what moves, the first frame."""
    scene = _scene()
    others = [Image.fromarray(255 - scene), Image.fromarray(scene[::-1])]
    more: dict[str, Any] = {"save_all": True, "append_images": others}
    yield Specimen("moving.gif", _encode(scene, "GIF", **more), pixels=scene, tolerance=12)
    yield Specimen("moving.webp", _encode(scene, "WEBP", lossless=True, **more), pixels=scene)
    yield Specimen("moving.png", _encode(scene, **more), pixels=scene)
    yield Specimen("pages.tif", _encode(scene, "TIFF", **more), pixels=scene)


def _odd() -> Iterator[Specimen]:
    """Unusual, and yet pictures."""
    scene = _scene()
    png, jpeg = _encode(scene), _encode(scene, "JPEG", quality=95)
    yield Specimen("a png named.jpg", png, pixels=scene)
    yield Specimen("no extension", png, pixels=scene)
    yield Specimen("one pixel.png", _encode(scene[:1, :1]), pixels=scene[:1, :1])
    yield Specimen("one row.png", _encode(_scene(1, 5000)), pixels=_scene(1, 5000))
    yield Specimen("words behind the end.png", png + b"and so on" * 1000, pixels=scene)
    yield Specimen("words behind the end.jpg", jpeg + b"and so on" * 1000, pixels=scene, tolerance=4)
    damaged_exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(range(40))
    yield Specimen("damaged exif.jpg", _encode(scene, "JPEG", quality=95, exif=damaged_exif), pixels=scene, tolerance=4)
    circle = b"Exif\0\0II*\0\x08\0\0\0\0\0\x08\0\0\0"  # a directory whose next one is itself
    yield Specimen("exif in a circle.jpg", _encode(scene, "JPEG", quality=95, exif=circle), pixels=scene, tolerance=4)
    yield Specimen("interlaced.png", _adam7(scene[:8, :8]), pixels=scene[:8, :8])


def _damaged() -> Iterator[Specimen]:
    scene = _scene()
    large = _encode(_scene(200, 300), "JPEG", quality=90)
    yield Specimen("empty.jpg", b"", refused="empty")
    yield Specimen("one byte.png", b"\x89", refused="not a JPEG")
    yield Specimen("half.jpg", large[: len(large) // 2], refused="cut short")
    yield Specimen("head only.jpg", large[:700], refused="cut short")
    yield Specimen("half.png", _encode(scene)[:2000], refused="cut short")
    yield Specimen("half.webp", _encode(scene, "WEBP")[:300], refused="damaged")
    yield Specimen("half.gif", _encode(scene, "GIF")[:1000], refused="cut short")
    yield Specimen("half.bmp", _encode(scene, "BMP")[:1000], refused="cut short")
    yield Specimen("half.tif", _encode(scene, "TIFF")[:1000], refused="cut short")
    yield Specimen("magic only.jpg", large[:3], refused="damaged")
    yield Specimen("magic only.png", _PNG, refused="damaged")
    png = _encode(scene)
    yield Specimen("a flipped byte.png", png[:500] + bytes([png[500] ^ 0xFF]) + png[501:], refused="damaged")
    yield Specimen("floats.tif", _encode(np.zeros((8, 8), np.float32), "TIFF"), refused="floating-point")
    yield Specimen("32 bits.tif", _encode(np.zeros((8, 8), np.int32), "TIFF"), refused="32-bit")
    yield Specimen("no pixels.png", _png(b"", 0, 5, depth=8, colour=2), refused="damaged")
    yield Specimen("unknown filter.png", _png(bytes([9]) + bytes(3), 1, 1, depth=8, colour=2), refused="damaged")
    yield Specimen("words.jpg", b"these are words, not pixels", refused="not a JPEG")
    yield Specimen("page.png", b"<!DOCTYPE html><html></html>", refused="not a JPEG")
    yield Specimen("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", refused="not a JPEG")
    yield Specimen("icon.png", _encode(scene[:32, :32], "ICO"), refused="not a JPEG")
    yield Specimen("targa.jpg", _encode(scene, "TGA"), refused="not a JPEG")


def _hostile() -> Iterator[Specimen]:
    """Bombs, and formats whose readers do more than read."""
    for side in (30_000, 13_000):
        bomb = _png(bytes(1000), side, side, depth=8, colour=2)
        yield Specimen(f"bomb {side}.png", bomb, refused=f"{side} x {side}")
    nothing = zlib.compress(bytes(200_000_000), 9)  # a picture of one pixel, and behind it 200 MB of noughts
    chunks = [_chunk(b"IHDR", _header(1, 1, 8, 2)), _chunk(b"IDAT", nothing), _chunk(b"IEND", b"")]
    yield Specimen("more than it says.png", _PNG + b"".join(chunks), pixels=np.zeros((1, 1, 3), np.uint8))
    text = b"zTXt", b"comment\0\0" + zlib.compress(bytes(150_000_000), 9)
    yield Specimen("text bomb.png", _with_chunks(*[text]), refused="damaged")
    many = [(b"zTXt", b"comment\0\0" + zlib.compress(b"a" * 1_000_000, 9))] * 80
    yield Specimen("many texts.png", _with_chunks(*many), refused="damaged")
    profile = b"iCCP", b"name\0\0" + zlib.compress(bytes(150_000_000), 9)
    yield Specimen("profile bomb.png", _with_chunks(profile), refused="damaged")
    jpeg = _encode(_scene(), "JPEG")
    at = jpeg.index(b"\xff\xc0") + 5
    huge = jpeg[:at] + struct.pack(">HH", 65_500, 65_500) + jpeg[at + 4 :]
    yield Specimen("bomb.jpg", huge, refused="65500 x 65500")
    gif = _encode(_scene(), "GIF")
    yield Specimen("bomb.gif", gif[:6] + struct.pack("<HH", 65_500, 65_500) + gif[10:], refused="65500 x 65500")
    bmp = _encode(_scene(), "BMP")
    yield Specimen("bomb.bmp", bmp[:18] + struct.pack("<ii", 30_000, 30_000) + bmp[26:], refused="30000 x 30000")
    claim = _tiff(bytes(100), (30_000, 30_000), bits=8, order="<")
    yield Specimen("bomb.tif", claim, refused="30000 x 30000")
    frame = gif[gif.index(b"\x2c", 13 + 768) : -1]
    yield Specimen("2000 frames.gif", gif[:-1] + frame * 2_000 + b";", pixels=_scene(), tolerance=12)
    strip = _grey().tobytes()
    circle = _tiff(strip, (40, 60), bits=8, order="<")[:-4] + struct.pack("<I", 8 + len(strip))
    yield Specimen("pages in a circle.tif", circle, pixels=_grey())
    for name, start in (
        ("postscript.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        ("photoshop.png", b"8BPS\0\x01" + bytes(60)),
        ("jpeg2000.jpg", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60)),
        ("pdf.jpg", b"%PDF-1.7\n" + bytes(60)),
        ("flashpix.png", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)),
        ("archive.png", b"PK\x03\x04" + bytes(100)),
        ("pickle.png", b"\x80\x04cos\nsystem\n(S'true'\ntR."),
        ("program.png", b"\x7fELF" + bytes(60)),
    ):
        yield Specimen(name, start, refused="not a JPEG")


# --- bytes ------------------------------------------------------------------------------------------------------------


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _header(width: int, height: int, depth: int, colour: int, interlace: int = 0) -> bytes:
    return struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)


def _png(rows: bytes, width: int, height: int, *, depth: int, colour: int, interlace: int = 0) -> bytes:
    """A PNG whose header says a size, whatever the rows hold."""
    header = _chunk(b"IHDR", _header(width, height, depth, colour, interlace))
    return _PNG + header + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")


def _rows(bytes_HB: NDArray[Any]) -> bytes:
    """Unfiltered: a 0 before each row."""
    return b"".join(b"\0" + row.tobytes() for row in bytes_HB)


def _with_chunks(*chunks: tuple[bytes, bytes]) -> bytes:
    """An ordinary PNG with more behind its header."""
    png = _encode(_scene())
    end = len(_PNG) + 25
    return png[:end] + b"".join(_chunk(*each) for each in chunks) + png[end:]


def _adam7(pixels_HWC: Pixels) -> bytes:
    """The seven passes of an interlaced PNG (PNG specification, section 8.2)."""
    starts = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    height, width = pixels_HWC.shape[:2]
    passes = (pixels_HWC[y::down, x::right] for y, x, down, right in starts)
    rows = b"".join(_rows(each.reshape(len(each), -1)) for each in passes)
    return _png(rows, width, height, depth=8, colour=2, interlace=1)


def _packed_12(levels_HW: NDArray[np.uint16]) -> bytes:
    """Two numbers of twelve bits in three bytes, the higher bits first."""
    first, second = levels_HW[:, ::2], levels_HW[:, 1::2]
    parts = (first >> 4, ((first & 15) << 4) | (second >> 8), second & 255)
    return np.stack(parts, axis=-1).astype(np.uint8).tobytes()


def _tiff(strip: bytes, size: tuple[int, int], *, bits: int, order: str) -> bytes:
    """One uncompressed strip of grey levels (TIFF 6.0, section 4)."""
    height, width = size
    tags = [
        *((256, width), (257, height), (258, bits), (259, 1), (262, 1)),
        *((273, 8), (277, 1), (278, height), (279, len(strip))),
    ]
    directory = struct.pack(f"{order}H", len(tags))
    directory += b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags)
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(f"{order}I", 8 + len(strip)) + strip + directory + bytes(4)

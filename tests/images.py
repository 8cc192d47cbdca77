"""A small zoo of image files for tests: ordinary ones, odd ones, and ones that must be refused."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

ORIENTATION = 0x0112


def picture(height=40, width=60, seed=0):
    """A smooth uint8 colour picture (H, W, 3) without symmetry, so that turning it shows."""
    y, x = np.mgrid[:height, :width] / [[[height]], [[width]]]
    phase = np.random.default_rng(seed).uniform(0, 1, 3)
    waves = [127 + 120 * np.sin(2 * np.pi * (x * (1 + p) + y * y + p)) for p in phase]
    return np.stack(waves, axis=-1).astype(np.uint8)


def encode(image, format="PNG", **options):
    """The bytes of an array or Pillow image in a format."""
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def with_orientation(orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def png_header(width, height):
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def broken_files():
    """Files that stand among images and cannot be read: name -> (bytes, a word of the reason)."""
    whole = encode(picture(200, 300), "JPEG", quality=90)
    return {
        "empty.jpg": (b"", "empty"),
        "half.jpg": (whole[: len(whole) // 2], "cut short"),
        "half.png": (encode(picture())[:2000], "cut short"),
        "half.webp": (encode(picture(), "WEBP")[:300], "damaged"),
        "half.gif": (encode(picture(), "GIF")[:1000], "cut short"),
        "half.bmp": (encode(picture(), "BMP")[:1000], "cut short"),
        "half.tif": (encode(picture(), "TIFF")[:1000], "cut short"),
        "magic only.jpg": (whole[:3], "damaged"),
        "text.jpg": (b"these are words, not pixels", "not a JPEG"),
        "page.html": (b"<!DOCTYPE html><html></html>", "not a JPEG"),
        "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a JPEG"),
        "icon.ico": (encode(picture(32, 32), "ICO"), "not a JPEG"),
        "zip.png": (b"PK\x03\x04" + bytes(100), "not a JPEG"),
        "bomb.png": (png_header(30_000, 30_000), "30000 x 30000"),
        "lesser bomb.png": (png_header(13_000, 13_000), "13000 x 13000"),
        "flipped.png": (flipped(encode(picture()), 500), "damaged"),
        "float.tif": (encode(np.zeros((8, 8), np.float32), "TIFF"), "floating-point"),
        "int32.tif": (encode(np.zeros((8, 8), np.int32), "TIFF"), "32-bit"),
    }


def flipped(data, position):
    return data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :]


def write_classes(root, counts, format="PNG", size=(12, 10), start=0):
    """A folder of class folders with so many distinct images each; returns ``root``."""
    root = Path(root)
    seed = start
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            seed += 1
            data = encode(picture(*size, seed=seed), format)
            (root / name / f"{number:03d}.{format.lower()}").write_bytes(data)
    return root

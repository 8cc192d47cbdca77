"""One look at each image: what its file says, and that a second look costs nothing."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.images import broken_files, encode, picture, with_orientation
from vitreous.data import inspection
from vitreous.data.arrays import open_arrays
from vitreous.data.cache import cache_root
from vitreous.data.images import FileImages
from vitreous.data.inspection import SIDE, inspect_images
from vitreous.data.prepared import hash_contents


def inspected(folder, files):
    for name, data in files.items():
        (folder / name).write_bytes(data)
    images = FileImages([folder / name for name in files], list(files))
    return inspect_images(images, hash_contents(images))


def looks(folder, files):
    found = inspected(folder, files)
    assert not found.broken
    return dict(zip(files, found.looks, strict=True))


def test_what_the_file_says_is_told(tmp_path):
    colour = picture(40, 60)
    grey16 = (picture(40, 60)[..., 0].astype(np.uint16) * 257).astype(np.uint16)
    alpha = Image.fromarray(np.dstack([colour, picture(40, 60, seed=1)[..., 0]]))
    opaque = Image.fromarray(colour).convert("RGBA")
    frames = [Image.fromarray(picture(seed=seed)) for seed in range(3)]
    found = looks(
        tmp_path,
        {
            "colour.jpg": encode(colour, "JPEG"),
            "grey.png": encode(colour[..., 0]),
            "deep.png": encode(Image.fromarray(grey16)),
            "cmyk.jpg": encode(Image.fromarray(colour).convert("CMYK"), "JPEG"),
            "alpha.png": encode(alpha),
            "opaque.png": encode(opaque),
            "animated.gif": encode(frames[0], "GIF", save_all=True, append_images=frames[1:]),
            "lying.jpg": encode(colour, "JPEG", exif=with_orientation(6)),
        },
    )
    assert [found[name]["mode"] for name in ("colour.jpg", "grey.png", "deep.png", "cmyk.jpg")] == [
        b"RGB",
        b"L",
        b"I;16",
        b"CMYK",
    ]
    assert [name for name, look in found.items() if look["bits"] > 8] == ["deep.png"]
    assert [name for name, look in found.items() if look["is_animated"]] == ["animated.gif"]
    assert [name for name, look in found.items() if look["is_transparent"]] == ["alpha.png"]
    assert [name for name, look in found.items() if look["orientation"] != 1] == ["lying.jpg"]
    assert [name for name, look in found.items() if look["is_grey"]] == ["grey.png", "deep.png"]
    assert found["lying.jpg"][["height", "width"]].item() == (60, 40)
    assert found["colour.jpg"][["height", "width"]].item() == (40, 60)


def test_sixteen_bit_colour_is_seen_though_pillow_gives_eight(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(range(48)) for _ in range(8))  # 8 x 8 pixels of three 16-bit numbers
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0))
    png += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert looks(tmp_path, {"deep.png": png})["deep.png"]["bits"] == 16


def test_every_broken_file_is_told_with_its_reason(tmp_path):
    kinds = broken_files()
    found = inspected(tmp_path, {name: data for name, (data, _) in kinds.items()} | {"good.png": encode(picture())})
    assert len(found.looks) == 1
    assert found.readable.tolist() == [len(kinds)]
    assert [image.name for image in found.broken] == list(kinds)
    for image in found.broken:
        assert kinds[image.name][1] in image.reason


def test_the_small_picture_and_its_spread(tmp_path):
    flat, half = np.full((50, 70, 3), 90, np.uint8), np.zeros((64, 64), np.uint8)
    half[:, 32:] = 200
    found = looks(tmp_path, {"flat.png": encode(flat), "half.png": encode(half)})
    assert found["flat.png"]["small"].shape == (SIDE, SIDE, 3)
    assert (found["flat.png"]["small"] == 90).all()
    assert found["flat.png"]["spread"] == 0
    assert found["half.png"]["spread"] == pytest.approx(100)  # half of the levels at 0, half at 200
    assert (found["half.png"]["small"][:, :15] == 0).all()


def test_colour_is_that_of_the_pixels_not_of_the_file(tmp_path):
    grey = picture(64, 64)[..., :1].repeat(3, axis=2)
    found = looks(
        tmp_path, {"grey.jpg": encode(grey, "JPEG", quality=60), "colour.jpg": encode(picture(64, 64), "JPEG")}
    )
    assert not found["grey.jpg"]["is_grey"]
    assert found["grey.jpg"]["colour"] <= 8 < found["colour.jpg"]["colour"]


def test_arrays_are_looked_at_like_files(tmp_path):
    pixels = np.stack([picture(40, 60, seed=seed) for seed in range(3)])
    images = open_arrays("arrays", "npz", {"": (pixels, np.zeros(3, int))}).images
    found = inspect_images(images, hash_contents(images)).looks
    files = looks(tmp_path, {f"{i}.png": encode(each) for i, each in enumerate(pixels)})
    for array, file in zip(found, files.values(), strict=True):
        for field in ("height", "width", "spread", "phash", "small", "colour"):
            assert np.array_equal(array[field], file[field])


def test_a_second_look_decodes_only_what_is_new(tmp_path, monkeypatch):
    files = {f"{seed}.png": encode(picture(seed=100 + seed)) for seed in range(6)}
    first = inspected(tmp_path, files)
    decoded = []
    monkeypatch.setattr(inspection, "_read_file", lambda images, i, look: decoded.append(images.name(i)) or picture())
    again = inspected(tmp_path, files)
    assert not decoded
    assert again.looks.tobytes() == first.looks.tobytes()
    images = FileImages([tmp_path / name for name in ("4.png", "1.png")], ["4.png", "1.png"])
    some = inspect_images(images, hash_contents(images))
    assert not decoded
    assert some.looks.tobytes() == first.looks[[4, 1]].tobytes()
    inspected(tmp_path, {**files, "new.png": encode(picture(seed=999))})
    assert decoded == ["new.png"]


def test_a_damaged_pack_is_made_again(tmp_path):
    files = {f"{seed}.png": encode(picture(seed=200 + seed)) for seed in range(3)}
    first = inspected(tmp_path, files)
    expected = first.looks.tobytes()
    for pack in (cache_root() / "packs").glob("looks-*"):
        with (pack / "rows.bin").open("r+b") as file:
            file.truncate(100)
    assert inspected(tmp_path, files).looks.tobytes() == expected

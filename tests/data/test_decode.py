import contextlib
import io
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.images import broken_files, encode, flipped, picture, png_header, with_orientation
from vitreous.data.decode import FORMATS, ImageFacts, decode, inspect
from vitreous.errors import DecodeError


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_give_back_the_pixels(format):
    assert np.array_equal(decode(encode(picture(), format)), picture())


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_is_read_from_bytes_and_from_a_file(format, tmp_path):
    data = encode(picture(), format)
    (tmp_path / "no extension").write_bytes(data)
    assert inspect(data) == inspect(tmp_path / "no extension") == ImageFacts(height=40, width=60, is_grey=False)
    assert decode(data).shape == (40, 60, 3)
    assert np.array_equal(decode(data), decode(tmp_path / "no extension"))
    assert np.abs(decode(data).astype(int) - picture()).mean() < 12  # GIF has 256 colours


TURNS = {  # what a camera held this way writes down for an upright scene; numpy is the oracle
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_all_eight_orientations_give_the_same_upright_picture(orientation, format):
    stored = np.ascontiguousarray(TURNS[orientation](picture()))
    data = encode(stored, format, exif=with_orientation(orientation))
    assert np.array_equal(decode(data), picture())
    assert inspect(data) == ImageFacts(40, 60, is_grey=False)


@pytest.mark.parametrize("orientation", TURNS)
def test_orientation_holds_for_jpeg_at_full_and_at_reduced_scale(orientation):
    upright = picture(160, 480)
    stored = np.ascontiguousarray(TURNS[orientation](upright))
    data = encode(stored, "JPEG", quality=95, exif=with_orientation(orientation))
    assert np.abs(decode(data).astype(int) - upright).mean() < 3
    reduced = decode(data, least=(20, 30))
    assert reduced.shape == (40, 120, 3)
    assert np.abs(reduced.astype(int) - reduced_by(upright, 4)).mean() < 4


def reduced_by(pixels, factor):
    height, width, channels = pixels.shape
    blocks = pixels.reshape(height // factor, factor, width // factor, factor, channels)
    return blocks.mean(axis=(1, 3))


def test_damaged_exif_does_no_harm_to_the_picture():
    data = encode(picture(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(range(40)))
    assert inspect(data) == ImageFacts(40, 60, is_grey=False)
    assert decode(data).shape == (40, 60, 3)


def test_16_bit_grey_keeps_all_256_levels():
    gradient = np.linspace(0, 65535, 1024).round().astype(np.uint16).reshape(32, 32)
    pixels = decode(encode(gradient))
    assert inspect(encode(gradient)).is_grey
    assert pixels.shape == (32, 32, 1)
    assert len(np.unique(pixels)) == 256
    assert np.array_equal(pixels[..., 0], np.rint(gradient / 257.0))
    assert np.array_equal(decode(encode(gradient, "TIFF")), pixels)


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_grey_stays_grey(mode):
    image = Image.fromarray(picture()).convert("L").convert(mode)
    assert inspect(encode(image)).is_grey
    assert np.array_equal(decode(encode(image))[..., 0], np.array(image.convert("L")))


def test_grey_jpeg_stays_grey_at_any_scale():
    data = encode(picture(80, 80)[..., 0], "JPEG")
    assert inspect(data).is_grey
    assert decode(data).shape == (80, 80, 1)
    assert decode(data, least=(10, 10)).shape == (20, 20, 1)


def rgba():
    alpha = np.zeros((40, 60, 1), np.uint8)
    alpha[:, 20:40] = 128
    alpha[:, 40:] = 255
    return np.concatenate([picture(), alpha], axis=-1)


def assert_on_white(pixels):
    assert (pixels[:, :20] == 255).all(), "the colour behind full transparency must not show"
    half = (picture()[:, 20:40].astype(float) * 128 + 255 * 127) / 255
    assert np.abs(pixels[:, 20:40] - half).max() <= 1
    assert np.array_equal(pixels[:, 40:], picture()[:, 40:])


@pytest.mark.parametrize(
    ("format", "options"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})]
)
def test_alpha_is_laid_on_white(format, options):
    assert_on_white(decode(encode(rgba(), format, **options)))


def test_grey_alpha_is_laid_on_white_and_stays_grey():
    image = Image.fromarray(rgba()).convert("LA")
    pixels = decode(encode(image))
    assert pixels.shape == (40, 60, 1)
    assert (pixels[:, :20] == 255).all()
    assert np.array_equal(pixels[:, 40:, 0], np.array(image.getchannel("L"))[:, 40:])


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_a_transparent_palette_entry_becomes_white(format):
    image = Image.new("P", (4, 2))
    image.putpalette([200, 0, 0, 0, 0, 200])  # entry 0 hides red behind transparency
    image.paste(1, (2, 0, 4, 2))
    pixels = decode(encode(image, format, transparency=0))
    assert pixels[0].tolist() == [[255, 255, 255]] * 2 + [[0, 0, 200]] * 2


def test_a_transparent_colour_without_alpha_channel_becomes_white():
    assert decode(encode(np.full((2, 2, 3), 9, np.uint8), transparency=(9, 9, 9))).tolist() == [[[255] * 3] * 2] * 2
    assert (decode(encode(np.full((2, 2), 9, np.uint16), transparency=9)) == 255).all()


def test_cmyk_jpeg_becomes_rgb():
    data = encode(Image.fromarray(picture()).convert("CMYK"), "JPEG", quality=95)
    assert np.abs(decode(data).astype(int) - picture()).mean() < 4


def test_lab_tiff_becomes_rgb():
    white_black = Image.new("LAB", (2, 1), (255, 128, 128))
    white_black.putpixel((1, 0), (0, 128, 128))
    pixels = decode(encode(white_black, "TIFF")).astype(int)
    assert np.abs(pixels - [[[255] * 3, [0] * 3]]).max() <= 2


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_an_animation_gives_its_first_frame(format):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    options = {"lossless": True} if format == "WEBP" else {}
    data = encode(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert (decode(data) == [255, 0, 0]).all()


@given(height=st.integers(1, 300), width=st.integers(1, 300), least=st.tuples(st.integers(1, 60), st.integers(1, 60)))
@settings(max_examples=60, deadline=None)
def test_reduced_decode_is_as_large_as_promised_and_shows_the_same(height, width, least):
    full = picture(height, width)
    data = encode(full, "JPEG", quality=95)
    reduced = decode(data, least=least)
    fits = [f for f in (8, 4, 2, 1) if height >= 2 * f * least[0] and width >= 2 * f * least[1]]
    factor = max(fits, default=1)
    assert reduced.shape == (-(-height // factor), -(-width // factor), 3)
    rows, columns = height // factor, width // factor
    if min(rows, columns) >= 16:  # smooth enough to compare
        whole = reduced_by(decode(data)[: rows * factor, : columns * factor], factor)
        assert np.abs(reduced[:rows, :columns] - whole).mean() < 4


@pytest.mark.parametrize("name", broken_files())
@pytest.mark.parametrize("least", [None, (8, 8)], ids=["full", "reduced"])
def test_what_cannot_be_read_says_why(name, least, tmp_path):
    data, word = broken_files()[name]
    (tmp_path / name).write_bytes(data)
    for source in (data, tmp_path / name):
        with pytest.raises(DecodeError) as caught:
            decode(source, least)
        assert word in str(caught.value)
        assert "\n" not in str(caught.value)
    assert (tmp_path / name).read_bytes() == data


@pytest.mark.parametrize("cut", [0.3, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
def test_a_jpeg_cut_anywhere_is_refused_at_any_scale(cut, options):
    data = encode(picture(400, 400), "JPEG", quality=95, **options)
    for least in (None, (100, 100), (50, 50), (20, 20)):
        with pytest.raises(DecodeError, match="cut short"):
            decode(data[: int(len(data) * cut)], least)


def test_missing_files_folders_and_pipes_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    for path, word in [("pipe.jpg", "regular"), ("", "regular"), ("dangling.jpg", "No such"), ("loop.jpg", "links")]:
        with pytest.raises(DecodeError, match=word):
            decode(tmp_path / path)


def test_a_bomb_is_refused_without_its_memory():
    code = """
import resource, sys
from vitreous.data.decode import decode, inspect
from vitreous.errors import DecodeError
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
for data in sys.stdin.buffer.read().split(b"SPLIT"):
    for read in (inspect, decode):
        try:
            read(data)
        except DecodeError as error:
            print(error)
"""
    bombs = b"SPLIT".join(
        [png_header(30_000, 30_000), png_header(13_000, 13_000), encode(Image.new("1", (9000, 9000)))]
    )
    limit = 700 << 20  # address space, most of it libraries; the pixels of one bomb would need 507 MB or more
    done = subprocess.run([sys.executable, "-c", code, str(limit)], input=bombs, capture_output=True, check=True)
    assert done.stdout.decode().splitlines() == [
        f"has {side} x {side} pixels; the limit is 64 million" for side in (30_000, 30_000, 13_000, 13_000, 9000, 9000)
    ]


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_no_bytes_provoke_anything_but_a_decode_error(data):
    format = data.draw(st.sampled_from(sorted(FORMATS)))
    content = encode(picture(16, 20), format)
    for _ in range(data.draw(st.integers(1, 4))):
        content = flipped(content, data.draw(st.integers(0, len(content) - 1)))
    content = content[: data.draw(st.integers(0, len(content)))]
    for read in (inspect, decode, lambda c: decode(c, (4, 4))):
        with contextlib.suppress(DecodeError):
            read(content)


def test_threads_see_the_same_pixels():
    data = [encode(picture(60, 60, seed), "JPEG") for seed in range(8)]
    wanted = [decode(each).tobytes() for each in data]
    seen = [None] * len(data)

    def work(i):
        seen[i] = [decode(data[i]).tobytes() for _ in range(10)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(data))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [[pixels] * 10 for pixels in wanted]


def test_pillow_itself_would_have_been_fooled():
    """The oracle of the rules above: these are the traps, still there in the library below us."""
    half = broken_files()["half.jpg"][0]
    Image.open(io.BytesIO(half)).verify()
    gradient = np.linspace(0, 65535, 1024).astype(np.uint16).reshape(32, 32)
    naive = Image.open(io.BytesIO(encode(gradient))).convert("RGB")
    assert len(np.unique(np.array(naive))) < 10

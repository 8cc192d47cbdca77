"""Findings about data: each on a folder that has the fault, with its files, and none on one that does not."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from tests.images import encode, write_classes
from vitreous.checks.data import data_findings
from vitreous.checks.examined import examine
from vitreous.data.arrays import open_arrays
from vitreous.data.grouping import group_images
from vitreous.data.source import open_source

PHOTOS = load_sample_images().images


def tile(number, side=64):
    """One of many distinct pieces of a photograph."""
    photo = PHOTOS[number % 2]
    y, x = divmod(number // 2, 9)
    return photo[200 + y * side : 200 + (y + 1) * side, x * side : (x + 1) * side]


def write(path, image, format="PNG", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(image, format, **options))


def found(source):
    source = source if hasattr(source, "labels") else open_source(source, for_training=False)
    return {finding.code: finding for finding in data_findings(examine(source))}


@pytest.fixture
def clean(tmp_path):
    return write_classes(tmp_path / "clean", {"a": 25, "b": 30}, size=(40, 40))


def test_clean_data_have_nothing_to_mend_or_consider(clean):
    assert {code: each.seen for code, each in found(clean).items() if each.severity != "note"} == {}


def test_files_that_cannot_be_read(clean):
    (clean / "a" / "empty.jpg").touch()
    write(clean / "b" / "cut.jpg", tile(0), "JPEG")
    os.truncate(clean / "b" / "cut.jpg", 900)
    (clean / "b" / "gone.jpg").symlink_to("nowhere")
    finding = found(clean)["unreadable"]
    assert finding.severity == "mend"
    assert set(finding.files) == set(finding.exclude) == {"a/empty.jpg", "b/cut.jpg", "b/gone.jpg"}
    assert "3 of 58 images" in finding.seen
    assert "is empty (0 bytes)" in finding.arithmetic


def test_copies_within_a_class_leave_one(clean):
    write(clean / "a" / "x.png", tile(0))
    shutil.copy(clean / "a" / "x.png", clean / "a" / "y.png")
    write(clean / "a" / "z.jpg", tile(0), "JPEG", quality=85)
    finding = found(clean)["duplicates"]
    assert finding.count == 2
    assert set(finding.files) == {"a/x.png", "a/y.png", "a/z.jpg"}
    assert finding.exclude == ("a/y.png",), "of a near copy a person decides"
    assert "1 byte for byte, 1 scaled" in finding.arithmetic


def test_one_picture_in_two_classes(clean):
    write(clean / "a" / "x.png", tile(0))
    shutil.copy(clean / "a" / "x.png", clean / "b" / "y.png")
    write(clean / "a" / "near.png", tile(3))
    write(clean / "b" / "near.jpg", tile(3), "JPEG", quality=85)
    codes = found(clean)
    equal, near = codes["label-conflict"], codes["near-label-conflict"]
    assert (equal.severity, equal.count, set(equal.exclude)) == ("mend", 1, {"a/x.png", "b/y.png"})
    assert (near.severity, near.count, set(near.files)) == ("consider", 1, {"a/near.png", "b/near.jpg"})
    assert near.exclude == ()
    assert "duplicates" not in codes


@pytest.fixture
def parts(tmp_path):
    write_classes(tmp_path / "parts" / "train", {"a": 25, "b": 25}, size=(40, 40))
    return write_classes(tmp_path / "parts" / "test", {"a": 20, "b": 20}, size=(40, 40), start=500).parent


def test_given_parts_without_a_fault(parts):
    assert not any(each.severity == "mend" for each in found(parts).values())


def test_leaks_between_given_parts(parts):
    write(parts / "train" / "a" / "x.png", tile(0))
    write(parts / "test" / "a" / "y.jpg", tile(0), "JPEG", quality=85)
    (parts / "test" / "b" / "link.png").symlink_to(parts / "train" / "b" / "000.png")
    codes = found(parts)
    leak, link = codes["leak"], codes["file-in-two-parts"]
    assert (leak.severity, leak.count) == ("mend", 2)
    assert set(leak.exclude) == {"train/a/x.png", "train/b/000.png"}  # test stays as it was
    assert "2 of 42 test images" in leak.arithmetic
    assert (link.severity, link.files) == ("mend", ("train/b/000.png", "test/b/link.png"))


def test_classes_that_differ_between_parts(parts):
    write(parts / "train" / "c" / "1.png", tile(0))
    finding = found(parts)["class-missing-in-part"]
    assert (finding.severity, finding.where) == ("mend", "the test part")
    assert "no image of c" in finding.seen


def test_groups_that_stand_in_two_parts(parts):
    shutil.move(parts / "train" / "a" / "000.png", parts / "train" / "a" / "p1_x.png")
    shutil.move(parts / "test" / "a" / "000.png", parts / "test" / "a" / "p1_y.png")
    shutil.move(parts / "test" / "a" / "001.png", parts / "test" / "a" / "p2_y.png")
    source = group_images(open_source(parts, for_training=False), r"/(?:(p\d+)_)?[^/]*$")
    finding = found(source)["group-in-two-parts"]
    assert set(finding.files) == {"train/a/p1_x.png", "test/a/p1_y.png"}
    assert finding.count == 1


def test_classes_without_enough_pictures(clean):
    write(clean / "c" / "1.png", tile(0))
    shutil.copy(clean / "c" / "1.png", clean / "c" / "2.png")
    codes = found(clean)
    assert "c: 1;" in codes["class-tiny"].arithmetic  # two files, one picture
    assert "b has 15 times" in codes["unbalanced"].seen
    alone = write_classes(clean.parent / "alone", {"a": 3})
    assert found(alone)["one-class"].severity == "mend"


def test_a_format_that_gives_the_class_away(tmp_path):
    write_classes(tmp_path / "data", {"a": 30}, size=(40, 40))
    write_classes(tmp_path / "data", {"b": 30}, "BMP", size=(40, 40), start=100)
    finding = found(tmp_path / "data")["shortcut"]
    assert "file format of a picture alone tells the class of 100%" in finding.seen
    assert "50%" in finding.arithmetic


def test_odd_files(clean):
    write(clean / "a" / "png.jpg", tile(0), "PNG")
    frames = [Image.fromarray(tile(n)) for n in (1, 2)]
    write(clean / "a" / "moves.gif", frames[0], "GIF", save_all=True, append_images=frames[1:])
    write(clean / "a" / "print.jpg", Image.fromarray(tile(3)).convert("CMYK"), "JPEG")
    write(clean / "a" / "deep.png", Image.fromarray(tile(4)[..., 0].astype(np.uint16) * 257))
    write(clean / "b" / "cap.png", np.full((64, 64, 3), 3, np.uint8))
    glass = Image.fromarray(tile(5)).convert("RGBA")
    glass.putalpha(Image.linear_gradient("L").resize(glass.size))
    write(clean / "b" / "glass.png", glass)
    lying = Image.Exif()
    lying[0x0112] = 6
    write(clean / "b" / "lying.jpg", tile(7), "JPEG", exif=lying)
    files = {code: each.files for code, each in found(clean).items()}
    assert files["wrong-extension"] == ("a/png.jpg",)
    assert files["several-pictures"] == ("a/moves.gif",)
    assert files["cmyk"] == ("a/print.jpg",)
    assert files["deep"] == ("a/deep.png",)
    assert files["nearly-constant"] == ("b/cap.png",)
    assert files["transparent"] == ("b/glass.png",)
    assert files["rotated"] == ("b/lying.jpg",)
    assert set(files["grey-among-colour"]) == {"a/deep.png", "b/cap.png"}


def test_shapes_that_a_crop_would_cut(clean):
    for number in range(3):
        write(clean / "a" / f"long{number}.png", PHOTOS[0][100 * number : 100 * number + 50, :400])
    finding = found(clean)["extreme-shapes"]
    assert set(finding.files) == {f"a/long{number}.png" for number in range(3)}
    assert "(50 x 400 px) it would keep 12%" in finding.arithmetic  # 50 / 400
    assert finding.severity == "consider"


def test_pictures_that_would_be_enlarged(tmp_path):
    for number in range(25):
        write(tmp_path / "data" / "ab"[number % 2] / f"{number}.png", tile(number, 48))
    write(tmp_path / "data" / "a" / "thumb.png", Image.fromarray(tile(30)).resize((16, 16)))
    assert found(tmp_path / "data")["enlarged"].files == ("a/thumb.png",)


def test_arrays_are_checked_too():
    pixels = np.random.default_rng(0).integers(0, 256, (60, 16, 16), np.uint8)
    pixels[7], pixels[50] = pixels[3], 9
    codes = found(open_arrays("arrays", "npz", {"": (pixels, np.arange(60) % 3)}))
    assert codes["label-conflict"].files == ("image/00003", "image/00007")
    assert codes["nearly-constant"].files == ("image/00050",)


def test_the_gravest_come_first(parts):
    (parts / "train" / "a" / "empty.jpg").touch()
    write(parts / "train" / "b" / "cap.png", np.full((64, 64, 3), 3, np.uint8))
    found = data_findings(examine(open_source(parts, for_training=False)))
    severities = [("mend", "consider", "note").index(each.severity) for each in found]
    assert severities == sorted(severities)
    assert severities[0] == 0

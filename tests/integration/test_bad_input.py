"""Bad input: one or two clear lines, exit 2, nothing lost, nothing half-written."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import make_photos

QUICK = ("--model", "conv4s4 gap fc", "--epochs", "1", "--precision", "fp32", "--run", "out/run")


def refused(cli, tmp_path, *arguments, words):
    """The command is refused with these words, and no run folder is there."""
    status, out, err = cli(*arguments)
    lines = err.strip().splitlines()
    assert status == 2, err
    assert out == ""
    assert all(word in err for word in words), err
    assert "Traceback" not in err
    assert not (tmp_path / "out" / "run").exists()
    return lines


def empty(folder):
    folder.mkdir()


def one_class(folder):
    make_photos(folder, 3, classes=("cat",))


def empty_class(folder):
    make_photos(folder, 3)
    (folder / "hollow").mkdir()


def class_only_in_val(folder):
    make_photos(folder / "train", 4)
    make_photos(folder / "val", 3, classes=("bright", "dark", "middle", "stranger"))


def two_images_a_class(folder):
    make_photos(folder, 2)


def half_an_idx(folder):
    source = b"\x00\x00\x08\x03" + (10).to_bytes(4, "big") + (28).to_bytes(4, "big") * 2 + bytes(5 * 28 * 28)
    folder.mkdir()
    (folder / "train-images-idx3-ubyte").write_bytes(source)
    (folder / "train-labels-idx1-ubyte").write_bytes(b"\x00\x00\x08\x01" + (10).to_bytes(4, "big") + bytes(10))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: None, ["photos"]),
        (empty, ["photos"]),
        (one_class, ["cat"]),
        (empty_class, ["hollow"]),
        (class_only_in_val, ["stranger"]),
        (two_images_a_class, ["three or more"]),
        (half_an_idx, ["train-images-idx3-ubyte"]),
    ],
    ids=["missing", "empty", "one class", "empty class", "class only in val", "two images a class", "IDX cut short"],
)
def test_data_that_cannot_be_learned_from_is_refused(cli, tmp_path, make, words):
    make(tmp_path / "photos")
    refused(cli, tmp_path, "train", "photos", *QUICK, words=words)


def test_an_npz_of_objects_is_refused_and_never_unpickled(cli, tmp_path):
    class Canary:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "canary"),)

    np.savez(tmp_path / "evil.npz", images=np.array([Canary(), Canary()], dtype=object), labels=np.array([0, 1]))
    refused(cli, tmp_path, "train", "evil.npz", *QUICK, words=["evil.npz"])
    assert not (tmp_path / "canary").exists()


def test_an_npz_that_is_cut_short_is_refused(cli, tmp_path):
    np.savez(tmp_path / "cut.npz", images=np.zeros((20, 8, 8), np.uint8), labels=np.arange(20) % 2)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:-400])
    refused(cli, tmp_path, "train", "cut.npz", *QUICK, words=["cut.npz"])


def broken_files(photos):
    whole = (photos / "dark" / "1.jpg").read_bytes()
    (photos / "dark" / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "dark" / "nothing.png").write_bytes(b"")
    (photos / "bright" / "notes.txt").write_text("not an image")
    return ("half.jpg", "nothing.png", "notes.txt")


def test_broken_files_are_listed_and_refused_or_counted_and_skipped(cli, tmp_path, photos):
    names = broken_files(photos)
    refused(cli, tmp_path, "train", photos, *QUICK, words=[*names, "3", "--skip-broken"])
    status, _, err = cli("train", photos, *QUICK, "--skip-broken")
    assert status == 0
    assert "3" in err
    assert sorted(Path(each["name"]).name for each in manifest(tmp_path)["data"]["skipped"]) == sorted(names)


def test_names_from_hell_are_names_like_others(cli, tmp_path, photos):
    nasty = [
        "with space.JPG",
        "üñí©ode.JpEg",
        "new\nline.jpg",
        "quote\"'<b>.jpg",
        "-dash.jpg",
        os.fsdecode(b"latin-\xe9.jpg"),
    ]
    for number, name in enumerate(nasty):
        shutil.copy(photos / "dark" / f"{number}.jpg", photos / "dark" / name)
        (photos / "dark" / f"{number}.jpg").unlink()
    status, _, err = cli("train", photos, *QUICK)
    assert status == 0, err
    assert cli("predict", "out/run", photos / "dark", "--csv")[0] == 0
    status, _, err = cli("evaluate", "out/run", "--json")
    assert status == 0, err


def test_folders_whose_names_are_not_utf8_are_folders_like_others(tmp_path, photos):
    """The whole walk in processes of their own, as a terminal would run it."""
    data = photos.rename(tmp_path / os.fsdecode(b"caf\xe9"))
    (data / "dark").rename(data / os.fsdecode(b"sombr\xe9"))
    for arguments in (
        ["train", data, *QUICK],
        ["evaluate", "out/run"],
        ["predict", "out/run", data],
        ["predict", "out/run", data, "--csv"],
        ["predict", "out/run", data, "--json"],
        ["runs", "out"],
        ["report", "out/run"],
    ):
        done = subprocess.run([sys.executable, "-m", "vitreous", *arguments], cwd=tmp_path, capture_output=True)
        assert done.returncode == 0, done.stderr


def test_links_that_loop_are_followed_once(cli, tmp_path, photos):
    (photos / "dark" / "self").symlink_to(photos / "dark", target_is_directory=True)
    (photos / "dark" / "parent").symlink_to(photos, target_is_directory=True)
    status, _, err = cli("train", photos, *QUICK)
    assert status == 0, err
    counts = manifest(tmp_path)["data"]["counts"]
    assert sum(part["dark"] for part in counts.values()) in (24, 72)  # 72 where `parent` brings the other classes in


def test_a_run_name_that_exists_is_never_written_over(cli, tmp_path, photos):
    assert cli("train", photos, *QUICK)[0] == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out" / "run").rglob("*") if path.is_file()}
    status, _, err = cli("train", photos, *QUICK)
    assert status == 2
    assert "--run" in err
    assert {path: path.read_bytes() for path in (tmp_path / "out" / "run").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--epochs", "0"], ["epochs", "--weights"]),
        (["--epochs", "-1"], ["epochs", "at least 0"]),
        (["--model", "conv8 pool pool pool pool pool pool pool gap fc"], ["pool", "word", "1x1"]),
        (["--model", "cnv8 gap fc"], ["cnv8", "conv8"]),
        (["--model", "conv8 gap fc7"], ["fc7", "3 classes"]),
        (["--image-size", "0"], ["image_size"]),
        (["--device", "tpu"], ["tpu"]),
        (["--model", "lenet5", "--image-size", "20"], ["lenet5", "32"]),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_written(cli, tmp_path, photos, options, words):
    refused(cli, tmp_path, "train", photos, "--precision", "fp32", "--run", "out/run", *options, words=words)


@pytest.mark.skipif(sys.platform != "linux", reason="the private file system is Linux's")
@pytest.mark.parametrize(("options", "words"), [("ro,size=9m", "cannot be made"), ("size=400k", "too full")])
def test_a_read_only_or_full_disk_is_refused_before_training(tmp_path, photos, options, words):
    """A real file system, in a mount namespace of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    script = f'mount -t tmpfs -o {options} none {disk} || exit 99; "$@"; status=$?; ls -A {disk}; exit $status'
    train = [sys.executable, "-m", "vitreous", "train", photos, *QUICK[:-1], disk / "run"]
    done = subprocess.run(["unshare", "-Urm", "bash", "-c", script, "bash", *train], capture_output=True, text=True)
    assert done.returncode == 2, f"status {done.returncode} (99: cannot mount here): {done.stderr}"
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == "", "something was left behind"


def manifest(tmp_path):
    return json.loads((tmp_path / "out" / "run" / "manifest.json").read_text())


def test_the_users_files_are_as_they_were(cli, tmp_path, photos):
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in photos.rglob("*") if path.is_file()}
    assert cli("train", photos, *QUICK)[0] == 0
    assert cli("evaluate", "out/run")[0] == 0
    assert cli("predict", "out/run", photos)[0] == 0
    assert {
        path: (path.read_bytes(), path.stat().st_mtime_ns) for path in photos.rglob("*") if path.is_file()
    } == before


def test_other_data_is_matched_by_name_never_by_order(cli, tmp_path, photos):
    """Folders in another order, one class absent: the same images get the same scores."""
    assert cli("train", photos, *QUICK)[0] == 0
    make_photos(tmp_path / "two", 5, classes=("middle", "dark"), seed=9)
    status, out, err = cli("evaluate", "out/run", tmp_path / "two", "--json")
    assert status == 0
    assert "bright" in err
    scores = json.loads(out)
    assert scores["per_class"]["bright"]["support"] == 0
    assert scores["per_class"]["dark"]["support"] == 5
    make_photos(tmp_path / "strange", 5, classes=("dark", "zebra"), seed=9)
    status, _, err = cli("evaluate", "out/run", tmp_path / "strange")
    assert status == 2
    assert "zebra" in err


def test_an_image_of_another_kind_is_still_predicted(cli, tmp_path, photos):
    assert cli("train", photos, *QUICK)[0] == 0
    Image.new("L", (5, 90), 200).save(tmp_path / "grey.png")
    Image.new("RGBA", (64, 64), (0, 0, 0, 0)).save(tmp_path / "clear.webp")
    assert cli("predict", "out/run", tmp_path / "grey.png", tmp_path / "clear.webp")[0] == 0

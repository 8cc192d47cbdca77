import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.images import broken_files, write_classes
from vitreous.data import cache
from vitreous.data.cache import pack
from vitreous.data.images import ArrayImages
from vitreous.data.prepared import hash_contents
from vitreous.data.preprocess import Preprocess
from vitreous.data.source import open_source
from vitreous.errors import ConfigError, MachineError
from vitreous.progress import Silent
from vitreous.storage import lock

FIELD = Preprocess(height=8, width=8, channels=3, fit="pad")


class Heard(Silent):
    """Keeps what is said, and counts the bars."""

    def __init__(self):
        self.said, self.bars = [], []

    def say(self, text):
        self.said.append(text)

    def task(self, title, total, unit):
        self.bars.append(title)
        return super().task(title, total, unit)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("VITREOUS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def images(tmp_path):
    return open_source(write_classes(tmp_path / "photos", {"cat": 5, "dog": 40})).images


def packed(images, preprocess=FIELD, progress=None):
    return pack(images, hash_contents(images), preprocess, progress or Heard())


def only_pack():
    (folder,) = cache._packs()
    return folder


def test_the_pixels_are_those_of_direct_preprocessing(root, images):
    heard = Heard()
    first, second = packed(images, progress=heard), packed(images, progress=heard)
    direct = np.stack([FIELD.pixels(path) for path in images.paths])
    assert np.array_equal(first.pixels, direct)
    assert np.array_equal(second.pixels, direct)
    assert heard.bars == ["decoding"], "the second time nothing is decoded"
    assert heard.said == []


def test_writing_to_the_pixels_leaves_the_cache_as_it_is(root, images):
    packed(images).pixels[:] = 0
    assert packed(images).pixels.any()


@pytest.mark.parametrize("change", [{"fit": "crop"}, {"pad_value": 3}, {"height": 9}, {"interpolation": "box"}])
def test_another_contract_is_another_pack(root, images, change):
    packed(images)
    packed(images, Preprocess.from_dict(FIELD.to_dict() | change))
    assert cache.usage().num_packs == 2


def test_statistics_and_names_are_not_part_of_the_key(root, images, tmp_path):
    packed(images)
    packed(images, FIELD.with_statistics([0.5] * 3, [0.5] * 3))
    shutil.copytree(tmp_path / "photos", tmp_path / "renamed")
    packed(open_source(tmp_path / "renamed").images)
    assert cache.usage().num_packs == 1


def test_broken_images_have_no_row(root, tmp_path):
    write_classes(tmp_path / "photos", {"cat": 3, "dog": 3})
    for name, (data, _) in broken_files().items():
        (tmp_path / "photos" / "cat" / name).write_bytes(data)
    images = open_source(tmp_path / "photos").images
    for _ in range(2):  # built, then opened
        result = packed(images)
        assert result.pixels.shape == (6, 8, 8, 3)
        assert {image.name.removeprefix("cat/") for image in result.broken} == set(broken_files())
        for image in result.broken:
            assert images.name(image.index) == image.name
            assert broken_files()[image.name.removeprefix("cat/")][1] in image.reason


def test_nothing_but_broken_images(root, tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "list.csv").write_text("path,label\nempty.png,cat\n")
    images = open_source(tmp_path / "list.csv", for_training=False).images
    assert [len(packed(images).pixels) for _ in range(2)] == [0, 0]


def test_arrays_of_the_right_shape_are_neither_cached_nor_copied(root):
    array = np.zeros((5, 8, 8, 3), np.uint8)
    assert np.shares_memory(packed(ArrayImages(array, list("abcde"))).pixels, array)
    assert not root.exists()


def cut(folder):
    os.truncate(folder / "rows.bin", 100)


def grown(folder):
    with (folder / "rows.bin").open("ab") as file:
        file.write(b"more")


def without_pixels(folder):
    (folder / "rows.bin").unlink()


def without_facts(folder):
    (folder / "pack.json").unlink()


def older(folder):
    facts = json.loads((folder / "pack.json").read_text())
    (folder / "pack.json").write_text(json.dumps(facts | {"version": 0}))


def not_json(folder):
    (folder / "pack.json").write_text("{")


def other_json(folder):
    (folder / "pack.json").write_text('{"version": 1, "broken": [1]}')


@pytest.mark.parametrize("damage", [cut, grown, without_pixels, without_facts, older, not_json, other_json])
def test_a_damaged_or_older_pack_is_built_again_and_said(root, images, damage):
    wanted = packed(images).pixels.copy()
    damage(only_pack())
    heard = Heard()
    assert np.array_equal(packed(images, progress=heard).pixels, wanted)
    assert "damaged or of another version" in heard.said[0]
    assert len(cache._packs()) == 1


def test_what_a_killed_process_left_is_swept_up(root, images):
    packed(images)
    left = only_pack().with_name(f".{only_pack().name}.tmp")
    only_pack().rename(left)
    assert cache.usage().num_packs == 0
    packed(images)
    assert not left.exists()


PROGRAM = """
import sys
from vitreous.data.cache import pack
from vitreous.data.prepared import hash_contents
from vitreous.data.preprocess import Preprocess
from vitreous.data.source import open_source
images = open_source(sys.argv[1]).images
packed = pack(images, hash_contents(images), Preprocess(height=8, width=8, channels=3, fit="pad"))
print(packed.pixels.sum())
"""


def test_two_processes_that_build_the_same_pack_both_succeed(root, tmp_path, images):
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "photos")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    sums = {process.communicate()[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert sums == {f"{packed(images).pixels.sum()}\n".encode()}
    assert cache.usage().num_packs == 1


def used_at(folder, time):
    os.utime(folder / "pack.json", (time, time))


def test_the_least_recently_used_packs_make_room(root, images, monkeypatch):
    monkeypatch.setenv("VITREOUS_CACHE_LIMIT_MIB", "1")
    sizes = (40, 41, 42)  # 45 images x 3 channels: about 0.2 MiB each
    for time, size in enumerate(sizes):
        packed(images, Preprocess(height=size, width=size, channels=3, fit="pad"))
        newest = max(cache._packs(), key=cache._last_used)
        used_at(newest, 1000 + time)
    packed(images, Preprocess(height=40, width=40, channels=3, fit="pad"))  # the oldest is used once more
    packed(images, Preprocess(height=70, width=70, channels=3, fit="pad"))  # 0.63 MiB
    heights = {round(((folder / "rows.bin").stat().st_size / 45 / 3) ** 0.5) for folder in cache._packs()}
    assert heights == {40, 70}
    assert cache.usage().num_bytes <= 1 << 20


@pytest.mark.parametrize("limit", ["-1", "many", "1.5", ""])
def test_a_limit_that_is_no_number_is_refused(root, images, monkeypatch, limit):
    monkeypatch.setenv("VITREOUS_CACHE_LIMIT_MIB", limit)
    with pytest.raises(ConfigError, match="VITREOUS_CACHE_LIMIT_MIB"):
        packed(images)


def test_clear_frees_all_but_what_is_in_use(root, images):
    assert (cache.clear(), cache.usage().num_bytes) == (0, 0)
    packed(images)
    num_bytes = cache.usage().num_bytes
    with lock(root / "locks" / f"{only_pack().name}.lock"):
        assert cache.clear() == 0
    assert cache.usage().num_packs == 1
    assert cache.clear() == num_bytes > 0
    assert cache.usage() == cache.Usage(root, 0, 0)


def test_a_disk_without_room_is_said_before_anything_is_decoded(root, images, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
    heard = Heard()
    with pytest.raises(MachineError, match=r"1 MiB in .*, but: 0 MiB are free.*VITREOUS_CACHE"):
        packed(images, progress=heard)
    assert heard.bars == []


def test_a_disk_that_fills_up_leaves_nothing_behind(root, tmp_path, images):
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n" + PROGRAM
    done = subprocess.run([sys.executable, "-c", limited, str(tmp_path / "photos")], capture_output=True, text=True)
    assert done.returncode == 1
    assert "MachineError: what is kept of the images needs 1 MiB" in done.stderr
    assert "VITREOUS_CACHE" in done.stderr
    assert cache._packs() == []


def test_a_cache_that_cannot_be_made_is_said(root, images):
    root.write_text("a file where the folder should be")
    with pytest.raises(MachineError, match="VITREOUS_CACHE"):
        packed(images)


def test_an_interrupt_while_decoding_leaves_nothing_behind(root, images, monkeypatch):
    class Impatient(Heard):
        def task(self, title, total, unit):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        packed(images, progress=Impatient())
    assert cache._packs() == []

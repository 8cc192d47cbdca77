import gzip
import hashlib
import http.client
import io
import runpy
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from vitreous.data import builtin
from vitreous.data.decode import decode
from vitreous.data.idx import read_idx
from vitreous.data.prepared import hash_contents
from vitreous.data.source import open_source
from vitreous.errors import DataError, MachineError

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
MINI = Path(builtin.__file__).parent / "embedded" / "fashion-mini.npz"
needs_debian = pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs Debian's package dataset-fashion-mnist")


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A machine without any data set, and without a network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VITREOUS_DATA", raising=False)
    monkeypatch.setattr(builtin, "_own_place", lambda: tmp_path / "own")
    monkeypatch.setattr(builtin, "_SYSTEM_PREFIXES", ())

    def no_network(address, timeout):
        raise OSError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    return tmp_path


def test_fashion_mini_is_balanced_and_small():
    source = open_source("fashion-mini")
    assert (source.kind, source.classes) == ("built-in", builtin.FASHION_CLASSES)
    assert source.images.array.shape == (4000, 28, 28, 1)
    for part, per_class in (("train", 300), ("test", 100)):
        assert np.bincount(source.labels[source.splits == part]).tolist() == [per_class] * 10
    assert len(set(hash_contents(source.images))) == 4000
    assert MINI.stat().st_size < 2_000_000


@needs_debian
def test_fashion_mini_is_part_of_fashion_mnist():
    mini, full = open_source("fashion-mini"), open_source("fashion-mnist")
    label_of = {(h, s): label for h, s, label in zip(hash_contents(full.images), full.splits, full.labels, strict=True)}
    for content, part, label in zip(hash_contents(mini.images), mini.splits, mini.labels, strict=True):
        assert label_of[content, part] == label


@needs_debian
def test_the_script_makes_the_same_fashion_mini_again():
    """Member by member: another build of zlib may pack the same arrays into other bytes."""
    make = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "make_fashion_mini.py"))["make"]
    data = make(DEBIAN)
    assert make(DEBIAN) == data
    again, shipped = (zipfile.ZipFile(io.BytesIO(each)) for each in (data, MINI.read_bytes()))
    assert again.namelist() == shipped.namelist()
    for name in shipped.namelist():
        assert again.read(name) == shipped.read(name)
        assert again.getinfo(name).date_time == (1980, 1, 1, 0, 0, 0)


def test_a_damaged_fashion_mini_is_refused(monkeypatch):
    monkeypatch.setattr(builtin, "FASHION_MINI_SHA256", "0" * 64)
    with pytest.raises(MachineError, match="install"):
        open_source("fashion-mini")


def test_digits():
    source = open_source("digits")
    assert (len(source.images), source.classes[-1], source.splits) == (1797, "9", None)
    assert source.images.array.shape[1:] == (8, 8, 1)
    assert (source.images.array.min(), source.images.array.max()) == (0, 255)


@needs_debian
def test_fashion_mnist_from_the_system_opens_and_hashes_in_about_a_second():
    start = time.perf_counter()
    source = open_source("fashion-mnist")
    hashes = hash_contents(source.images)
    assert time.perf_counter() - start < 4  # 0.7 s alone on one core; this machine may be busy
    assert len(set(hashes)) == 70_000
    assert {part: int((source.splits == part).sum()) for part in ("train", "test")} == {"train": 60_000, "test": 10_000}
    assert source.images.name(60_001) == "test/00001"
    first = read_idx(DEBIAN / "t10k-images-idx3-ubyte.gz", num_axes=3)[0]
    assert np.array_equal(decode(source.images.encoded(60_000))[..., 0], first)
    assert source.classes[source.labels[60_000]] == "Ankle boot"


def tiny_idx(folder):
    folder.mkdir(parents=True)
    images, labels = np.arange(40 * 4, dtype=np.uint8).reshape(40, 2, 2), np.arange(40, dtype=np.uint8) % 10
    for prefix in ("train", "t10k"):
        for what, axes, array in (("images", 3, images), ("labels", 1, labels)):
            header = bytes([0, 0, 8, axes]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
            (folder / f"{prefix}-{what}-idx{axes}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))
    return folder


@pytest.mark.parametrize("place", ["data/mnist", "data/MNIST/raw", "own/mnist", "chosen/mnist"])
def test_local_places_are_searched(nowhere, monkeypatch, place):
    monkeypatch.setenv("VITREOUS_DATA", str(nowhere / "chosen"))
    tiny_idx(nowhere / place)
    source = open_source("mnist")
    assert (source.origin, source.kind, len(source.images)) == ("mnist", "built-in", 80)
    assert source.classes == tuple("0123456789")


@pytest.mark.parametrize("name", ["fashion-mnist", "mnist", "cifar10"])
def test_what_is_nowhere_is_asked_for_by_file_and_place(nowhere, name):
    with pytest.raises(DataError, match="no route to host") as caught:
        open_source(name)
    assert str(nowhere / "own" / name) in str(caught.value)
    assert all(file in str(caught.value) for file in builtin._PUBLISHED[name].sha256)
    assert not (nowhere / "own").exists()


def served(monkeypatch, folder):
    monkeypatch.setattr(
        "urllib.request.urlopen", lambda address, timeout: io.BytesIO((folder / address.rsplit("/")[-1]).read_bytes())
    )


def test_a_download_is_kept_if_its_hash_is_right(nowhere, monkeypatch):
    files = sorted(tiny_idx(nowhere / "server").iterdir())
    served(monkeypatch, nowhere / "server")
    for file in files:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        monkeypatch.setitem(builtin._PUBLISHED["mnist"].sha256, file.name, digest)
    assert len(open_source("mnist").images) == 80
    assert sorted(f.name for f in (nowhere / "own" / "mnist").iterdir()) == [file.name for file in files]


def test_a_download_with_another_hash_is_refused_and_not_kept(nowhere, monkeypatch):
    tiny_idx(nowhere / "server")
    served(monkeypatch, nowhere / "server")
    with pytest.raises(DataError, match="SHA-256 differs"):
        open_source("mnist")
    assert not (nowhere / "own").exists()


def cifar_batches():
    random = np.random.default_rng(0)
    names = [name for names in builtin._CIFAR10_FILES.values() for name in names]
    return {name: np.c_[np.arange(20) % 10, random.integers(0, 256, (20, 3072))].astype(np.uint8) for name in names}


@pytest.mark.parametrize("packed", [False, True])
def test_cifar10_is_read_from_its_archive_or_from_loose_files(nowhere, monkeypatch, packed):
    monkeypatch.setattr(builtin, "_CIFAR10_BATCH", 20)
    folder = nowhere / "data" / "cifar10"
    folder.mkdir(parents=True)
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for name, records in {**cifar_batches(), "../outside.bin": np.zeros(3, np.uint8)}.items():
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = records.nbytes
            archive.addfile(info, io.BytesIO(records.tobytes()))
    digest = hashlib.sha256((folder / "cifar-10-binary.tar.gz").read_bytes()).hexdigest()
    monkeypatch.setitem(builtin._PUBLISHED["cifar10"].sha256, "cifar-10-binary.tar.gz", digest)
    if not packed:
        (folder / "cifar-10-binary.tar.gz").unlink()
        for name, records in cifar_batches().items():
            (folder / name).write_bytes(records.tobytes())
    source = open_source("cifar10")
    assert source.images.array.shape == (120, 32, 32, 3)
    assert source.classes[int(source.labels[3])] == "cat"
    record = cifar_batches()["test_batch.bin"][5]
    assert source.images.array[105, 1, 2].tolist() == [record[1 + plane * 1024 + 34] for plane in range(3)]
    assert not list(nowhere.rglob("outside.bin"))


def forged(**claims):
    """A small archive of gzipped tar with one member that claims to be something else."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        info = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
        for name, value in claims.items():
            setattr(info, name, value)
        archive.addfile(info)  # its bytes are missing
    return file.getvalue()


@pytest.mark.parametrize(
    "claims",
    [
        {"size": 1 << 40},
        {"type": tarfile.SYMTYPE, "linkname": "test_batch.bin"},
        {"type": tarfile.LNKTYPE, "linkname": "cifar-10-batches-bin/test_batch.bin"},
        {"type": tarfile.XHDTYPE, "size": 1 << 40},
        {"type": tarfile.GNUTYPE_LONGNAME, "size": 1 << 40},
        {"name": "/etc/test_batch.bin"},
    ],
)
def test_a_forged_cifar10_archive_is_not_even_opened(nowhere, monkeypatch, claims):
    (nowhere / "data" / "cifar10").mkdir(parents=True)
    (nowhere / "data" / "cifar10" / "cifar-10-binary.tar.gz").write_bytes(forged(**claims))
    monkeypatch.setattr(builtin.tarfile, "open", lambda *_, **__: pytest.fail("it was opened"))
    with pytest.raises(DataError, match=r"cifar-10-binary.*SHA-256 differs"):
        open_source("cifar10")


def test_a_loose_cifar10_batch_that_is_too_long_is_not_read_to_its_end(nowhere, monkeypatch):
    monkeypatch.setattr(builtin, "_CIFAR10_BATCH", 20)
    folder = nowhere / "data" / "cifar10"
    folder.mkdir(parents=True)
    for name in cifar_batches():
        with (folder / name).open("wb") as file:
            file.truncate(1 << 40)  # holes: it takes no room on the disk
    with pytest.raises(DataError, match="are wanted"):
        open_source("cifar10")


@pytest.mark.parametrize(
    "error", [http.client.IncompleteRead(b"x"), http.client.BadStatusLine("?"), TimeoutError("slow")]
)
def test_a_server_that_answers_nonsense_is_told(nowhere, monkeypatch, error):
    def answers(address, timeout):
        raise error

    monkeypatch.setattr("urllib.request.urlopen", answers)
    with pytest.raises(DataError, match="mnist is not on this machine and could not be fetched"):
        open_source("mnist")


def test_a_cut_cifar10_archive_is_refused(nowhere):
    (nowhere / "data" / "cifar10").mkdir(parents=True)
    (nowhere / "data" / "cifar10" / "cifar-10-binary.tar.gz").write_bytes(gzip.compress(bytes(5000))[:20])
    with pytest.raises(DataError, match="cifar-10-binary"):
        open_source("cifar10")


def test_a_name_that_is_also_a_folder_here_is_asked_about(nowhere):
    (nowhere / "digits").mkdir()
    with pytest.raises(DataError, match=r"\./digits"):
        open_source("digits")
    with pytest.raises(DataError, match="no class folders"):
        open_source("./digits")

"""Array files made to hurt: headers that lie, members that explode, pipes. Each is refused, soon, in little memory."""

import bz2
import gzip
import io
import os
import random
import struct
import subprocess
import sys
import zipfile
import zlib

import numpy as np
import pytest

from vitreous.data.source import open_source
from vitreous.errors import DataError

LABELS = np.arange(6) % 2
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 8, 8), np.uint8)


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def header(text):
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode("latin-1")


def says(shape, type="|u1"):
    return header(f"{{'descr': '{type}', 'fortran_order': False, 'shape': {shape}}}\n")


def write_npz(path, compression=zipfile.ZIP_STORED, **members):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in ({"images": npy(IMAGES), "labels": npy(LABELS)} | members).items():
            archive.writestr(f"{name}.npy", data)
    return path


LIES = {
    "a thousand gigabytes": says("(1000000000000, 8, 8)"),
    "fifty million": says("(50000000, 8, 8)"),
    "beyond 64 bits": says("(1180591620717411303424, 8, 8)"),
    "wraps around": says("(9223372036854775807, 2, 3)"),
    "less than nothing": says("(-6, -8, 8)") + bytes(384),
    "no number": says("(True, 8, 8)") + bytes(64),
    "names of a gigabyte": says("(6,)", "<U500000000"),
    "nested": header("{'descr': " + "(" * 4000 + ")" * 4000 + "}\n"),
    "many signs": header("{'shape': " + "-" * 9000 + "1}\n"),
    "nested types": header("{'descr': " + "('|u1'," * 500 + "1" + ")" * 500 + ", 'fortran_order': 0, 'shape': (6,)}\n"),
    "other keys": header("{b'descr': '|u1', 'fortran_order': False, 'shape': (6, 8, 8)}\n"),
    "a key that cannot be": header("{[]: 1}\n"),
    "objects in a structure": header("{'descr': [('a', 'O')], 'fortran_order': False, 'shape': (6,)}\n") + bytes(48),
    "another version": b"\x93NUMPY\x09\x00" + bytes(99),
}


@pytest.mark.parametrize("member", ["images", "labels", "classes"])
@pytest.mark.parametrize("lie", LIES)
def test_an_npz_whose_header_lies_is_refused_in_one_short_line(tmp_path, lie, member):
    path = write_npz(tmp_path / "set.npz", **{member: LIES[lie]})
    with pytest.raises(DataError, match=r"set\.npz") as caught:
        open_source(path)
    assert len(str(caught.value).removeprefix(str(path))) < 250
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_mutated_npz_is_refused_or_the_same(tmp_path, compression):
    whole = write_npz(tmp_path / "set.npz", compression).read_bytes()
    chance, num_refused = random.Random(compression), 0
    for _ in range(200):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] ^= chance.randint(1, 255)
        (tmp_path / "set.npz").write_bytes(data)
        try:
            source = open_source(tmp_path / "set.npz")
        except DataError:
            num_refused += 1
            continue
        assert np.array_equal(source.images.array[..., 0], IMAGES)
        assert np.array_equal(source.labels, LABELS)
    assert num_refused > 100


def zeros_npz(folder):
    """Two gigabytes of black images, made without holding them: one deflate block of zeros, over and over."""
    count = 2 << 20
    start = says(f"({count}, 32, 32)")
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)  # stands for itself after a full flush
    packed += block * 2048 + packer.flush()
    size, name = len(start) + (2048 << 20), b"images.npy"
    facts = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, 0, len(packed), size, len(name), 0)
    local = b"PK\3\4" + facts + name + packed
    central = b"PK\1\2" + struct.pack("<H", 20) + facts + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)
    (folder / "set.npz").write_bytes(local + central + end)
    return folder / "set.npz"


def zeros_idx(folder):
    """A gigabyte of black images behind gzip: members one after another are one stream (RFC 1952)."""
    count = 1 << 20
    begin = b"\0\0\x08\x03" + struct.pack(">III", count, 32, 32)
    block = gzip.compress(bytes(1 << 24), 9)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(begin) + block * 64)
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(
        gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", count) + bytes(count))
    )
    return folder


_READ = """
import resource, sys, time
from vitreous.data.source import open_source
from vitreous.errors import DataError
before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
try:
    open_source(sys.argv[1])
except DataError as error:
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, time.process_time() - began, error)
"""


@pytest.mark.parametrize("make", [zeros_npz, zeros_idx])
def test_a_bomb_is_refused_before_it_goes_off(tmp_path, make):
    bomb = make(tmp_path)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 4 << 20
    done = subprocess.run([sys.executable, "-c", _READ, bomb], capture_output=True, text=True, check=True, timeout=60)
    grown_mib, seconds, said = done.stdout.split(" ", 2)
    assert "would unpack to" in said
    assert int(grown_mib) < 50
    assert float(seconds) < 1


def test_what_packs_well_but_is_small_is_read(tmp_path):
    np.savez_compressed(tmp_path / "set.npz", images=np.zeros((2000, 64, 64), np.uint8), labels=np.arange(2000) % 2)
    assert (tmp_path / "set.npz").stat().st_size * 100 < 2000 * 64 * 64
    assert len(open_source(tmp_path / "set.npz").images) == 2000


def test_a_bzip2_stream_that_ends_early_is_refused(tmp_path):
    path = write_npz(tmp_path / "set.npz", zipfile.ZIP_BZIP2)
    data = path.read_bytes()
    path.write_bytes(data.replace(bz2.compress(npy(LABELS))[:10], b"BZh9" + bytes(6)))
    with pytest.raises(DataError, match="cut short or damaged"):
        open_source(path)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_pipe_or_folder_named_as_an_idx_file_is_not_waited_for(tmp_path, make):
    make(tmp_path / "train-images-idx3-ubyte")
    make(tmp_path / "train-labels-idx1-ubyte")
    with pytest.raises(DataError, match="not a regular file"):
        open_source(tmp_path)


@pytest.mark.parametrize("sizes", [(2**32 - 1, 2**32 - 1, 2**32 - 1), (2**32 - 1, 0, 28), (0, 0, 0)])
def test_idx_sizes_that_cannot_be_are_refused(tmp_path, sizes):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + struct.pack(">III", *sizes) + bytes(9))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + struct.pack(">I", 2) + b"\0\1")
    with pytest.raises(DataError, match=str(tmp_path)):
        open_source(tmp_path)

"""Archives and weight files made to hurt: headers that lie, members that explode, pickles with code in them."""

import gzip
import io
import json
import os
import pickle
import random
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitreous.progress import SILENT, Progress
from vitreous.proof.hostile import Hostile, Kind, prove_hostile
from vitreous.proof.rows import ProofRow

PROMISE = "read as it is or refused with its reason, soon and in little memory; none of its code is run"

_IMAGES = np.random.default_rng(0).integers(0, 256, (6, 8, 8), np.uint8)
_LABELS = np.arange(6) % 2
_SEEN_IMAGES = {f"image/{number:05d}": "" for number in range(6)}
_STATE = {"fc.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "fc.bias": np.zeros(2, np.float32)}

Write = Callable[[Path, Path], object]  # the file, and where code in it would leave its mark


def prove(num_mutations: int, seed: int = 0, progress: Progress = SILENT) -> ProofRow:
    """Have every file read by a process of its own, and ``num_mutations`` whole ones damaged at random."""
    inputs = [*_npz(), *_idx(), *_safetensors(), *_pickles(), *_mutations(num_mutations, seed)]
    return prove_hostile("hostile archives", PROMISE, inputs, progress)


# --- arrays -----------------------------------------------------------------------------------------------------------


def _npz() -> Iterator[Hostile]:
    def named(name: str, refused: str | None, **members: bytes) -> Hostile:
        write = partial(_write_npz, members={f"{key}.npy": value for key, value in members.items()})
        return _input(f"npz: {name}", "data", "set.npz", write, refused, _SEEN_IMAGES)

    yield named("whole", None)
    for member in ("images", "labels", "classes"):
        for name, lie in _LIES.items():
            yield named(f"{name}, {member}", "set.npz", **{member: lie})
    for member in ("images", "labels"):
        yield named(f"objects for {member}", "could run code", **{member: _npy_of_objects()})
    for name in ("../evil", "/tmp/evil", "a/../../evil", "C:\\evil"):
        yield _input(
            f"npz: a member {name}",
            "data",
            "set.npz",
            partial(_write_npz, members={f"{name}.npy": b"evil"}),
            None,
            _SEEN_IMAGES,
        )
    yield _input("npz: two gigabytes of noughts", "data", "set.npz", _write_bomb, "would unpack to")
    yield _input("npz: empty", "data", "set.npz", _bytes(b""), "cut short or damaged")
    yield _input("npz: no archive", "data", "set.npz", _bytes(b"GIF89a" + bytes(99)), "cut short or damaged")
    yield _input("npz: a pickle", "data", "set.npz", lambda path, canary: path.write_bytes(_pickled(canary)), "damaged")
    yield _input("npz: a pipe", "data", "set.npz", lambda path, _: os.mkfifo(path), "not a regular file")


def _idx() -> Iterator[Hostile]:
    def written(images: bytes, labels: bytes) -> Write:
        def write(folder: Path, _canary: Path) -> None:
            folder.mkdir()
            ending = ".gz" if images[:2] == b"\x1f\x8b" else ""
            (folder / f"train-images-idx3-ubyte{ending}").write_bytes(images)
            (folder / f"train-labels-idx1-ubyte{ending}").write_bytes(labels)

        return write

    def sizes(*of_images: int) -> Write:
        images = b"\0\0\x08\x03" + struct.pack(">III", *of_images) + bytes(9)
        return written(images, b"\0\0\x08\x01" + struct.pack(">I", 2) + b"\0\1")

    many = 2**32 - 1
    for of_images in ((many, many, many), (many, 0, 28), (0, 0, 0), (2, many, 1)):
        yield _input(f"idx: sizes {of_images}", "data", "set", sizes(*of_images), "set")
    count = 1 << 20
    begin = gzip.compress(b"\0\0\x08\x03" + struct.pack(">III", count, 32, 32))
    bomb = begin + gzip.compress(bytes(1 << 24), 9) * 64  # members one after another are one stream (RFC 1952)
    labels = gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", count) + bytes(count))
    yield _input("idx: a gigabyte behind gzip", "data", "set", written(bomb, labels), "would unpack to")


def _header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode("latin-1")


def _says(shape: str, type: str = "|u1") -> bytes:
    return _header(f"{{'descr': '{type}', 'fortran_order': False, 'shape': {shape}}}\n")


_LIES = {
    "a thousand gigabytes": _says("(1000000000000, 8, 8)"),
    "beyond 64 bits": _says("(1180591620717411303424, 8, 8)"),
    "wraps around": _says("(9223372036854775807, 2, 3)"),
    "less than nothing": _says("(-6, -8, 8)") + bytes(384),
    "no number": _says("(True, 8, 8)") + bytes(64),
    "names of a gigabyte": _says("(6,)", "<U500000000"),
    "nested": _header("{'descr': " + "(" * 4000 + ")" * 4000 + "}\n"),
    "many signs": _header("{'shape': " + "-" * 9000 + "1}\n"),
    "a key that cannot be": _header("{[]: 1}\n"),
    "objects in a structure": _header("{'descr': [('a', 'O')], 'fortran_order': False, 'shape': (6,)}\n") + bytes(48),
    "another version": b"\x93NUMPY\x09\x00" + bytes(99),
}


def _npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _npy_of_objects() -> bytes:
    return _header("{'descr': '|O', 'fortran_order': False, 'shape': (6,)}\n") + pickle.dumps([None] * 6)


def _write_npz(path: Path, _canary: Path, members: Mapping[str, bytes] | None = None) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in ({"images.npy": _npy(_IMAGES), "labels.npy": _npy(_LABELS)} | dict(members or {})).items():
            archive.writestr(name, data)


def _write_bomb(path: Path, _canary: Path) -> None:
    """Two gigabytes of black images, made without holding them: one deflate block of noughts, over and over."""
    start = _says(f"({2 << 20}, 32, 32)")
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)  # stands for itself after a full flush
    packed += block * 2048 + packer.flush()
    size, name = len(start) + (2048 << 20), b"images.npy"
    facts = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, 0, len(packed), size, len(name), 0)
    local = b"PK\3\4" + facts + name + packed
    central = b"PK\1\2" + struct.pack("<H", 20) + facts + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)
    path.write_bytes(local + central + end)


# --- weights ----------------------------------------------------------------------------------------------------------


def _safetensors() -> Iterator[Hostile]:
    def named(name: str, content: bytes, refused: str | None = "not a whole safetensors file") -> Hostile:
        return _input(
            f"weights: {name}", "weights", "w.safetensors", _bytes(content), refused, dict.fromkeys(_STATE, "")
        )

    def entry(shape: list[Any], start: int, end: int, kind: str = "F32") -> dict[str, Any]:
        return {"dtype": kind, "shape": shape, "data_offsets": [start, end]}

    whole = _encode()
    yield named("whole", whole, None)
    for length in (0, 1, 2**31, 2**63, 2**64 - 1, len(whole)):
        yield named(f"a header of {length} bytes", struct.pack("<Q", length) + whole[8:])
    lies = {
        "of a shape beyond all": {"a": entry([2**62, 4], 0, 4)},
        "of a negative shape": {"a": entry([-1, -1], 0, 4)},
        "of a place before the file": {"a": entry([1], -4, 0)},
        "of a place behind the file": {"a": entry([1], 2**40, 2**40 + 4)},
        "that overlap": {"a": entry([1], 0, 4), "b": entry([1], 2, 6)},
        "with a gap": {"a": entry([1], 0, 4), "b": entry([1], 8, 12)},
        "of an unknown kind": {"a": entry([1], 0, 4, "OBJECT")},
        "of a shape that is text": {"a": entry(["1"], 0, 4)},
        "of a thousand sides": {"a": entry([1] * 1000, 0, 4)},
        "that are none": {},
    }
    for name, table in lies.items():
        refused = "holds no tensors" if not table else "not a whole safetensors file"
        yield named(f"tensors {name}", _framed(json.dumps(table).encode(), bytes((0, 4, 12)[len(table)])), refused)
    texts = {
        "nested": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "twice the same name": b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},' * 2 + b'"b":1}',
        "a number of a million digits": b'{"a":' + b"9" * 1_000_000 + b"}",
        "no UTF-8": b'{"\xff\xfe":1}',
        "a list": b"[1]",
    }
    for name, text in texts.items():
        yield named(f"a header that is {name}", _framed(text, bytes(4)), "safetensors file")
    names = {f"t{number}": entry([0], 0, 0) for number in range(200_000)}
    yield named("a header of ten megabytes", _framed(json.dumps(names).encode() + b" " * (17 << 20), b""))
    yield named("numbers that are not finite", _encode({"a": np.full(2, np.nan, np.float32)}), "finite")
    yield named("cut off", whole[:-1])
    yield named("longer", whole + b"\0")
    yield named("empty", b"")
    for name, make in {"a pipe": os.mkfifo, "a folder": os.mkdir}.items():
        write = partial(_made_by, make=make)
        yield _input(f"weights: {name}", "weights", "w.safetensors", write, "w.safetensors")
    yield _input(
        "weights: a device", "weights", "w.safetensors", lambda path, _: path.symlink_to("/dev/zero"), "no plain"
    )
    yield _input(
        "weights: a pickle",
        "weights",
        "w.safetensors",
        lambda path, canary: path.write_bytes(_pickled(canary)),
        "convert",
    )


def _framed(header: bytes, data: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def _encode(state: Mapping[str, NDArray[np.float32]] = _STATE) -> bytes:
    table, data = {}, b""
    for name, tensor in state.items():
        raw = tensor.tobytes()
        table[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    return _framed(json.dumps(table).encode(), data)


def _made_by(path: Path, _canary: Path, make: Callable[[Path], None]) -> None:
    make(path)


# --- pickles ----------------------------------------------------------------------------------------------------------


class _Call:
    """Unpickled, it calls a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def _calls(canary: Path) -> dict[str, _Call]:
    """Ways to leave a mark; each would be enough to take over the machine."""
    return {
        "open": _Call(open, str(canary), "w"),
        "system": _Call(os.system, f"touch '{canary}'"),
        "eval": _Call(eval, f"open({str(canary)!r}, 'w')"),
        "exec": _Call(exec, f"open({str(canary)!r}, 'w')"),
        "mkdir": _Call(os.mkdir, str(canary)),
        "getattr": _Call(getattr, _Call(__import__, "os"), "system"),
    }


def _pickled(canary: Path) -> bytes:
    return pickle.dumps(_calls(canary)["open"])


def _pickles() -> Iterator[Hostile]:
    for is_zip in (True, False):
        form = "zip" if is_zip else "old form"
        yield _input(f"pth, {form}: whole", "pickle", "w.pth", _saved(_state, is_zip), None, {"tensors": ""})
        for name in _calls(Path()):
            hidden: Callable[[Path], Any] = partial(_with_call, name=name)
            yield _input(f"pth, {form}: {name}", "pickle", "w.pth", _saved(hidden, is_zip), "w.pth")
    yield _input(
        "pth: a bare pickle", "pickle", "w.pth", lambda path, canary: path.write_bytes(_pickled(canary)), "w.pth"
    )
    yield _input("pth: a tar of pickles", "pickle", "w.pth", _write_tar, "w.pth")
    yield _input("pth: a zip bomb", "pickle", "w.pth", _write_zip_bomb, "w.pth")
    yield _input("pth: noughts", "pickle", "w.pth", _bytes(bytes(999)), "w.pth")
    code: Callable[[Path], Any] = partial(_with_call, name="system")
    yield _input("convert: whole", "convert", "w.pth", _saved(_state, is_zip=True), None, {"tensors": ""})
    yield _input("convert: code", "convert", "w.pth", _saved(code, is_zip=True), "w.pth")


def _saved(value: Callable[[Path], Any], is_zip: bool) -> Write:
    def write(path: Path, canary: Path) -> None:
        import torch

        torch.save(value(canary), path, _use_new_zipfile_serialization=is_zip)

    return write


def _state(_canary: Path) -> dict[str, Any]:
    import torch

    return {name: torch.from_numpy(tensor.copy()) for name, tensor in _STATE.items()}


def _with_call(canary: Path, name: str) -> dict[str, Any]:
    return {"fc.weight": _calls(canary)[name]}


def _write_tar(path: Path, canary: Path) -> None:
    """The form of torch before 0.2, whose reader was once fooled (CVE-2025-32434)."""
    with tarfile.open(path, "w") as archive:
        for name in ("storages", "tensors", "pickle"):
            facts, data = tarfile.TarInfo(name), _pickled(canary)
            facts.size = len(data)
            archive.addfile(facts, io.BytesIO(data))


def _write_zip_bomb(path: Path, _canary: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(256 << 20))
        archive.writestr("archive/version", b"3\n")


# --- chance -----------------------------------------------------------------------------------------------------------


def _mutations(number: int, seed: int) -> Iterator[Hostile]:
    """Whole files with some bytes changed, or an end cut off."""
    chooser = random.Random(seed)
    whole: list[tuple[Kind, str, dict[str, str] | None]] = [
        ("data", "set.npz", _SEEN_IMAGES),
        ("weights", "w.safetensors", None),  # a name may be damaged: no checksum belongs to a foreign file
        ("pickle", "w.pth", {"tensors": ""}),
    ]
    for count in range(number):
        kind, name, seen = chooser.choice(whole)
        write = partial(_write_mutated, name=name, seed=chooser.randrange(2**32))
        yield Hostile(f"damaged {name} {count}", kind, write, name, seen=seen, is_chance=True)


def _write_mutated(folder: Path, canary: Path, name: str, seed: int) -> None:
    chooser, path = random.Random(seed), folder / name
    match path.suffix:
        case ".npz":
            _write_npz(path, canary)
        case ".pth":
            _saved(_state, is_zip=chooser.random() < 0.5)(path, canary)
        case _:
            path.write_bytes(_encode())
    data = bytearray(path.read_bytes())
    for _ in range(chooser.randint(1, 4)):
        data[chooser.randrange(len(data))] ^= chooser.randint(1, 255)
    if chooser.random() < 0.2:
        del data[chooser.randrange(len(data)) :]
    path.write_bytes(data)


def _bytes(content: bytes) -> Write:
    def write(path: Path, _canary: Path) -> None:
        path.write_bytes(content)

    return write


def _input(
    name: str, kind: Kind, file: str, write: Write, refused: str | None, seen: Mapping[str, str] | None = None
) -> Hostile:
    """One file; ``seen`` counts only where nothing is refused."""
    return Hostile(name, kind, lambda folder, canary: write(folder / file, canary), file, refused, seen)

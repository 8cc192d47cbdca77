"""The header of a safetensors file, checked before anything that it claims is believed.

The file is 8 bytes, the header's length as a little-endian number; the header, JSON; then the tensors' bytes, without
gap or overlap. Nothing in it can run code, but lengths can lie: each is compared with the file's own before memory is
asked for. Source: the format's description in safetensors' README. No torch here.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitreous.errors import ConfigError

BYTES = {  # of one number, by the names that the format gives to kinds of numbers
    **dict.fromkeys(("F64", "I64", "U64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("I8", "U8", "BOOL"), 1),
}
_LONGEST = 16 << 20  # bytes of header; ResNet-152's has 0.1 MB
_BEGINNINGS = {
    b"PK\x03\x04": "a zip archive, as torch.save writes",
    **{bytes((0x80, protocol)): "a Python pickle, as torch.save wrote before 2020" for protocol in range(2, 6)},
    b"\x89HDF": "an HDF5 file, as Keras writes",
    b"\x1f\x8b": "a gzip archive; unpack it first",
    b"version https://git-lfs": "a pointer of Git LFS in place of the weights; `git lfs pull` fetches them",
    b"<!DOCTYPE": "a web page; the download went wrong",
    b"<html": "a web page; the download went wrong",
}
_ENDINGS = {
    ".h5": "an HDF5 file of Keras",
    ".hdf5": "an HDF5 file of Keras",
    ".keras": "a Keras archive",
    ".onnx": "an ONNX graph",
    ".pb": "a TensorFlow graph",
    ".tflite": "a TensorFlow Lite graph",
    ".msgpack": "a Flax file",
    ".gguf": "a GGUF file",
    ".npz": "a NumPy archive",
    ".npy": "a NumPy array",
}
TORCH_ENDINGS = (".pth", ".pt", ".bin", ".ckpt", ".tar", ".pkl", ".th")


@dataclass(frozen=True, slots=True)
class Header:
    """What a safetensors file says of itself, found to be true of its size."""

    shapes: Mapping[str, tuple[int, ...]]
    kinds: Mapping[str, str]
    metadata: Mapping[str, str]


def read_header(path: Path) -> Header:
    """Read and check the header; no tensor is read.

    Raises:
        ConfigError: not a safetensors file, or a damaged one; the message says what was found.
    """
    size = file_size(path)
    with path.open("rb") as file:
        beginning = file.read(32)
        length = int.from_bytes(beginning[:8], "little")
        if size < 10:
            raise _damaged(path, f"it has {size} bytes")
        if kind := kind_by_content(beginning):
            raise ConfigError(f"{path} is not a safetensors file but {kind}.{_way_out(path, beginning)}")
        if not beginning[8:].lstrip().startswith(b"{"):
            raise ConfigError(f"{path} is not a safetensors file: no header begins at its ninth byte.")
        if length > size - 8:
            raise _damaged(path, f"its header claims {length:,} bytes, the file has {size:,}")
        if length > _LONGEST:
            raise _damaged(path, f"its header claims {length:,} bytes; no network's is that long")
        file.seek(8)
        text = file.read(length)
    try:
        entries = json.loads(text, object_pairs_hook=_without_repeats)
        metadata = entries.pop("__metadata__", {})
        tensors = [_tensor(name, entry) for name, entry in entries.items()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, f"its header cannot be read ({shortened(str(error) or type(error).__name__)})") from None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _damaged(path, "its header's __metadata__ is not a table of texts")
    _check_places(path, tensors, size - 8 - length)
    if not tensors:
        raise ConfigError(f"{path} holds no tensors.")
    return Header(
        shapes={tensor.name: tensor.shape for tensor in tensors},
        kinds={tensor.name: tensor.kind for tensor in tensors},
        metadata=metadata,
    )


def file_size(path: Path) -> int:
    """The size of a plain file in bytes.

    Raises:
        ConfigError: there is none, or it may not be read.
    """
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "is no plain file" if path.exists() else "does not exist"
        raise ConfigError(f"the weight file {path} {found}.")
    try:
        with path.open("rb"):
            return path.stat().st_size
    except OSError as error:
        raise ConfigError(f"the weight file {path} cannot be read: {error.strerror or error}.") from None


def kind_by_content(beginning: bytes) -> str | None:
    r"""What a file that begins like this is, where it is known not to be safetensors.

    >>> kind_by_content(b"PK\x03\x04...")
    'a zip archive, as torch.save writes'
    """
    if beginning[8:9] == b"{":  # a length whose bytes happen to look like another beginning
        return None
    return next((kind for start, kind in _BEGINNINGS.items() if beginning.startswith(start)), None)


def kind_by_name(path: Path) -> str | None:
    """What a file of this name is, where it is of another library."""
    return _ENDINGS.get(path.suffix.lower())


def shortened(name: str, most: int = 80) -> str:
    r"""A name from a file as one short line: it may hold anything.

    >>> shortened("fc\n.weight"), shortened("a" * 99, most=4)
    ('fc\\n.weight', 'aaaa…')
    """
    text = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in name[: most + 1])
    return text if len(name) <= most else f"{text[:most]}…"


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    kind: str
    shape: tuple[int, ...]
    start: int
    end: int


def _tensor(name: str, entry: Mapping[str, Any]) -> _Tensor:
    kind, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if kind not in BYTES:
        raise ValueError(f"{shortened(name)} has numbers of the kind {shortened(str(kind))}, unknown here")
    numbers = (*shape, start, end)
    if len(shape) > 8 or not all(type(number) is int and 0 <= number < 2**63 for number in numbers):
        raise ValueError(f"{shortened(name)} has a shape or place that no tensor can have")
    if end - start != math.prod(shape) * BYTES[kind]:
        raise ValueError(f"{shortened(name)} of shape {tuple(shape)} has a place of {end - start:,} bytes")
    return _Tensor(name, kind, tuple(shape), start, end)


def _check_places(path: Path, tensors: list[_Tensor], num_bytes: int) -> None:
    """The tensors fill the bytes behind the header, each byte once."""
    place = 0
    for tensor in sorted(tensors, key=lambda tensor: (tensor.start, tensor.end)):
        if tensor.start != place:
            what = "overlaps the one before it" if tensor.start < place else "leaves a gap before it"
            raise _damaged(path, f"the place of {shortened(tensor.name)} {what}")
        place = tensor.end
    if place > num_bytes:
        raise _damaged(path, f"its tensors take {place:,} bytes, and only {num_bytes:,} are there: it was cut off")
    if place < num_bytes:
        raise _damaged(path, f"{num_bytes - place:,} bytes follow the last tensor")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name occurs twice")
    return table


def _way_out(path: Path, beginning: bytes) -> str:
    is_of_torch = beginning[:2] == b"PK" or beginning[:1] == b"\x80"
    return f" `vitreous convert {path}` makes one of it." if is_of_torch else ""


def _damaged(path: Path, why: str) -> ConfigError:
    return ConfigError(f"{path} is not a whole safetensors file: {why}; fetch or copy it again.")

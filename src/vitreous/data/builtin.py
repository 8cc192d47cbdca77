"""DATA by name: sets that ship inside, lie in a usual place, or are fetched once with a pinned SHA-256."""

import http.client
import os
import sys
import tarfile
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import platformdirs

from vitreous.data.arrays import open_arrays
from vitreous.data.decode import Pixels
from vitreous.data.idx import has_idx_files, open_idx
from vitreous.data.images import Source
from vitreous.data.npz import open_npz
from vitreous.errors import DataError, MachineError
from vitreous.storage import explained, sha256_bytes, sha256_file, write_atomic

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR10_ARCHIVE = "cifar-10-binary.tar.gz"
_CIFAR10_FILES = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}
_CIFAR10_BATCH = 10_000

# Made by scripts/make_fashion_mini.py.
FASHION_MINI_SHA256 = "895d313dac4fdc9223ceddb71936b90ff51f251682b3d31eef3fc64c86fbea66"

_SYSTEM_PREFIXES = (sys.prefix, "/usr", "/usr/local")
_MAX_DOWNLOAD_BYTES = 200 << 20


@dataclass(frozen=True, slots=True)
class _Published:
    """A set that its authors publish as files, and where these files may lie already."""

    address: str
    sha256: dict[str, str]  # by file name; as torchvision, TensorFlow Datasets and others pin them too
    folders: tuple[str, ...]  # below any of _places()
    is_here: Callable[[Path], bool]
    open: Callable[[Path, str], Source]


def open_builtin(name: str) -> Source:
    """One of NAMES.

    Raises:
        DataError: the files are nowhere, and cannot be fetched; the message says which to put where.
    """
    if name == "fashion-mini":
        return _open_fashion_mini()
    if name == "digits":
        return _open_digits()
    published = _PUBLISHED[name]
    return published.open(_find(published) or _fetch(name, published), name)


def _open_fashion_mini() -> Source:
    data = (resources.files("vitreous.data") / "embedded" / "fashion-mini.npz").read_bytes()
    if sha256_bytes(data) != FASHION_MINI_SHA256:
        raise MachineError("the embedded fashion-mini.npz is damaged; install vitreous again.")
    return open_npz(data, "fashion-mini", "built-in")


def _open_digits() -> Source:
    from sklearn.datasets import load_digits  # a second of imports

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # 8 x 8, levels 0 to 16
    return open_arrays("digits", "built-in", {"": (images, digits.target)})


def _open_mnist(folder: Path, name: str) -> Source:
    return open_idx(folder, classes=[str(digit) for digit in range(10)], origin=name, kind="built-in")


def _open_fashion_mnist(folder: Path, name: str) -> Source:
    return open_idx(folder, classes=FASHION_CLASSES, origin=name, kind="built-in")


def _open_cifar10(folder: Path, name: str) -> Source:
    files = _cifar10_files(folder)
    parts = {part: _cifar10_arrays([files[name] for name in names]) for part, names in _CIFAR10_FILES.items()}
    return open_arrays(name, "built-in", parts, _CIFAR10_CLASSES)


def _cifar10_files(folder: Path) -> dict[str, bytes]:
    """Each batch's bytes, from the published archive (which is read, never unpacked) or from beside it.

    An archive is not even opened before its SHA-256 is known to be right: a forged one may claim any size.
    """
    wanted = {name for names in _CIFAR10_FILES.values() for name in names}
    path = folder / _CIFAR10_ARCHIVE
    if not path.is_file():
        return {name: _read_batch(folder / name) for name in wanted}
    if sha256_file(path) != _PUBLISHED["cifar10"].sha256[_CIFAR10_ARCHIVE]:
        raise DataError(f"{path} is not the published file: its SHA-256 differs; fetch it again, or remove it.")
    files: dict[str, bytes] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            name = Path(member.name).name
            if name in wanted and (file := archive.extractfile(member)):
                files[name] = file.read(member.size)
    return files


def _read_batch(path: Path) -> bytes:
    """No more than tells that it is too long."""
    with path.open("rb") as file:
        return file.read(_CIFAR10_BATCH * 3073 + 1)


def _cifar10_arrays(batches: list[bytes]) -> tuple[Pixels, Pixels]:
    """Records of a label byte and 3 x 32 x 32 pixel bytes (cs.toronto.edu/~kriz/cifar.html, "Binary version")."""
    data = b"".join(batches)
    wanted = len(batches) * _CIFAR10_BATCH * 3073
    if len(data) != wanted:
        raise DataError(f"CIFAR-10: {len(batches)} batches have {len(data):,} bytes; {wanted:,} are wanted.")
    records = np.frombuffer(data, np.uint8).reshape(-1, 3073)
    return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), records[:, 0]


def _has_cifar10(folder: Path) -> bool:
    files = [name for names in _CIFAR10_FILES.values() for name in names]
    return (folder / _CIFAR10_ARCHIVE).is_file() or all((folder / name).is_file() for name in files)


_PUBLISHED = {
    "fashion-mnist": _Published(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        {
            "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
        ("fashion-mnist", "FashionMNIST/raw"),
        has_idx_files,
        _open_fashion_mnist,
    ),
    "mnist": _Published(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        {
            "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
        ("mnist", "MNIST/raw"),
        has_idx_files,
        _open_mnist,
    ),
    "cifar10": _Published(
        "https://www.cs.toronto.edu/~kriz/",
        {_CIFAR10_ARCHIVE: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"},
        ("cifar10", "cifar10/cifar-10-batches-bin", "cifar-10-batches-bin"),
        _has_cifar10,
        _open_cifar10,
    ),
}

NAMES = ("fashion-mini", "digits", *_PUBLISHED)


def _places() -> Iterator[Path]:
    """Folders of data sets: the user's first, then the system's packages'."""
    if chosen := os.environ.get("VITREOUS_DATA"):
        yield Path(chosen)
    yield Path("data")
    yield _own_place()
    for prefix in _SYSTEM_PREFIXES:
        yield Path(prefix) / "share" / "datasets"


def _own_place() -> Path:
    return platformdirs.user_data_path("vitreous") / "datasets"


def _find(published: _Published) -> Path | None:
    folders = (place / folder for place in _places() for folder in published.folders)
    return next((folder for folder in folders if folder.is_dir() and published.is_here(folder)), None)


def _fetch(name: str, published: _Published) -> Path:
    """The set's files from its authors' address into our own place; a file is kept only if its SHA-256 is right."""
    target = _own_place() / name
    try:
        files = {file: _download(published.address + file, digest) for file, digest in published.sha256.items()}
    except (OSError, http.client.HTTPException, DataError) as error:
        raise DataError(
            f"{name} is not on this machine and could not be fetched ({error}). "
            f"Put {', '.join(published.sha256)} from {published.address} into {target}."
        ) from None
    with explained(target):
        target.mkdir(parents=True, exist_ok=True)
    for file, data in files.items():
        write_atomic(target / file, data)
    return target


def _download(address: str, sha256: str) -> bytes:
    with urllib.request.urlopen(address, timeout=30) as answer:
        data: bytes = answer.read(_MAX_DOWNLOAD_BYTES)
    if sha256_bytes(data) != sha256:
        raise DataError(f"{address} is not the published file: its SHA-256 differs")
    return data

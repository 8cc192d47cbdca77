"""Make src/vitreous/data/embedded/fashion-mini.npz: a balanced sample of Fashion-MNIST, the same bytes on every run.

    python scripts/make_fashion_mini.py [FOLDER]

FOLDER holds the four IDX files; by default Debian's package `dataset-fashion-mnist`. Of each class, the images with the
smallest SHA-256 are taken, 300 from the training set and 100 from the test set: no choice of ours, and none by chance.
Prints the SHA-256 that vitreous.data.builtin pins.
"""

import io
import sys
import zipfile
from pathlib import Path

import numpy as np

from vitreous.data.builtin import FASHION_CLASSES
from vitreous.data.idx import open_idx
from vitreous.data.prepared import hash_contents
from vitreous.progress import SILENT
from vitreous.storage import sha256_bytes, write_atomic

PER_CLASS = {"train": 300, "test": 100}
TARGET = Path(__file__).parents[1] / "src/vitreous/data/embedded/fashion-mini.npz"


def make(folder: Path) -> bytes:
    """The sample, as the bytes of an .npz file."""
    source = open_idx(folder, classes=FASHION_CLASSES)
    hashes = np.array(hash_contents(source.images, SILENT))
    chosen = []
    for part, count in PER_CLASS.items():
        for label in range(len(FASHION_CLASSES)):
            members = np.flatnonzero((source.splits == part) & (source.labels == label))
            chosen.append(members[np.argsort(hashes[members])[:count]])
    rows = np.concatenate(chosen)
    return npz(
        images=source.images.array[rows, :, :, 0],
        labels=source.labels[rows].astype(np.uint8),
        classes=np.array(FASHION_CLASSES),
        split=source.splits[rows],
    )


def npz(**arrays: np.ndarray) -> bytes:
    """An .npz whose bytes depend on the arrays only; np.savez writes the time of day into it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3  # Unix, wherever this runs
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, member.getvalue(), compresslevel=9)
    return file.getvalue()


if __name__ == "__main__":
    sample = make(Path(sys.argv[1] if len(sys.argv) > 1 else "/usr/share/datasets/fashion-mnist"))
    write_atomic(TARGET, sample)
    print(f"{TARGET}: {len(sample):,} bytes, SHA-256 {sha256_bytes(sample)}")  # noqa: T201

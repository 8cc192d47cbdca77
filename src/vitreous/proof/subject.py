"""The run that is killed, cut off and damaged: a small network on some embedded images, and always the same bits.

``python -m vitreous.proof.subject train|resume RUN DATA`` says "ready" when everything is imported, and begins. With a
second RUN it is then trained once more, with another seed: to files of the same shape, all of them whole.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.data.images import ArrayImages
from vitreous.data.source import open_source

SETTINGS: dict[str, Any] = {
    "model": "conv4bn pool conv8bn gap fc",
    "epochs": 4,
    "device": "cpu",
    "precision": "fp32",
    "engine.threads": 1,
    "training.batch_size": 16,
    "training.ema_decay": 0.9,
    "augmentation.shift_px": 1,
}
_EACH = 20  # of the embedded images, one in so many


def write_data(folder: Path) -> Path:
    """Some real images of ten classes as one small file; returns its path."""
    source = open_source("fashion-mini")
    assert isinstance(source.images, ArrayImages)
    path = folder / "images.npz"
    np.savez(path, images=source.images.array[::_EACH], labels=source.labels[::_EACH])
    return path


def begin(run: Path, data: Path, seed: int = 0) -> str:
    """Train it to the end; the SHA-256 of its weights."""
    from vitreous.workflow.training import train

    return str(train(data, run=run, seed=seed, **SETTINGS).manifest["weights"]["sha256"])


def go_on(run: Path) -> str:
    """Resume it to the end; the SHA-256 of its weights."""
    from vitreous.workflow.training import resume

    return str(resume(run).manifest["weights"]["sha256"])


def main() -> None:
    """One attempt, in a process that may be killed."""
    import vitreous.workflow.training  # noqa: F401, what takes long is over before anybody kills us

    what, run, data, *others = sys.argv[1:]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdout.write((go_on(Path(run)) if what == "resume" else begin(Path(run), Path(data))) + "\n")
    for seed, other in enumerate(others, start=1):
        begin(Path(other), Path(data), seed)


if __name__ == "__main__":
    main()

"""A run folder with any bytes in any of its files opens or is refused: python -m tests.fuzz.fuzz_run_folder CORPUS.

The first byte of an input chooses the file, the rest is what it holds.
"""

import atexit
import shutil
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["vitreous"]):
    from vitreous.checkpoint import load_newest_checkpoint
    from vitreous.config import Config
    from vitreous.data.preprocess import Preprocess
    from vitreous.errors import VitreousError
    from vitreous.run import Run, SplitRow

FILES = ("manifest.json", "config.toml", "splits.csv", "metrics.jsonl", "checkpoints/step-000000001/checkpoint.json")
FOLDER = Path(tempfile.mkdtemp(prefix="vitreous-fuzz-"))


def whole_run() -> dict[str, bytes]:
    """The files of a run as it must be."""
    run = Run.create(
        FOLDER / "run",
        Config(),
        {
            "classes": ["cat", "dog"],
            "weights": None,
            "preprocessing": Preprocess(height=8, width=8, channels=3, fit="pad").to_dict(),
            "model": {"name": "lenet5"},
        },
        [SplitRow("a" * 64, "cat/1.png", "cat", "train")],
    )
    run.append_metrics({"epoch": 1, "train_loss": 0.5})
    checkpoint = run.path / FILES[-1]
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_text('{"sha256": {"state.safetensors": "00", "progress.json": "00"}}')
    return {name: (run.path / name).read_bytes() for name in FILES}


WHOLE = whole_run()


def one_input(data: bytes) -> None:
    """Everything that a command reads of a run; whatever is wrong with it is said as an error of ours."""
    name = FILES[(data[0] if data else 0) % len(FILES)]
    file = FOLDER / "run" / name
    file.write_bytes(data[1:])
    try:
        run = Run.open(FOLDER / "run")
        _ = (run.status, run.classes, run.config, list(run.splits()), run.metrics())
        Preprocess.from_dict(run.manifest.get("preprocessing") or {})
        load_newest_checkpoint(run.checkpoints_path, run.identity)
        run.verified_weights()
    except VitreousError as error:
        if not str(error):
            raise AssertionError("a refusal has a reason") from error
    finally:
        file.write_bytes(WHOLE[name])


if __name__ == "__main__":
    atexit.register(shutil.rmtree, FOLDER)
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()

"""The environments of the peers: what each speed benchmark measures beside us, made by pip from pinned lists.

    python -m benchmarks.environments [--environments FOLDER]     a few minutes and 3 GiB; the benchmarks do it, too

Plain PyTorch, timm, Lightning, fastai and ultralytics share one environment, Keras on TensorFlow has its own. They are
kept in the user's cache, or in FOLDER, and made again when their list changes. Where one cannot be made (no wheel for
this machine, no network), the lines of its peers say why.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import platformdirs

PEERS = Path(__file__).parent / "peers"
TORCH = "torch==2.13.0"  # with what it needs; the rest is a whole list, and torchvision's wheel may want another build


class PeerError(Exception):
    """A peer's environment cannot be made, or its script failed; the message goes into the results."""


@dataclass(frozen=True)
class Environment:
    """Packages that several peers share."""

    name: str
    first: tuple[str, ...]  # installed with what they need, before the list
    told: tuple[str, ...]  # whose versions stand in the lines

    @property
    def requirements(self) -> Path:
        return PEERS / f"{self.name}_requirements.txt"

    def python(self, folder: Path) -> Path:
        """The interpreter; the environment is made where it is not there, or not whole.

        Raises:
            PeerError: pip cannot make it here.
        """
        place = folder / self.name
        wanted = hashlib.sha256(" ".join(self.first).encode() + self.requirements.read_bytes()).hexdigest()
        made = place / "made.txt"
        if not made.exists() or made.read_text() != wanted:
            shutil.rmtree(place, ignore_errors=True)
            self._make(place)
            made.write_text(wanted)
        return place / "bin" / "python"

    def _make(self, place: Path) -> None:
        pip = [str(place / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        steps = [[sys.executable, "-m", "venv", str(place)]]
        steps += [[*pip, *self.first]] if self.first else []
        steps += [[*pip, "--no-deps", "-r", str(self.requirements)]]
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True)
            if done.returncode != 0:
                reason = next((line for line in reversed(done.stderr.splitlines()) if "ERROR" in line), "no reason")
                raise PeerError(f"the environment {self.name} cannot be made here: {reason}")

    def versions(self, folder: Path) -> dict[str, str]:
        """What the environment holds, told by itself."""
        code = f"import importlib.metadata as m, json; print(json.dumps({{n: m.version(n) for n in {self.told}}}))"
        command = [str(self.python(folder)), "-c", code]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


ENVIRONMENTS = {
    each.name: each
    for each in (
        Environment("torch", (TORCH,), ("torch", "torchvision", "timm", "lightning", "fastai", "ultralytics")),
        Environment("keras", (), ("keras", "tensorflow-cpu")),
    )
}
SCRIPTS = {  # of each peer: its environment and what asks it
    "pytorch": ("torch", "with_torch.py"),
    "timm": ("torch", "with_timm.py"),
    "lightning": ("torch", "with_lightning.py"),
    "fastai": ("torch", "with_fastai.py"),
    "keras": ("keras", "with_keras.py"),
    "ultralytics": ("torch", "with_ultralytics.py"),
}


def default_folder() -> Path:
    """Where the environments lie if nobody says."""
    return platformdirs.user_cache_path("vitreous-peers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=Path, default=default_folder(), metavar="FOLDER")
    folder = parser.parse_args().environments.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    for environment in ENVIRONMENTS.values():
        try:
            environment.python(folder)
            told = environment.versions(folder)
        except PeerError as error:
            told = {"error": str(error)}
        print(json.dumps({"environment": environment.name, **told}), flush=True)


if __name__ == "__main__":
    main()

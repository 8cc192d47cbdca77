"""Weights that training here did not make: a file or folder in, checked tensors out, and how their images looked."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vitreous import storage
from vitreous.data.preprocess import Preprocess
from vitreous.errors import ConfigError
from vitreous.run import Run, run_path
from vitreous.weights.header import TORCH_ENDINGS, Header, kind_by_name, read_header, shortened
from vitreous.weights.preprocessing import (
    WeightPreprocessing,
    noted_preprocessing,
    preprocessing_beside,
    torchvision_name,
    torchvision_preprocessing,
)

NAME = "model.safetensors"  # the one file of a folder that timm, Hugging Face or training here wrote


@dataclass(frozen=True, slots=True)
class WeightFile:
    """Tensors by name, and where they are from.

    Numbers with a fraction are float32, whatever the file stores; ``remarks`` says where that changed them. ``origin``
    says in one phrase where ``preprocessing`` was found, or that it was not.
    """

    path: Path
    sha256: str
    tensors: Mapping[str, Tensor]
    preprocessing: WeightPreprocessing | None
    origin: str
    remarks: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None  # in the order of the head's outputs, where a run tells them


def open_weights(path: str | Path) -> WeightFile:
    """The weights in a ``.safetensors`` file, a folder of timm's or Hugging Face's, or a run, by path or name.

    Raises:
        ConfigError: no such file, not a safetensors file, a damaged one, or one whose numbers are not finite.
        RunError: a run folder without weights, or with weights that training did not write.
    """
    path = Path(path)
    try:
        if not path.exists() and (run := run_path(str(path))).is_dir():  # a name below runs/
            path = run
        return _opened(_weight_file(path))
    except OSError as error:
        raise ConfigError(f"the weight file {path} cannot be read: {error.strerror or error}.") from None


def _opened(path: Path) -> WeightFile:
    classes = None
    if (path.parent / "manifest.json").is_file() and path.name == NAME:
        run = Run.open(path.parent)
        read_header(run.verified_weights())
        found: tuple[WeightPreprocessing | None, str] = _of_run(run), f"the run {run.path}"
        classes = run.classes
    else:
        found = _found_preprocessing(path, read_header(path))
    try:
        stored = load_file(path)
    except (SafetensorError, ValueError) as error:
        raise ConfigError(f"{path} is not a whole safetensors file: {error}; fetch or copy it again.") from None
    tensors, remarks = _in_float32(stored)
    _require_finite(path, tensors)
    return WeightFile(path, storage.sha256_file(path), tensors, *found, remarks, classes)


def _weight_file(path: Path) -> Path:
    """The file that is meant; refuses what is no safetensors file by its name, before it is touched."""
    if path.is_dir():
        return _in_folder(path)
    if not path.exists():
        raise ConfigError(f"the weight file {path} does not exist.")
    if path.suffix.lower() in TORCH_ENDINGS:
        raise ConfigError(
            f"{path} is a pickle, which may hold code; `vitreous convert {path}` makes a .safetensors file of it, "
            "running nothing."
        )
    if kind := kind_by_name(path):
        raise ConfigError(f"{path} is {kind}; weights are read from a .safetensors file.")
    return path


def _in_folder(folder: Path) -> Path:
    if (folder / NAME).is_file() or (folder / "manifest.json").is_file():
        return folder / NAME
    found = sorted(file.name for file in folder.glob("*.safetensors"))
    if len(found) == 1:
        return folder / found[0]
    if (folder / f"{NAME}.index.json").is_file():
        raise ConfigError(f"the weights in {folder} are spread over {len(found)} files; join them into {NAME}.")
    if found:
        raise ConfigError(f"{folder} holds {len(found)} weight files ({', '.join(found[:4])} …); name one of them.")
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in TORCH_ENDINGS:
            raise ConfigError(f"{folder} holds no {NAME}; `vitreous convert {file}` makes one of {file.name}.")
    raise ConfigError(f"{folder} holds no {NAME} and is no run folder.")


def _found_preprocessing(path: Path, header: Header) -> tuple[WeightPreprocessing | None, str]:
    """What came with the file, the nearest first: its own header, a file beside it, its name."""
    if noted := noted_preprocessing(path, header.metadata):
        return noted, f"the header of {path.name}"
    is_alone = len(list(path.parent.glob("*.safetensors"))) == 1  # else it is not said whose the file beside it is
    if (path.name == NAME or is_alone) and (beside := preprocessing_beside(path)):
        return beside
    if name := torchvision_name(path.stem):
        return torchvision_preprocessing(name), f"the file name, torchvision's {name}"
    return None, "nothing came with the file"


def _of_run(run: Run) -> WeightPreprocessing:
    contract = Preprocess.from_dict(run.manifest["preprocessing"])
    return WeightPreprocessing(
        mean=contract.mean,
        std=contract.std,
        size=(contract.height, contract.width),
        fit="pad" if contract.fit == "centre" else contract.fit,
        crop_fraction=run.manifest["preprocessing"].get("crop_fraction", 1.0),
        interpolation=contract.interpolation,
    )


def _in_float32(stored: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Every kind of fraction as float32; counters and masks stay what they are."""
    others = {tensor.dtype for tensor in stored.values() if tensor.is_floating_point()} - {torch.float32}
    tensors = {name: each.float() if each.is_floating_point() else each for name, each in stored.items()}
    if not others:
        return tensors, ()
    kinds = " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in others))
    return tensors, (f"the file stores {kinds}; made float32",)


def _require_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    broken = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise ConfigError(
            f"{path}: {len(broken)} of its {len(tensors)} tensors hold numbers that are not finite, "
            f"e.g. {shortened(broken[0])}; no network can be trained from them."
        )

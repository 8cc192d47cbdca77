"""What a run saw in an image: the sum behind one number, what a layer holds, pictures of the whole."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vitreous.allocator import kept_blocks
from vitreous.errors import DataError, DecodeError, UserError
from vitreous.explanation.arithmetic import Address, Sum, address_of, find_output, json_number
from vitreous.explanation.arithmetic import explain_number as explain_value
from vitreous.explanation.examples import Example
from vitreous.explanation.examples import example as work_example
from vitreous.explanation.overview import Explanation, explain_image
from vitreous.predictor import Predictor
from vitreous.predictor.torch_backend import network_input, predictor_of
from vitreous.progress import SILENT, Progress
from vitreous.run import Run, run_path
from vitreous.trace.values import Values, record_values
from vitreous.training.engine import recorded_threads
from vitreous.weights import network_from_manifest, network_from_run


@dataclass(frozen=True)
class LayerFacts:
    """What a layer holds for one image; shapes without the dimension of the batch."""

    layer: str
    call: int
    op: str
    shape: tuple[int, ...]
    lowest: float
    mean: float
    highest: float
    highest_at: Address

    def to_json(self) -> dict[str, Any]:
        """The document of ``vitreous explain --layer --json``."""
        return {
            "layer": self.layer,
            "call": self.call,
            "op": self.op,
            "shape": list(self.shape),
            "lowest": json_number(self.lowest),
            "mean": json_number(self.mean),
            "highest": json_number(self.highest),
            "highest_at": list(self.highest_at.at),
        }


@dataclass(frozen=True)
class Seen:
    """A run's network and one image as it takes it."""

    run: Run
    network: nn.Module
    predictor: Predictor
    pixels_HWC: NDArray[np.uint8]
    input_1CHW: Tensor

    @property
    def classes(self) -> Sequence[str]:
        """The names of the logits."""
        return self.run.classes


def explain(
    run: str | Path,
    image: str | Path,
    *,
    out: str | Path | None = None,
    target: str | None = None,
    model: str | None = None,
    accept_changed_code: bool = False,
    progress: Progress = SILENT,
) -> Explanation:
    """Pictures of what a run's network saw in an image, a page around them, and the numbers as JSON.

    Args:
        run: the run.
        image: a file.
        out: a new folder; by default ``explanations/NAME`` in the run, with a number if that exists.
        target: the class to explain, by name; by default the network's answer.
        model: ``file.py:factory`` again, where that built the network.
        accept_changed_code: take the file though it is not what it was.
        progress: where a bar goes.

    Raises:
        UserError: there is no such run, image or class, or ``out`` exists.
    """
    seen = look(run, image, model=model, accept_changed_code=accept_changed_code)
    number = None if target is None else _class_number(seen, target)
    fresh = network_from_manifest(seen.run.manifest, model=model, accept_changed_code=accept_changed_code).eval()
    folder = Path(out) if out is not None else _free(seen.run.path / "explanations", Path(image).stem)
    with recorded_threads(seen.run.config.engine), kept_blocks():
        return explain_image(
            seen.network,
            seen.input_1CHW,
            seen.pixels_HWC,
            seen.classes,
            folder,
            name=Path(image).name,
            target=number,
            fresh=fresh,
            temperature=seen.predictor.calibration.temperature,
            progress=progress,
        )


def _class_number(seen: "Seen", name: str) -> int:
    if name not in seen.classes:
        near = difflib.get_close_matches(name, seen.classes, n=3, cutoff=0.4) or list(seen.classes[:5])
        raise UserError(f"{seen.run.path} knows no class {name!r}; there is {', '.join(near)}.")
    return list(seen.classes).index(name)


def _free(folder: Path, stem: str) -> Path:
    """A name that nothing bears yet."""
    names = (stem, *(f"{stem}-{number}" for number in range(2, 10_000)))
    return next(folder / name for name in names if not (folder / name).exists())


def explain_number(
    run: str | Path,
    image: str | Path,
    layer: str,
    at: Sequence[int],
    *,
    call: int = 0,
    model: str | None = None,
    accept_changed_code: bool = False,
) -> Sum:
    """The sum behind one number that a run's network computes for an image.

    Args:
        run: the run.
        image: a file.
        layer: an operation's name, or a module's path.
        at: the place in its output: (channel, y, x) of a map.
        call: which run of the layer, where it runs several times.
        model: ``file.py:factory`` again, where that built the network.
        accept_changed_code: take the file though it is not what it was.

    Raises:
        UserError: there is no such run, image, layer or place, or nothing is known of the operation.
    """
    seen = look(run, image, model=model, accept_changed_code=accept_changed_code)
    return explain_value(_values(seen), layer, at, call)


def describe_layer(
    run: str | Path,
    image: str | Path,
    layer: str,
    *,
    call: int = 0,
    model: str | None = None,
    accept_changed_code: bool = False,
) -> LayerFacts:
    """What a layer holds for an image, and where its highest number stands: somewhere to begin."""
    values = _values(look(run, image, model=model, accept_changed_code=accept_changed_code))
    ref = find_output(values, layer, call)
    assert ref.operation is not None
    output = values.of(ref)
    if output.is_complex():
        raise UserError(f"{layer} holds complex numbers, of which none is the highest.")
    numbers = output.double()
    place = torch.unravel_index(numbers.argmax(), numbers.shape)
    highest_at = address_of(values, ref, [int(each) for each in place])
    return LayerFacts(
        layer=highest_at.layer,
        call=highest_at.call,
        op=values.recording.operations[ref.operation].function,
        shape=ref.shape[len(ref.shape) - len(highest_at.at) :],
        lowest=float(numbers.min()),
        mean=float(numbers.mean()),
        highest=float(numbers.max()),
        highest_at=highest_at,
    )


def explain_example(number: int) -> Example:
    """One of the article's worked examples, made by the engine that explains any network."""
    return work_example(number)


def look(run: str | Path, image: str | Path, *, model: str | None = None, accept_changed_code: bool = False) -> Seen:
    """A run's network, on the processor, and an image by the run's own contract.

    Raises:
        UserError: there is no such run, or the image cannot be read.
    """
    opened = Run.open(run_path(str(run)))
    network = network_from_run(opened, model=model, accept_changed_code=accept_changed_code)
    predictor = predictor_of(opened, network, "cpu")
    path = Path(image)
    if not path.is_file():
        raise UserError(f"there is no image {path}.")
    try:
        pixels = predictor.preprocess.pixels(path)
    except DecodeError as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    return Seen(opened, network, predictor, pixels, network_input(torch.tensor(pixels[None]), predictor.preprocess))


def _values(seen: Seen) -> Values:
    with recorded_threads(seen.run.config.engine):
        return record_values(seen.network, seen.input_1CHW)

"""A folder that timm takes in our place: ``timm.create_model("local-dir:DIR", pretrained=True)``.

It holds what timm's own ``save_for_hf`` would write, config.json and model.safetensors. The weights get timm's names,
by an explicit mapping for each family. Source of names and keys: timm 1.0, models/_hub.py, vgg.py, efficientnet.py.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitreous import storage
from vitreous.data.decode import decode
from vitreous.data.preprocess import Preprocess
from vitreous.errors import ConfigError, RunError, VerificationError
from vitreous.models.foreign import import_timm, is_timm, last_line, timm_name
from vitreous.models.initialisation import seeded
from vitreous.models.mobilenet import STAGES
from vitreous.predictor import Predictor
from vitreous.predictor.torch_backend import network_input
from vitreous.run import Run
from vitreous.weights import encode_weights

TOLERANCE = 1e-4  # of the largest logit: what other kernels may add up in another order
_SAME_KEYS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
_VGGS = tuple(f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn"))
_ARCHITECTURES = {name: name for name in (*_SAME_KEYS, *_VGGS)} | {"mobilenet_v2": "mobilenetv2_100"}
_CROP_MODES = {"crop": "center", "squash": "squash", "pad": "border", "centre": "border"}


@dataclass(frozen=True, slots=True)
class TimmFolder:
    """What was written, and how far its logits are from the run's on the run's golden inputs."""

    path: Path
    architecture: str
    num_inputs: int
    largest_difference: float
    remarks: tuple[str, ...]


def export_timm(run: Run, network: nn.Module, predictor: Predictor, out: Path) -> TimmFolder:
    """Write ``out``, after timm has loaded it and answered the run's golden inputs as ``predictor`` does.

    Args:
        run: a complete run of a network that timm has too.
        network: with the run's weights.
        predictor: of the run.
        out: the new folder.

    Raises:
        ConfigError: timm has no such network or preprocessing, or is not installed.
        RunError: ``out`` exists, or the run has no golden inputs.
        VerificationError: timm's answers differ; nothing is kept.
    """
    if out.exists() or out.is_symlink():
        raise RunError(f"{out} exists already and is never written over; name another place with --out.")
    architecture = timm_architecture(run.manifest["model"]["name"])
    timm = import_timm()
    golden = _golden_inputs(run)
    temperature = predictor.calibration.temperature
    remarks = (*_fit_remarks(predictor.preprocess, golden), *_temperature_remarks(temperature))
    _require_same_pooling(architecture, predictor.preprocess)
    state = timm_state(run.manifest["model"]["name"], network.state_dict())
    config = _config(_theirs(timm, architecture, network), run, predictor.preprocess, temperature)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    with storage.explained(out):
        temporary.mkdir(parents=True)
    try:
        storage.write_atomic(temporary / "model.safetensors", encode_weights(state))
        storage.write_json(temporary / "config.json", config)
        difference = _verify(timm, temporary, predictor, golden)
        storage.replace_directory(temporary, out)
    finally:
        storage.remove_directory(temporary)
    return TimmFolder(out, architecture, len(golden), difference, remarks)


def timm_architecture(model: str) -> str:
    """The name that timm has for a network.

    Raises:
        ConfigError: timm has no such network.

    >>> timm_architecture("mobilenet_v2"), timm_architecture("timm:resnet18.a1_in1k")
    ('mobilenetv2_100', 'resnet18')
    """
    if is_timm(model):
        return timm_name(model).partition(".")[0]
    if model in _ARCHITECTURES:
        return _ARCHITECTURES[model]
    raise ConfigError(
        f"timm has no network like {model!r}; {', '.join(_SAME_KEYS)}, vgg11 to vgg19 with and without _bn, "
        "mobilenet_v2 and every timm:NAME can be exported."
    )


def timm_state(model: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a network of ours under timm's names; where timm has a convolution for a layer, in its shape."""
    if model == "mobilenet_v2":
        names = dict(_mobilenet_names())
        return {_renamed(name, names): tensor for name, tensor in state.items()}
    if model in _VGGS:
        names = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2", "classifier.6": "head.fc"}
        sides = {"pre_logits.fc1.weight": 7, "pre_logits.fc2.weight": 1}  # of the kernel that reads the whole map
        renamed = {_renamed(name, names): tensor for name, tensor in state.items()}
        return {
            name: tensor.reshape(len(tensor), -1, sides[name], sides[name]) if name in sides else tensor
            for name, tensor in renamed.items()
        }
    return dict(state)


def _renamed(name: str, names: Mapping[str, str]) -> str:
    layer, _, tensor = name.rpartition(".")
    return f"{names.get(layer, layer)}.{tensor}"


def _mobilenet_names() -> Iterator[tuple[str, str]]:
    """Each layer of ``vitreous.models.mobilenet`` with timm's name for it."""
    yield from (("features.0.0", "conv_stem"), ("features.0.1", "bn1"))
    number = 0
    for stage, (expansion, _, num_blocks, _) in enumerate(STAGES):
        for block in range(num_blocks):
            number += 1
            ours = (
                ("0.0", "0.1", "1", "2")
                if expansion == 1
                else ("0.0", "0.1", "1.0", "1.1", "2", "3")  # widen, filter, narrow, each with its norm
            )
            theirs = (
                ("conv_dw", "bn1", "conv_pw", "bn2")
                if expansion == 1
                else ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")
            )
            for our_name, their_name in zip(ours, theirs, strict=True):
                yield f"features.{number}.conv.{our_name}", f"blocks.{stage}.{block}.{their_name}"
    yield from ((f"features.{number + 1}.0", "conv_head"), (f"features.{number + 1}.1", "bn2"))
    yield "classifier.1", "classifier"


def _theirs(timm: Any, architecture: str, network: nn.Module) -> Any:
    """The network as timm has it, which knows some facts about itself."""
    if hasattr(network, "pretrained_cfg"):
        return network
    with torch.device("meta"):
        return timm.create_model(architecture, pretrained=False)


def _config(theirs: Any, run: Run, preprocess: Preprocess, temperature: float) -> dict[str, Any]:
    num_classes, channels = len(run.classes), preprocess.channels
    facts = theirs.pretrained_cfg
    return {
        "architecture": facts["architecture"],
        "num_classes": num_classes,
        "num_features": theirs.num_features,
        "label_names": list(run.classes),
        "temperature": temperature,  # timm passes over it
        **({"model_args": {"in_chans": channels}} if channels != 3 else {}),
        "pretrained_cfg": {
            "tag": "vitreous",
            "custom_load": False,
            "input_size": [channels, preprocess.height, preprocess.width],
            "fixed_input_size": bool(facts.get("fixed_input_size")),
            "interpolation": preprocess.interpolation,
            "crop_pct": preprocess.crop_fraction,
            "crop_mode": _CROP_MODES[preprocess.fit],
            "mean": list(preprocess.mean),
            "std": list(preprocess.std),
            "num_classes": num_classes,
            "pool_size": None,  # of pooling at test time, which depends on the size
            "first_conv": facts.get("first_conv"),
            "classifier": facts.get("classifier"),
        },
    }


def _fit_remarks(preprocess: Preprocess, golden: list[bytes]) -> tuple[str, ...]:
    """What timm does otherwise with pictures that have not the network's size.

    Raises:
        ConfigError: it would be too much.
    """
    if preprocess.fit == "pad":
        return (
            f"where a picture needs a border, timm's has the mean colour, training's was {preprocess.pad_value}; "
            "scores of such pictures may differ.",
        )
    if preprocess.fit == "centre":
        sizes = {decode(image).shape[:2] for image in golden}
        if sizes != {(preprocess.height, preprocess.width)}:
            raise ConfigError(
                "this run puts small pictures in the middle without enlarging them (data.fit = centre), which timm "
                "cannot do; train with --set data.fit=pad, squash or crop to export."
            )
        return (f"the run's pictures are all {preprocess.height} x {preprocess.width}; timm scales others to that.",)
    return ()


def _temperature_remarks(temperature: float) -> tuple[str, ...]:
    """What timm does not know of the run's confidence."""
    if temperature == 1:
        return ()
    return (
        f"timm gives the logits: divide them by {temperature:.4f} (`temperature` in config.json) before the softmax "
        "for the run's confidence; its sets of candidates and its eye for unfamiliar pictures stay here.",
    )


def _require_same_pooling(architecture: str, preprocess: Preprocess) -> None:
    if architecture in _VGGS and max(preprocess.height, preprocess.width) // 32 > 7:
        raise ConfigError(
            f"{architecture} at {preprocess.height} x {preprocess.width}: here maps above 7 x 7 are averaged to 7 x 7, "
            "timm's network slides over them, so the two differ; train with --image-size 224 to export."
        )


def _golden_inputs(run: Run) -> list[bytes]:
    folder = run.path / "golden"
    try:
        rows = json.loads((folder / "expected.json").read_bytes())
        return [(folder / row["file"]).read_bytes() for row in rows]
    except (OSError, ValueError, KeyError, TypeError):
        raise RunError(
            f"{run.path} has no golden inputs to verify an export on; `vitreous resume {run.path}` completes it."
        ) from None


def _verify(timm: Any, folder: Path, predictor: Predictor, golden: list[bytes]) -> float:
    """The largest difference of a logit between timm's network, loaded from ``folder``, and ours."""
    pixels = np.stack([predictor.preprocess.pixels(image) for image in golden])
    ours = predictor.logits(pixels)
    try:
        with seeded(0), torch.inference_mode():  # the fresh weights that it replaces are random
            network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
            theirs = network(network_input(torch.from_numpy(pixels), predictor.preprocess)).numpy()
    except Exception as error:  # timm raises whatever it likes
        raise VerificationError(f"timm cannot load what was exported, so it is not kept: {last_line(error)}") from error
    difference = float(np.abs(ours - theirs).max()) if ours.shape == theirs.shape else float("inf")
    allowed = TOLERANCE * max(1.0, float(np.abs(ours).max()))
    if not difference <= allowed:
        raise VerificationError(
            f"timm scores the exported network otherwise, so it is not kept: logits differ by up to {difference:.3g}, "
            f"{allowed:.3g} is allowed."
        )
    return difference

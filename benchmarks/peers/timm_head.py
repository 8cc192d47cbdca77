"""A head on timm's frozen mobilenetv2_100, with timm's own data set, transforms and loader.

    python timm_head.py DATA WEIGHTS.safetensors [--bf16]

timm's train.py is not in its wheel, so this is what it does, for a head alone: the frozen rest is in evaluation mode
and under no_grad, channels last, a worker for each core, and the images are not varied. Prints JSON.
"""

import argparse
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812, the field's name for it
import torchvision_operators
from safetensors.torch import load_file
from torch import Tensor, nn

torchvision_operators.define()

import timm  # noqa: E402, these two need the operators
import torchvision  # noqa: E402
from timm.data import create_dataset, create_loader  # noqa: E402

EPOCHS, BATCH_SIZE = 5, 64
RATE = 0.01  # the best of 0.001, 0.003, 0.01 and 0.03 on four folds of the training images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--bf16", action="store_true", help="as --amp --amp-dtype bfloat16 of train.py")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    train, test = loader(arguments.data / "train"), loader(arguments.data / "test")
    model = mobilenet(arguments.weights, num_classes=sum(1 for _ in (arguments.data / "train").iterdir()))
    optimizer = torch.optim.AdamW(model.get_classifier().parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * len(train))
    epoch_seconds, num_seen = [], 0
    for _ in range(EPOCHS):
        started = time.perf_counter()
        for images, labels in train:
            loss = F.cross_entropy(logits(model, images, arguments.bf16), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            num_seen += len(labels)
        epoch_seconds.append(time.perf_counter() - started)
    hits = test_hits(model, test, arguments.bf16)
    outcome = {"epoch_seconds": epoch_seconds, "num_seen": num_seen}
    print(json.dumps(outcome | {"accuracy": float(hits.float().mean()), "num_test": len(hits)}))


def loader(folder: Path) -> Iterable[tuple[Tensor, Tensor]]:
    """Shuffled for ``train``, where the last batch is left out if it is not full; images as the weights want them."""
    is_training = folder.name == "train"
    dataset = create_dataset("", root=folder, search_split=False)
    return create_loader(
        dataset,
        input_size=(3, 224, 224),
        batch_size=min(BATCH_SIZE, len(dataset)),
        is_training=is_training,
        no_aug=True,
        interpolation="bilinear",
        crop_pct=0.875,
        num_workers=len(os.sched_getaffinity(0)),
        persistent_workers=is_training,
        device=torch.device("cpu"),
    )


def mobilenet(weights: Path, num_classes: int) -> nn.Module:
    """With torchvision's weights, which have other names here but the same order; all but the new head is frozen."""
    original = torchvision.models.mobilenet_v2()
    original.load_state_dict(load_file(weights))
    model = timm.create_model("mobilenetv2_100")
    model.load_state_dict(dict(zip(model.state_dict(), original.state_dict().values(), strict=True)))
    model.reset_classifier(num_classes)
    model.requires_grad_(False).eval()
    model.get_classifier().requires_grad_(True)
    return model.to(memory_format=torch.channels_last)


def logits(model: nn.Module, images: Tensor, bf16: bool) -> Tensor:
    """A context of its own for each batch: until it ends, autocast keeps the head's rounded weights as they were."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        with torch.no_grad():
            features = model.forward_features(images.contiguous(memory_format=torch.channels_last))
        return model.forward_head(features).float()


def test_hits(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], bf16: bool) -> Tensor:
    with torch.no_grad():
        return torch.cat([logits(model, images, bf16).argmax(1) == labels for images, labels in batches])


if __name__ == "__main__":
    main()

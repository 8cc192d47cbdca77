"""What each of several ranks does in ``test_distributed.py``: started with RANK, WORLD_SIZE and the master's address.

Rank 0 writes what it saw to the file that is named.
"""

import copy
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from vitreous.checkpoint import save_checkpoint
from vitreous.data.preprocess import Preprocess
from vitreous.predictor import Predictor
from vitreous.predictor.torch_backend import TorchBackend
from vitreous.training.clock import Clock
from vitreous.training.distributed import joined
from vitreous.training.step import train_step

NUM_IMAGES = 11  # not a multiple of the number of ranks


def main(out: Path) -> None:
    torch.set_num_threads(1)
    with joined() as world:
        seen = {
            "size": world.size,
            "voted": world.voted(15 if world.rank == 1 else 0),
            "shared": world.shared(lambda: {"by": world.rank}),
            "gradients": {
                name: gradient_error(world, network) for name, network in {"plain": plain(), "norms": norms()}.items()
            },
            "logits": same_logits(world),
            "checkpoint": same_checkpoint(world, out.parent / "checkpoints"),
        }
        if world.is_first:
            out.write_text(json.dumps(seen))


def plain() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)).double()


def norms() -> nn.Module:
    """Norms in two and one dimensions, with and without weights, one of them frozen."""
    torch.manual_seed(0)
    frozen = nn.BatchNorm2d(6).eval()
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.Conv2d(4, 6, 3, bias=False), frozen, nn.BatchNorm2d(6, affine=False), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(6 * 16, 5, bias=False), nn.BatchNorm1d(5)),
    ).double()


def gradient_error(world, network) -> dict[str, float]:
    """One clipped step of all ranks beside one process' own, which torch alone computes on the whole batch."""
    alone = copy.deepcopy(network)
    images = 3 * torch.randn(NUM_IMAGES, 3, 8, 8, dtype=torch.float64) + 2
    labels = torch.arange(NUM_IMAGES) % 5
    weights_K = torch.tensor([0.5, 2.0, 1.0, 1.5, 0.2])
    settings = {"precision": "fp32", "label_smoothing": 0.1, "class_weights_K": weights_K, "clip_norm": 0.5}
    settings["clock"] = Clock(is_exact=False)
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.1) for each in (network, alone)]
    part = world.part(torch.arange(NUM_IMAGES))
    share = world.loss_share(NUM_IMAGES)
    loss = train_step(world.replicated(network), images[part], labels[part], optimizers[0], share=share, **settings)
    wanted = train_step(alone, images, labels, optimizers[1], **settings)
    pairs = list(zip(network.state_dict().values(), alone.state_dict().values(), strict=True))
    ours, wanted_gradient = (torch.cat([p.grad.flatten() for p in each.parameters()]) for each in (network, alone))
    return {
        "loss": float((world.mean(loss) - wanted).abs()),
        "gradient": float((ours - wanted_gradient).norm() / wanted_gradient.norm()),
        "state": max(float((a.double() - b.double()).abs().max()) for a, b in pairs),
    }


def same_logits(world) -> list[bool]:
    """For some numbers of images: whether the ranks together give one process' bits."""
    torch.manual_seed(1)
    preprocess = Preprocess(height=224, width=224, channels=1, fit="pad", mean=(0.5,), std=(0.25,))
    network = nn.Sequential(nn.Conv2d(1, 4, 7, stride=8), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 28 * 28, 3))
    predictor = Predictor(TorchBackend(network, preprocess, torch.device("cpu")), preprocess, ("a", "b", "c"))
    pixels = np.random.default_rng(0).integers(0, 256, (101, 224, 224, 1), np.uint8)
    numbers = (0, 1, predictor.batch_size, 101)
    return [world.logits(predictor, pixels[:n]).tobytes() == predictor.logits(pixels[:n]).tobytes() for n in numbers]


def same_checkpoint(world, folder: Path) -> bool:
    """Whether all ranks get, to the bit, what the first one alone can read."""
    tensors = {"a.b": torch.arange(6.0).view(2, 3), "n": torch.tensor(7), "half": torch.ones(2, dtype=torch.bfloat16)}
    if world.is_first:
        save_checkpoint(folder, 5, tensors, {"epoch": 1, "loss": 0.1}, None)
    elsewhere = folder if world.is_first else folder.parent / "nothing is here"
    checkpoint, problems = world.shared_checkpoint(elsewhere, None)
    same = not problems and (checkpoint.step, checkpoint.progress) == (5, {"epoch": 1, "loss": 0.1})
    same = same and all(torch.equal(checkpoint.tensors[name], tensor) for name, tensor in tensors.items())
    return world.voted(int(not same)) == 0


if __name__ == "__main__":
    main(Path(sys.argv[1]))

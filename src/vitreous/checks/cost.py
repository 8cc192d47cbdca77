"""What one epoch of training will take on this machine: time measured on a few steps, memory counted from the trace."""

import copy
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from vitreous.allocator import kept_blocks
from vitreous.checks.finding import Finding
from vitreous.config import EngineConfig
from vitreous.trace.summary import Summary
from vitreous.training.engine import lay_out
from vitreous.training.layer_precision import keep_in_fp32, layers_better_in_fp32
from vitreous.training.step import batch_loss

_STEP_MACS = 60e9  # of one probed step; more images at once would only take longer
_SECONDS = 3.0
_BACKWARD = 3  # a backward pass computes about two forwards


@dataclass(frozen=True, slots=True)
class EpochCost:
    """For one epoch; ``memory`` in bytes is that of parameters, gradients, optimizer (two numbers each) and maps."""

    seconds: float
    precision: str
    images_per_second: float
    num_images: int
    batch_size: int
    memory: int
    macs_per_second: float

    def to_json(self) -> dict[str, Any]:
        """As one object of ``vitreous check --json``."""
        return asdict(self)

    @property
    def finding(self) -> Finding:
        """The same in the voice of a check."""
        return Finding(
            code="epoch-cost",
            severity="note",
            where="the network",
            seen=f"one epoch takes about {_duration(self.seconds)} here and {self.memory / 2**20:,.0f} MiB of memory",
            arithmetic=f"{self.num_images:,} images / {self.images_per_second:,.0f} images/s, measured in "
            f"{self.precision} ({self.macs_per_second / 1e9:,.0f} GMAC/s); memory of a batch of {self.batch_size}",
            edit="a smaller --image-size costs with its square; training.batch_size decides the memory",
        )


@kept_blocks()
def epoch_cost(
    network: nn.Module, summary: Summary, *, num_classes: int, num_images: int, batch_size: int
) -> EpochCost:
    """Run a few steps on random images, in fp32 and in bf16, and take the faster.

    Args:
        network: with its numbers, on the processor; left as it was.
        summary: of this network at the size in question.
        num_classes: how many it tells apart.
        num_images: of an epoch.
        batch_size: that training would take.
    """
    affordable = int(_STEP_MACS / (_BACKWARD * max(summary.trace.macs, 1)))
    probed = max(2, min(batch_size, num_images, affordable))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        images = torch.rand(probed, *summary.input).to(memory_format=torch.channels_last)
        labels = torch.randint(num_classes, (probed,))
    probe = lay_out(copy.deepcopy(network).train(), EngineConfig(channels_last=True))
    keep_in_fp32(probe, layers_better_in_fp32(probe, images))
    seconds = {precision: _step_seconds(probe, images, labels, precision) for precision in ("fp32", "bf16")}
    precision = min(seconds, key=lambda name: seconds[name])
    rate = probed / seconds[precision]
    return EpochCost(
        seconds=num_images / rate,
        precision=precision,
        images_per_second=rate,
        num_images=num_images,
        batch_size=batch_size,
        memory=4 * 4 * summary.trace.parameters + min(batch_size, num_images) * summary.memory.for_training,
        macs_per_second=_BACKWARD * summary.trace.macs * rate,
    )


def _step_seconds(network: nn.Module, images: torch.Tensor, labels: torch.Tensor, precision: str) -> float:
    """The fastest of a few steps, without the update, which costs little; the first warms up and is not counted."""
    best, deadline = float("inf"), time.monotonic() + _SECONDS
    for step in range(6):
        started = time.perf_counter()
        network.zero_grad(set_to_none=True)
        loss = batch_loss(network, images, labels, precision=precision, label_smoothing=0.0, class_weights_K=None)
        loss.backward()  # type: ignore[no-untyped-call]
        if step > 0:
            best = min(best, time.perf_counter() - started)
            if time.monotonic() > deadline:
                break
    return best


def _duration(seconds: float) -> str:
    """Seconds, minutes or hours.

    >>> _duration(4.2), _duration(250), _duration(9000)
    ('4.2 s', '4.2 min', '2.5 h')
    """
    if seconds < 60:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.2g} min" if seconds < 3600 else f"{seconds / 3600:.2g} h"

"""One update."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812, the field's name for it
from torch import Tensor, nn

from vitreous.training.clock import Clock
from vitreous.training.optim import Optimizer


class MixedLabels(NamedTuple):
    """Where images of a batch were mixed: the label of each one's partner, and the share of its own label."""

    partners_N: Tensor
    share_N: Tensor


def train_step(
    network: nn.Module,
    images_NCHW: Tensor,
    labels_N: Tensor,
    optimizer: Optimizer,
    *,
    precision: str,
    label_smoothing: float,
    class_weights_K: Tensor | None,
    clip_norm: float,
    clock: Clock,
    mixed: MixedLabels | None = None,
    num_parts: int = 1,
    share: float = 1.0,
) -> Tensor:
    """One update; returns the mean loss, a detached scalar left on the device.

    Args:
        clock: is told what took how long.
        mixed: the batch's second labels, where its images were mixed.
        num_parts: the gradient is added up over so many parts of the batch, of which only one is in memory at a time.
        share: what this loss counts among those of other processes; what is returned is weighed with it.
    """
    optimizer.zero_grad(set_to_none=True)
    losses = []
    num_images, size = len(images_NCHW), math.ceil(len(images_NCHW) / num_parts)
    for start in range(0, num_images, size):
        span = slice(start, start + size)
        loss = batch_loss(
            network,
            images_NCHW[span],
            labels_N[span],
            precision=precision,
            label_smoothing=label_smoothing,
            class_weights_K=class_weights_K,
            mixed=mixed and MixedLabels(mixed.partners_N[span], mixed.share_N[span]),
        )
        weight = share * len(images_NCHW[span]) / num_images
        if weight != 1:
            loss = loss * weight
        clock.lap("forward")
        loss.backward()  # type: ignore[no-untyped-call]
        clock.lap("backward")
        losses.append(loss.detach())
    if clip_norm > 0:
        nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
    optimizer.step()
    clock.lap("optimizer")
    return torch.stack(losses).sum() if num_parts > 1 else losses[0]


def batch_loss(
    network: nn.Module,
    images_NCHW: Tensor,
    labels_N: Tensor,
    *,
    precision: str,
    label_smoothing: float,
    class_weights_K: Tensor | None,
    mixed: MixedLabels | None = None,
) -> Tensor:
    """The mean cross-entropy of a batch; the network may run in bf16, the loss is always computed in fp32.

    Class weights average 1 over the images of an epoch, so a weighted sum over the batch's size has the expected value
    of the epoch's loss, whichever classes the batch happens to hold.
    """
    with torch.autocast(images_NCHW.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        logits_NK = network(images_NCHW)

    def total(labels_N: Tensor, reduction: str) -> Tensor:
        return F.cross_entropy(
            logits_NK.float(), labels_N, class_weights_K, reduction=reduction, label_smoothing=label_smoothing
        )

    if mixed is not None:
        own_N, other_N = total(labels_N, "none"), total(mixed.partners_N, "none")
        return (mixed.share_N * own_N + (1 - mixed.share_N) * other_N).mean()
    return total(labels_N, "mean") if class_weights_K is None else total(labels_N, "sum") / len(labels_N)

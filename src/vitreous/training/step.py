"""One update."""

import torch
import torch.nn.functional as F  # noqa: N812, the field's name for it
from torch import Tensor, nn
from torch.optim import Optimizer


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
    share: float = 1.0,
) -> Tensor:
    """One update; returns the mean loss, a detached scalar left on the device.

    ``share`` is what this loss counts among those of other processes; what is returned is weighed with it.
    """
    loss = batch_loss(
        network,
        images_NCHW,
        labels_N,
        precision=precision,
        label_smoothing=label_smoothing,
        class_weights_K=class_weights_K,
    )
    if share != 1:
        loss = loss * share
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    if clip_norm > 0:
        nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
    optimizer.step()
    return loss.detach()


def batch_loss(
    network: nn.Module,
    images_NCHW: Tensor,
    labels_N: Tensor,
    *,
    precision: str,
    label_smoothing: float,
    class_weights_K: Tensor | None,
) -> Tensor:
    """The mean cross-entropy of a batch; the network may run in bf16, the loss is always computed in fp32.

    Class weights average 1 over the images of an epoch, so a weighted sum over the batch's size has the expected value
    of the epoch's loss, whichever classes the batch happens to hold.
    """
    with torch.autocast(images_NCHW.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        logits_NK = network(images_NCHW)
    if class_weights_K is None:
        return F.cross_entropy(logits_NK.float(), labels_N, label_smoothing=label_smoothing)
    total = F.cross_entropy(
        logits_NK.float(), labels_N, class_weights_K, reduction="sum", label_smoothing=label_smoothing
    )
    return total / len(labels_N)

"""The head of a pretrained network, fitted to new classes on the features that the frozen rest gives.

With the rest frozen, training a linear head is logistic regression: convex, so that there is one best answer and no
learning rate to choose. Each image passes through the network once.

Source: Kornblith, Shlens, Le 2019, "Do Better ImageNet Models Transfer Better?", section 3 (L-BFGS, L2 by validation).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812, the field's name for it
from numpy.typing import NDArray
from torch import Tensor, nn

from vitreous.data.cache import keep_features
from vitreous.predictor import Predictor
from vitreous.progress import SILENT, Progress

_STRENGTHS = tuple(10.0**exponent for exponent in range(0, -7, -1))  # of the L2 penalty, from strong to weak
_MOST_STEPS = 200


@dataclass(frozen=True, slots=True)
class FittedHead:
    """A linear layer: weights K,D and biases K, with the penalty that validation chose and the losses there."""

    weight_KD: Tensor
    bias_K: Tensor
    strength: float
    train_loss: float
    val_loss: float


def can_fit(network: nn.Module, head: str | None) -> bool:
    """Whether the answer comes from a linear layer with biases, which is what can be fitted."""
    layer = network.get_submodule(head) if head else None
    return isinstance(layer, nn.Linear) and layer.bias is not None


def backbone_features(
    predictor: Predictor,
    head: nn.Linear,
    pixels_MHWC: NDArray[np.uint8],
    index_N: NDArray[np.int64],
    *,
    key: str,
    progress: Progress = SILENT,
    before_batch: Callable[[], None] = lambda: None,
) -> Tensor:
    """What the head is shown for each image: N,D float32; computed now, or kept from an earlier run.

    Args:
        predictor: runs the network that ``head`` is a part of.
        pixels_MHWC: prepared pixels of the whole set, not varied: each image is seen once.
        index_N: which of them, in which order.
        key: a SHA-256 of all that decides the features.
        before_batch: may raise, and then nothing is kept.
    """

    def rows() -> Iterator[NDArray[np.float32]]:
        shown: list[Tensor] = []
        handle = head.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0]))
        try:
            with progress.task("features", len(index_N), "images") as task:
                for start in range(0, len(index_N), predictor.batch_size):
                    before_batch()
                    predictor.logits(pixels_MHWC[index_N[start : start + predictor.batch_size]])
                    features_BD = shown.pop().float().cpu().numpy()
                    yield from features_BD
                    task.advance(len(features_BD))
        finally:
            handle.remove()

    return torch.from_numpy(keep_features(key, len(index_N), head.in_features, rows))


def fit_head(
    train_ND: Tensor,
    train_labels_N: Tensor,
    val_ND: Tensor,
    val_labels_N: Tensor,
    class_weights_K: Tensor,
    strengths: Sequence[float] = _STRENGTHS,
) -> FittedHead:
    """Logistic regression with the L2 penalty that gives the lowest validation loss.

    The penalty acts on features scaled to unit variance, so that its strength means the same for any network; each
    strength starts from the answer of the one before, and the search ends when validation gets worse.
    """
    mean_D, scale_D = train_ND.mean(0), train_ND.std(0, correction=0).clamp_min(1e-6)
    train_ND, val_ND = (train_ND - mean_D) / scale_D, (val_ND - mean_D) / scale_D
    weight_KD = torch.zeros(len(class_weights_K), train_ND.shape[1], requires_grad=True)
    bias_K = torch.zeros(len(class_weights_K), requires_grad=True)
    best: FittedHead | None = None
    for strength in strengths:
        train_loss = _minimise(weight_KD, bias_K, train_ND, train_labels_N, class_weights_K, strength)
        with torch.no_grad():
            val_loss = float(F.cross_entropy(val_ND @ weight_KD.T + bias_K, val_labels_N))
            if best is not None and not val_loss < best.val_loss:
                break
            unscaled_KD = weight_KD / scale_D
            best = FittedHead(unscaled_KD, bias_K - unscaled_KD @ mean_D, strength, train_loss, val_loss)
    assert best is not None, "there is at least one strength"
    return best


def _minimise(
    weight_KD: Tensor, bias_K: Tensor, features_ND: Tensor, labels_N: Tensor, class_weights_K: Tensor, strength: float
) -> float:
    """Move weights and biases to the minimum; returns the loss there, without the penalty."""
    solver = torch.optim.LBFGS(
        [weight_KD, bias_K], max_iter=_MOST_STEPS, history_size=20, line_search_fn="strong_wolfe"
    )
    loss = torch.zeros(())

    def objective() -> Tensor:
        nonlocal loss
        solver.zero_grad()
        logits_NK = features_ND @ weight_KD.T + bias_K
        loss = F.cross_entropy(logits_NK, labels_N, class_weights_K, reduction="sum") / len(labels_N)
        penalised: Tensor = loss + strength / 2 * weight_KD.square().sum()
        penalised.backward()  # type: ignore[no-untyped-call]
        return penalised

    solver.step(objective)  # type: ignore[no-untyped-call]
    return float(loss.detach())

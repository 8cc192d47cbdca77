"""Two images and their labels made one: mixup and CutMix.

Sources: Zhang et al., "mixup: Beyond empirical risk minimization", 2018; Yun et al., "CutMix: Regularization strategy
to train strong classifiers with localizable features", 2019.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Self

import torch
from torch import Tensor

from vitreous.augmentation.boxes import drawn_box, filled
from vitreous.augmentation.counter import Stream, uniform
from vitreous.augmentation.rounding import HALF, to_bytes
from vitreous.config import AugmentationConfig


class Mixed(NamedTuple):
    """A batch of mixed images; the loss is share * loss(own label) + (1 - share) * loss(partner's label)."""

    images_NHWC: Tensor
    partner_N: Tensor  # where in the batch the other label stands
    share_N: Tensor  # of the own label, float32


@dataclass(frozen=True, slots=True)
class Mixing:
    """Each image is mixed with a partner of its batch; where both ways are on, half of the images go each way.

    How much is mixed, in which way and where follows from (seed, epoch, image). The partner is the batch's next image
    in an order that follows from them too, so it depends on which images are in the batch, but not on their order; a
    run that was stopped meets the same batches and so the same partners.

    Attributes:
        mixup: alpha of the Beta(alpha, alpha) distribution of the own share in an average of both images; 0 is off.
        cutmix: the same for the share of the area that stays when a box is filled from the partner, at the same place.
            The box is as wide and tall a part of the image as the other, and cut off at the edge; the label's share is
            that of the pixels that stay.
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    @classmethod
    def from_config(cls, config: AugmentationConfig) -> Self | None:
        """What the settings ask for; None where they ask for none."""
        mixing = cls(config.mixup or 0.0, config.cutmix or 0.0)
        return mixing if mixing.mixup or mixing.cutmix else None

    def __call__(self, images_NHWC: Tensor, index_N: Tensor, *, seed: int, epoch: int) -> Mixed:
        """Mix a batch of varied images (uint8), which have the numbers ``index_N`` in the whole set."""
        draw, device = partial(uniform, seed, epoch, index_N), images_NHWC.device
        partner_N = _next_in_order(draw(Stream.MIX_PARTNER)).to(device)
        others_NHWC = images_NHWC.index_select(0, partner_N)
        cut_share = 0.0 if not self.cutmix else 0.5 if self.mixup else 1.0
        is_cut_N = draw(Stream.MIX_KIND) < cut_share
        share_N = torch.ones_like(is_cut_N, dtype=torch.float64)
        if self.mixup:
            share_N = torch.where(is_cut_N, 1.0, beta(self.mixup, draw(Stream.MIX_SHARE)))
            images_NHWC = averaged(images_NHWC, others_NHWC, share_N)
        if self.cutmix:
            kept_N = torch.where(is_cut_N, beta(self.cutmix, draw(Stream.MIX_SHARE)), 1.0)
            rows, columns = (
                drawn_box(length, (length * (1 - kept_N).sqrt()).long(), draw(stream))
                for length, stream in zip(images_NHWC.shape[1:3], (Stream.MIX_ROW, Stream.MIX_COLUMN), strict=True)
            )
            images_NHWC = filled(images_NHWC, others_NHWC, rows, columns)
            filled_N = (rows[1] - rows[0]) * (columns[1] - columns[0])
            share_N = share_N - filled_N / images_NHWC[0, ..., 0].numel()
        return Mixed(images_NHWC, partner_N, share_N.float().to(device))


def beta(alpha: float, drawn_N: Tensor) -> Tensor:
    """Numbers of the Beta(alpha, alpha) distribution from uniform ones: its quantile function, one number at a time.

    >>> beta(0.2, torch.tensor([0.0, 0.25, 0.5, 0.75], dtype=torch.float64))
    tensor([0.0000, 0.0238, 0.5000, 0.9762], dtype=torch.float64)
    """
    from scipy.special import betaincinv

    return torch.from_numpy(betaincinv(alpha, alpha, drawn_N.numpy()))


def averaged(images_NHWC: Tensor, others_NHWC: Tensor, share_N: Tensor) -> Tensor:
    """``share`` of each image and the rest of the other one, in whole grey levels."""
    own_N111, rest_N111 = (each.float().to(images_NHWC.device)[:, None, None, None] for each in (share_N, 1 - share_N))
    return to_bytes(images_NHWC.float().mul_(own_N111).add_(others_NHWC.float().mul_(rest_N111)).add_(HALF))


def _next_in_order(drawn_N: Tensor) -> Tensor:
    """For each image the place of the one with the next larger number; for the largest, of the smallest."""
    order_N = drawn_N.argsort()
    return torch.empty_like(order_N).scatter_(0, order_N, order_N.roll(-1))

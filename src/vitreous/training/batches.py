"""The training images of a run, batch by batch, as the network sees them."""

import torch
from torch import Tensor

from vitreous.augmentation import Augmentation
from vitreous.augmentation.mixing import Mixing
from vitreous.config import Config, settled
from vitreous.data.order import epoch_order
from vitreous.data.prepared import ImageSet
from vitreous.predictor.torch_backend import network_input
from vitreous.training.distributed.world import ALONE, World
from vitreous.training.engine import in_layout
from vitreous.training.resizing import resized, shown_size
from vitreous.training.step import MixedLabels


class Batches:
    """What the network meets in each epoch; it follows from the seed, the epoch and the images, and from no state.

    Attributes:
        batch_size: images in a step, of all processes together.
        num_batches: in an epoch.
        class_weights_K: such that every class counts the same in all, where that is asked for; their mean over the
            training images is 1.
    """

    def __init__(self, config: Config, images: ImageSet, device: torch.device, world: World = ALONE) -> None:
        self.seed, self.device, self.world = config.seed, device, world
        self.engine, self.training, self.preprocess = config.engine, config.training, images.preprocess
        self.pixels_MHWC = torch.from_numpy(images.pixels)
        self.labels_M = torch.from_numpy(images.labels)
        self.train_indices = images.indices("train")
        self.batch_size = min(settled(config.training.batch_size), len(self.train_indices))
        whole = len(self.train_indices) // self.batch_size  # the rest waits for another epoch's order
        self.num_batches = max(1, round(whole * config.training.epoch_share))
        self.augmentation = Augmentation.from_config(config.augmentation)
        self.mixing = Mixing.from_config(config.augmentation)
        is_balanced = config.training.class_weights == "balanced"
        self.class_weights_K = self._class_weights(len(images.classes)) if is_balanced else None

    def order(self, epoch: int) -> tuple[Tensor, ...]:
        """The numbers of the images in each batch of an epoch."""
        order_N = torch.from_numpy(self.train_indices[epoch_order(len(self.train_indices), self.seed, epoch)])
        return torch.split(order_N, self.batch_size)[: self.num_batches]

    def batch(self, index_N: Tensor, epoch: int) -> tuple[Tensor, Tensor, MixedLabels | None]:
        """Of the images ``index_N`` this process' part: N,C,H,W, their labels, and second labels if they are mixed."""
        part_N = self.world.part(index_N)
        if self.mixing is None:
            pixels_NHWC, mixed = self.augmentation(self.pixels_MHWC, part_N, seed=self.seed, epoch=epoch), None
        else:  # a partner may be in any part of the batch
            pixels_NHWC = self.augmentation(self.pixels_MHWC, index_N, seed=self.seed, epoch=epoch)
            pixels_NHWC, partner_N, share_N = self.mixing(pixels_NHWC, index_N, seed=self.seed, epoch=epoch)
            ours_N = self.world.part(torch.arange(len(index_N)))
            pixels_NHWC = pixels_NHWC[ours_N]
            partners_N = self.labels_M[index_N[partner_N[ours_N]]]
            mixed = MixedLabels(partners_N.to(self.device), share_N[ours_N].to(self.device))
        images_NCHW = network_input(pixels_NHWC.to(self.device, non_blocking=True), self.preprocess)
        size = shown_size((self.preprocess.height, self.preprocess.width), epoch, self.training)
        images_NCHW = in_layout(resized(images_NCHW, size), self.engine)
        return images_NCHW, self.labels_M[part_N].to(self.device), mixed

    def _class_weights(self, num_classes: int) -> Tensor:
        counts_K = torch.bincount(self.labels_M[self.train_indices], minlength=num_classes)
        return (len(self.train_indices) / (num_classes * counts_K.clamp_min(1).float())).to(self.device)

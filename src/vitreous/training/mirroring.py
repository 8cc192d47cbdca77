"""Whether a mirror image could be one of the images: what is looked at before training images are mirrored.

Mirroring is harmless where a class looks the same in a mirror: photographs of cats, but not letters, arrows, shoes that
all point to the left, or chests, in which the heart lies on one side. So each image's nearest neighbour is looked for
among the other images of its class and their mirror images. If the class has no handedness, it is a mirror image every
second time.

Source: the nearest-neighbour test of two samples (Schilling 1986, JASA 81; Henze 1988, Annals of Statistics 16), here
of a sample and its mirror image.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812, the field's name for it
from numpy.typing import NDArray

from vitreous.data.decode import Pixels
from vitreous.data.prepared import ImageSet
from vitreous.evaluation.intervals import wilson

_MOST_IMAGES = 2000
_IMAGES_AT_ONCE = 64
_SIDE = 16  # pixels to which images are reduced
_MOST_HANDED = 0.65  # share of images nearer to an image than to a mirror image; without handedness a half
_EQUAL = 1e-5  # cosines that differ by less
_FEWEST_OF_CLASS = 20  # that say something on their own


@dataclass(frozen=True, slots=True)
class Handedness:
    """Of so many images, how many were nearer to another image of their class than to a mirror image of one."""

    num_nearer: int
    num_images: int
    has_handed_class: bool

    @property
    def is_ruled_out(self) -> bool:
        """Whether mirror images may pass for images, as sure as 95 % intervals make it; not known of a few images."""
        return not self.has_handed_class and wilson(self.num_nearer, self.num_images).high < _MOST_HANDED

    def __str__(self) -> str:
        """What was seen, and what it means."""
        share = f"{self.num_nearer / max(1, self.num_images):.0%} of {self.num_images:,}"
        found = f"{share} images are nearer to another of their class than to a mirror image"
        return f"a mirror would change nothing ({found})" if self.is_ruled_out else f"not mirrored ({found})"


def measure_handedness(images: ImageSet) -> Handedness:
    """Compare the training images, at most 2,000 of them spread evenly, with their mirror images."""
    index_N = images.indices("train")
    index_N = index_N[np.linspace(0, len(index_N) - 1, min(len(index_N), _MOST_IMAGES)).astype(np.int64)]
    labels_N = images.labels[index_N]
    reduced_NHWC = _reduced(images.pixels, index_N).astype(np.float32)
    plain_ND, mirrored_ND = _unit(reduced_NHWC), _unit(reduced_NHWC[:, :, ::-1])
    num_nearer = num_images = 0
    has_handed_class = False
    for label in np.unique(labels_N):
        members = np.flatnonzero(labels_N == label)
        if len(members) < 2:
            continue
        nearer = _nearer(plain_ND[members], mirrored_ND[members])
        num_nearer, num_images = num_nearer + nearer, num_images + len(members)
        is_handed = wilson(nearer, len(members)).low > _MOST_HANDED
        has_handed_class |= is_handed and len(members) >= _FEWEST_OF_CLASS
    return Handedness(num_nearer, num_images, has_handed_class)


def _nearer(plain_ND: NDArray[np.float32], mirrored_ND: NDArray[np.float32]) -> int:
    """How many rows have a nearest neighbour that is not mirrored; where both are as near, every second one counts."""
    plain_N, mirrored_N = _nearest(plain_ND, plain_ND), _nearest(plain_ND, mirrored_ND)
    is_equal_N = np.abs(plain_N - mirrored_N) < _EQUAL
    return int((plain_N > mirrored_N)[~is_equal_N].sum()) + int(is_equal_N.sum()) // 2


def _nearest(plain_ND: NDArray[np.float32], others_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    """The cosine of each row with the nearest of the others, not counting what was made of the same image."""
    likeness_NN = plain_ND @ others_ND.T
    np.fill_diagonal(likeness_NN, -np.inf)
    return np.asarray(likeness_NN.max(axis=1))


def _reduced(pixels: Pixels, index_N: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The images of these numbers, reduced; in small batches, because the pixels may be more than memory holds."""
    batches = (
        torch.from_numpy(pixels[index_N[start : start + _IMAGES_AT_ONCE]]).movedim(3, 1)
        for start in range(0, len(index_N), _IMAGES_AT_ONCE)
    )
    side = (_SIDE, _SIDE)
    return np.concatenate([F.interpolate(x, side, mode="bilinear", antialias=True).movedim(1, 3) for x in batches])


def _unit(images_NHWC: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of mean 0 and length 1, so that light and contrast do not count."""
    rows_ND = images_NHWC.reshape(len(images_NHWC), -1)
    rows_ND = rows_ND - rows_ND.mean(axis=1, keepdims=True)
    return np.asarray(rows_ND / np.maximum(np.linalg.norm(rows_ND, axis=1, keepdims=True), 1e-6), np.float32)

"""What a sample of the scored images shows of the network: whether answers stay when images move; idle filters."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from vitreous.data.preprocess import Preprocess
from vitreous.evaluation.intervals import Proportion
from vitreous.evaluation.scored import ScoredSplit
from vitreous.explanation.equivariance import answers_kept
from vitreous.explanation.features import FilterRanges, filter_ranges
from vitreous.predictor.torch_backend import network_input
from vitreous.report.effort import Effort
from vitreous.report.failures import FAILURES, reason

DISTANCES_PX = (1, 2, 3)
_SIDE_OF_A_PX = 8  # times a distance: smaller images are not moved so far
_MAX_LAYERS = 20


@dataclass(frozen=True, slots=True)
class Move:
    """Of how many images the answer stays when each is moved by so many pixels."""

    distance_px: int
    same: Proportion


@dataclass(frozen=True, slots=True)
class IdleLayer:
    """A convolution some of whose filters give the same number whatever they are shown."""

    layer: str
    behind: str  # the norm or activation behind which they were looked at; "" if it is the layer itself
    filters: tuple[int, ...]
    num_filters: int


@dataclass(frozen=True, slots=True)
class Idle:
    """The filters that do nothing, the layers with the most of them first."""

    layers: tuple[IdleLayer, ...]
    num_layers: int
    num_filters: int

    @property
    def num_idle(self) -> int:
        return sum(len(layer.filters) for layer in self.layers)

    @property
    def shown(self) -> tuple[IdleLayer, ...]:
        return self.layers[:_MAX_LAYERS]


@dataclass(frozen=True, slots=True)
class Probed:
    """What was seen on ``num_images``; where a part is None, ``why_not`` says why."""

    num_images: int = 0
    moves: tuple[Move, ...] | None = None
    idle: Idle | None = None
    why_not: str = ""


def probe(network: nn.Module, preprocess: Preprocess, scored: ScoredSplit, effort: Effort) -> Probed:
    """Move a sample of the images, and look into the network while it sees them.

    The sample are the images with the smallest content hashes: as good as drawn by lot, and always the same.
    """
    if scored.pixels_NHWC is None:
        return Probed(why_not="This needs images, and none were at hand when this page was written.")
    num = min(effort.num_images, len(scored.labels_N))
    if not num:
        cost = f"{effort.macs_an_image / 1e9:,.3g} billion multiply-accumulates"
        return Probed(why_not=f"One image costs this network about {cost}: too much to run it on a sample for a page.")
    rows_N = np.argsort(np.array(scored.hashes), kind="stable")[:num]
    pixels_NHWC = torch.from_numpy(np.array(scored.pixels_NHWC[rows_N]))
    images_NCHW = network_input(pixels_NHWC, preprocess)
    answers_N = torch.from_numpy(scored.logits_NK[rows_N].argmax(axis=1))
    furthest_px = max(1, min(preprocess.height, preprocess.width) // _SIDE_OF_A_PX)
    distances_px = [each for each in DISTANCES_PX if each <= furthest_px]
    try:
        shares = answers_kept(network, images_NCHW, answers_N, distances_px)
        idle = _idle(filter_ranges(network, images_NCHW))
    except FAILURES as error:
        return Probed(num, why_not=f"This network could not be looked into: {reason(error)}")
    return Probed(num, tuple(map(Move, distances_px, shares)), idle)


def _idle(ranges: tuple[FilterRanges, ...]) -> Idle:
    layers = [
        IdleLayer(each.layer, each.behind if each.behind != each.layer else "", tuple(each.dead), len(each.low_K))
        for each in ranges
        if each.dead
    ]
    layers.sort(key=lambda layer: -len(layer.filters) / layer.num_filters)
    return Idle(tuple(layers), len(ranges), sum(len(each.low_K) for each in ranges))

"""How much a page may compute beside the scores. Counted, not timed, so that the same run gives the same page."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from vitreous.data.preprocess import Preprocess
from vitreous.run import Run
from vitreous.trace import Trace, trace

MOST_IMAGES = 500  # an interval of +-3 % around 90 %
LEAST_IMAGES = 8  # of fewer, a share says nothing
MOST_EXPLAINED = 4
_LEAST_MACS, _MOST_MACS = 1e11, 1e12  # a second or two on two processor cores; about a quarter of a minute
_SHARE_OF_TRAINING = 0.01
_PASSES = 3  # a step of training multiplies about as often as three forwards
_MACS_A_NUMBER = 40  # multiply-accumulates in the time that a number takes to memory and back
_SAMPLE_PASSES = 5  # moved three times; looked into once, which keeps every number
_EXPLAINING_PASSES = 2 * _PASSES  # of a mistake: forward and backward for two classes
_NUMBERS_IN_MEMORY = 2**25  # of a sample's pixels: 128 MiB


@dataclass(frozen=True)
class Effort:
    """What one image costs a network, and how many it may be run on for the page."""

    trace: Trace
    macs_an_image: float  # memory traffic counted in
    macs: float  # that the page may cost

    @property
    def num_images(self) -> int:
        """For what is counted on a sample; 0 where too few could be afforded to say anything."""
        height_width_channels = math.prod(self.trace.operations[0].outputs[0])
        affordable = int(self.macs / (_SAMPLE_PASSES * self.macs_an_image))
        num = min(MOST_IMAGES, affordable, _NUMBERS_IN_MEMORY // height_width_channels)
        return num if num >= LEAST_IMAGES else 0

    @property
    def num_explained(self) -> int:
        """Mistakes; one at least."""
        return min(MOST_EXPLAINED, max(1, int(self.macs / (_EXPLAINING_PASSES * self.macs_an_image))))


def effort_of(run: Run, network: nn.Module, preprocess: Preprocess) -> Effort:
    """A hundredth of what training took, but at least a second or two of two processor cores, at most ten times that.

    Raises:
        ShapeError: what the network does cannot be followed.
    """
    traced = trace(network, (preprocess.channels, preprocess.height, preprocess.width))
    numbers = sum(math.prod(shape) for operation in traced.operations for shape in operation.outputs)
    macs_an_image = traced.computed_macs + _MACS_A_NUMBER * numbers
    share = _SHARE_OF_TRAINING * _PASSES * macs_an_image * _num_steps_images(run)
    return Effort(traced, macs_an_image, min(_MOST_MACS, max(_LEAST_MACS, share)))


def _num_steps_images(run: Run) -> int:
    """How many images, counted again in each epoch, the run was trained on; 0 where it does not tell."""
    counts = (run.manifest.get("data") or {}).get("counts") or {}
    train = counts.get("train") if isinstance(counts, Mapping) else None
    epochs = max((line["epoch"] for line in run.metrics()), default=0)
    return epochs * sum(train.values()) if isinstance(train, Mapping) else 0

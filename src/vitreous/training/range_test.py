"""Which learning rates a network bears, by trying them in one short run (Smith 2017, "Cyclical learning rates")."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from vitreous.config import Config, settled
from vitreous.data.prepared import ImageSet
from vitreous.training.batches import Batches
from vitreous.training.clock import Clock
from vitreous.training.engine import lay_out, recorded_threads
from vitreous.training.finetune import set_training_mode
from vitreous.training.optim import make_optimizer, set_rate
from vitreous.training.step import train_step

LOWEST, HIGHEST = 1e-5, 10.0  # of the rates that are tried, for sgd; other optimizers take the same
NUM_STEPS = 120
_MEMORY = 0.9  # of the smoothed loss
_DIVERGED = 3.0  # times the lowest smoothed loss


@dataclass(frozen=True, slots=True)
class RangeTest:
    """Learning rates in rising order, each with the smoothed training loss after a step at it.

    Attributes:
        diverged: whether the last rate made the loss explode.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    diverged: bool

    @property
    def lowest_loss_rate(self) -> float:
        """Where the loss was lowest: beyond it the network unlearns."""
        return self.rates[self.losses.index(min(self.losses))]

    @property
    def steepest_rate(self) -> float:
        """Where the loss fell fastest, by the logarithm of the rate."""
        falls = [before - after for before, after in zip(self.losses, self.losses[1:], strict=False)]
        return self.rates[falls.index(max(falls))]

    @property
    def suggested(self) -> float:
        """A highest rate for a schedule, to two digits: where the loss was lowest.

        It is cautious. In so few steps the network meets high rates unprepared, and a schedule that warms up and falls
        to 0 bears more: the recipes' own rates, found on validation images, are a few times higher.
        """
        return float(f"{self.lowest_loss_rate:.2g}")


def range_test(
    config: Config, network: nn.Module, images: ImageSet, before_step: Callable[[int], None] = lambda _: None
) -> RangeTest:
    """Train a copy for a few steps, each at a higher rate than the last.

    Args:
        config: with recipe and engine; its learning rate is not used.
        network: left as it was.
        images: batches are taken from the ``train`` part as in a run's first epochs.
        before_step: called with the step's number; may raise.
    """
    device = torch.device(settled(config.engine.device))
    probe = lay_out(copy.deepcopy(network).to(device), config.engine)
    set_training_mode(probe, settled(config.training.batch_norm))
    optimizer = make_optimizer(probe, config.training)
    batches = Batches(config, images, device)
    rates = [LOWEST * (HIGHEST / LOWEST) ** (step / (NUM_STEPS - 1)) for step in range(NUM_STEPS)]
    losses: list[float] = []
    with recorded_threads(config.engine), torch.random.fork_rng():
        torch.manual_seed(config.seed)
        for step, rate in enumerate(rates):
            before_step(step)
            set_rate(optimizer, rate)
            epoch, place = divmod(step, batches.num_batches)
            images_NCHW, labels_N, mixed = batches.batch(batches.order(epoch)[place], epoch)
            loss = train_step(
                probe,
                images_NCHW,
                labels_N,
                optimizer,
                precision=settled(config.engine.precision),
                label_smoothing=settled(config.training.label_smoothing),
                class_weights_K=batches.class_weights_K,
                clip_norm=config.training.clip_norm,
                clock=Clock(is_exact=False),
                mixed=mixed,
                num_parts=config.training.accumulate,
            )
            losses.append(float(loss))
            smoothed = smooth(losses)
            if not math.isfinite(losses[-1]) or smoothed[-1] > _DIVERGED * min(smoothed):
                finite = [number for number, each in enumerate(smoothed) if math.isfinite(each)]
                return RangeTest(tuple(rates[n] for n in finite), tuple(smoothed[n] for n in finite), diverged=True)
    return RangeTest(tuple(rates), tuple(smoothed), diverged=False)


def smooth(losses: Sequence[float]) -> list[float]:
    """The exponential mean of what came before, corrected for its beginning as Adam's is (Kingma, Ba 2015).

    >>> [round(loss, 3) for loss in smooth([2.0, 2.0, 1.0])]
    [2.0, 2.0, 1.631]
    """
    mean, smoothed = 0.0, []
    for number, loss in enumerate(losses, 1):
        mean = _MEMORY * mean + (1 - _MEMORY) * loss
        smoothed.append(mean / (1 - _MEMORY**number))
    return smoothed

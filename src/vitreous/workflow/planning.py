"""A whole run in the time given: which network at which size, then how many epochs; planned once, before it begins.

A plan is made of measurements, so it stands in the run's settings as epochs and sizes: going on with a run, or
repeating it, measures nothing anew.
"""

import copy
import dataclasses
import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from vitreous.config import Config, EngineConfig, settled
from vitreous.data.prepared import ImageSet
from vitreous.data.preprocess import Preprocess
from vitreous.data.source import Source
from vitreous.errors import ConfigError, UserError
from vitreous.models import build_network
from vitreous.predictor import Predictor
from vitreous.predictor.torch_backend import TorchBackend
from vitreous.trace import trace
from vitreous.training.batches import Batches
from vitreous.training.clock import Clock
from vitreous.training.distributed.world import ALONE, World, require_shares
from vitreous.training.engine import PASSES, lay_out, recorded_threads
from vitreous.training.finetune import is_head_only, set_training_mode
from vitreous.training.optim import make_optimizer, set_rate
from vitreous.training.recipe import WIDTHS, default_pattern
from vitreous.training.resizing import mean_area
from vitreous.training.step import batch_loss, train_step
from vitreous.wording import counted

_LEAST_SIDE = 32  # of photographs that are shown smaller, to save time
_SIDES = (1.0, 0.75, 0.5)  # shares of the usual side
_LEAST_EPOCHS = 3  # with fewer, a narrower network learns more in the same time
_LEAST_IMAGES = 20_000  # seen in all, before a wider network is worth its time
_LEAST_STEPS = 20
_MOST_EPOCHS = 300
_ENDING_SECONDS = 3.0  # calibration, golden inputs, report: what does not grow with the images
_SAVING_SECONDS = 0.1  # after each epoch
_PROBED_STEPS = 12
_PROBE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Budget:
    """So many minutes since ``started``, a reading of ``time.monotonic``."""

    minutes: float
    started: float

    @property
    def spent(self) -> float:
        """In seconds."""
        return time.monotonic() - self.started

    @property
    def left(self) -> float:
        """In seconds."""
        return 60 * self.minutes - self.spent


def refuse_unplannable(asked: Config) -> None:
    """Refuse settings that leave nothing to plan.

    Raises:
        ConfigError: the length is given twice, or there is more than one run.
    """
    if asked.training.minutes is None:
        return
    if asked.training.epochs is not None:
        raise ConfigError("training.minutes and training.epochs both say how long to train; leave one out.")
    if asked.data.folds:
        raise ConfigError("training.minutes plans one run, and data.folds asks for several; leave one out.")


def plan_network(asked: Config, source: Source, contract: Preprocess, budget: Budget) -> Config:
    """The widest default network, at the largest size, that still gets to see enough images in the time.

    What was asked for stays. The plan is rough: one network is timed, the others follow from their MACs.
    """
    if asked.model.name is not None:
        return asked
    num_classes = len(source.classes)
    num_train = max(1, round(len(source.images) * (1 - asked.data.val_fraction - asked.data.test_fraction)))
    enough = max(_LEAST_EPOCHS * num_train, _LEAST_IMAGES)
    seconds = budget.left - _reading_seconds(source, contract) - _ENDING_SECONDS
    speed = _macs_per_second(contract, num_classes)
    for size, width in _ladder(contract, has_size=asked.data.image_size is not None):
        name = default_pattern(size, width)
        shape = (contract.channels, *size)
        macs = trace(_built(name, contract.channels, size, num_classes), shape).macs
        if seconds * speed / (PASSES * macs) >= enough:
            break
    return dataclasses.replace(
        asked,
        model=dataclasses.replace(asked.model, name=name),
        data=dataclasses.replace(asked.data, image_size=size if size != (contract.height, contract.width) else None)
        if asked.data.image_size is None
        else asked.data,
    )


def plan_epochs(
    chosen: Config, network: nn.Module, images: ImageSet, budget: Budget, *, fits_head: bool, world: World = ALONE
) -> tuple[Config, str]:
    """As many epochs, of as large a part of the images, as fill what is left of the time; returns a line on it.

    Args:
        chosen: with its recipe and its engine; epochs are replaced.
        network: that will be trained; left as it was.
        fits_head: whether the head is fitted first, which takes a look at every image.
        world: the processes that share each batch; all of them take part in the measurement.

    Raises:
        ConfigError: there is no time to learn anything.
    """
    if is_head_only(chosen.training):
        training = dataclasses.replace(chosen.training, minutes=None)
        return dataclasses.replace(chosen, training=training), "the head alone, whatever the time"
    num_train = len(images.indices("train"))
    batch_size = min(settled(chosen.training.batch_size), num_train)
    require_shares(world, batch_size, chosen.training.accumulate)
    measured = _step_seconds(chosen, network, images, world)
    step, scoring = world.shared(lambda: measured)
    num_scored = sum(len(images.indices(split)) for split in ("val", "test"))
    ending = _ENDING_SECONDS + num_scored * scoring
    after_epoch = _SAVING_SECONDS + len(images.selecting) * scoring / world.size
    num_batches = num_train // batch_size
    if fits_head:
        ending += (num_train + len(images.selecting)) * scoring
    seconds = budget.left - ending
    if seconds < _LEAST_STEPS * step + after_epoch:
        least = (budget.spent + ending + _LEAST_STEPS * step + after_epoch) / 60
        raise ConfigError(
            f"training.minutes = {budget.minutes:g} leaves no time to learn: reading took {budget.spent:.1f} s, a step "
            f"takes {1000 * step:.0f} ms, scores and report {ending:.0f} s; {_rounded_up(1.1 * least)} is the least."
        )

    def step_in(epochs: int) -> float:
        """On average over so many epochs, of which the first ones may show images smaller."""
        size = (images.preprocess.height, images.preprocess.width)
        return step * mean_area(size, dataclasses.replace(chosen.training, epochs=epochs))

    fitting = seconds / (num_batches * step_in(_MOST_EPOCHS) + after_epoch)
    lengths = {max(1, min(_MOST_EPOCHS, round_(fitting))) for round_ in (math.floor, math.ceil)}
    plans = [(n, min(num_batches, math.floor((seconds / n - after_epoch) / step_in(n)))) for n in lengths]
    epochs, steps = max((plan for plan in plans if plan[1] > 0), key=lambda plan: (math.prod(plan), plan[0]))
    training = dataclasses.replace(chosen.training, minutes=None, epochs=epochs, epoch_share=steps / num_batches)
    expected = budget.spent + epochs * (steps * step_in(epochs) + after_epoch) + ending
    part = f" of {steps / num_batches:.0%} of the images each" if steps < num_batches else ""
    text = f"{counted(epochs, 'epoch')}{part}, done after about {expected:.0f} s"
    if epochs == _MOST_EPOCHS and expected < 0.9 * 60 * budget.minutes:
        text += f" of the {60 * budget.minutes:.0f} s: more epochs would not help"
    return dataclasses.replace(chosen, training=training), text


def _ladder(contract: Preprocess, *, has_size: bool) -> Iterator[tuple[tuple[int, int], float]]:
    """Sizes and widths, the most costly first; only what is photograph-sized is shown smaller."""
    usual = (contract.height, contract.width)
    for width in WIDTHS:
        yield usual, width
    for share in () if has_size else _SIDES[1:]:
        size = (round(usual[0] * share / 8) * 8, round(usual[1] * share / 8) * 8)
        if min(size) >= _LEAST_SIDE:
            yield size, WIDTHS[-1]


def _reading_seconds(source: Source, contract: Preprocess) -> float:
    """About what decoding takes, from a few images; 0 where none of them can be read."""
    chosen = np.linspace(0, len(source.images) - 1, 8).round().astype(int).tolist()
    seconds = []
    for number in chosen:
        started = time.perf_counter()
        try:
            source.images.pixels(number, contract)
        except UserError:
            continue
        seconds.append(time.perf_counter() - started)
    return len(source.images) * statistics.median(seconds) / max(1, torch.get_num_threads()) if seconds else 0.0


def _macs_per_second(contract: Preprocess, num_classes: int) -> float:
    """Of training a default network of middling width, in the better of both precisions."""
    size = (contract.height, contract.width)
    network = _built(default_pattern(size, WIDTHS[len(WIDTHS) // 2]), contract.channels, size, num_classes)
    macs = trace(network, (contract.channels, *size)).macs
    network = lay_out(network, EngineConfig(channels_last=True)).train()
    images = torch.zeros(64, contract.channels, *size).to(memory_format=torch.channels_last)
    labels = torch.zeros(len(images), dtype=torch.int64)
    seconds = []
    for precision in ("fp32", "bf16") * 3:
        started = time.perf_counter()
        loss = batch_loss(network, images, labels, precision=precision, label_smoothing=0.0, class_weights_K=None)
        loss.backward()  # type: ignore[no-untyped-call]
        seconds.append(time.perf_counter() - started)
    return PASSES * macs * len(images) / min(seconds[2:])


def _step_seconds(chosen: Config, network: nn.Module, images: ImageSet, world: World) -> tuple[float, float]:
    """Seconds of one step on images of the whole size, as the loop makes it, and of scoring one image."""
    device = world.device(settled(chosen.engine.device))
    probe = lay_out(copy.deepcopy(network).to(device), chosen.engine)
    set_training_mode(probe, settled(chosen.training.batch_norm))
    replicated, optimizer = world.replicated(probe), make_optimizer(probe, chosen.training)
    set_rate(optimizer, 0.0)
    batches = Batches(chosen, images, device, world)
    clock, seconds = Clock(is_exact=False), []
    with recorded_threads(chosen.engine), torch.random.fork_rng():
        for number in range(2 + _PROBED_STEPS):
            started = time.perf_counter()
            index_N = batches.order(0)[number % batches.num_batches]
            images_NCHW, labels_N, mixed = batches.batch(index_N, epoch=settled(chosen.training.epochs))
            loss = train_step(
                replicated,
                images_NCHW,
                labels_N,
                optimizer,
                precision=settled(chosen.engine.precision),
                label_smoothing=settled(chosen.training.label_smoothing),
                class_weights_K=batches.class_weights_K,
                clip_norm=chosen.training.clip_norm,
                clock=clock,
                mixed=mixed,
                num_parts=chosen.training.accumulate,
            )
            loss.item()  # a GPU has to be waited for
            if number >= 2:  # the first ones warm up
                seconds.append(time.perf_counter() - started)
            if world.voted(int(sum(seconds) > _PROBE_SECONDS)):
                break
        backend = TorchBackend(probe, images.preprocess, device)
        predictor = Predictor(backend, images.preprocess, images.classes)
        shown = images.pixels[images.indices("train")[: predictor.batch_size]]
        scoring = []
        for _ in range(2):
            started = time.perf_counter()
            predictor.logits(shown)
            scoring.append(time.perf_counter() - started)
    return statistics.median(seconds), min(scoring) / len(shown)


def _built(name: str, channels: int, size: tuple[int, int], num_classes: int) -> nn.Module:
    classes = tuple(map(str, range(num_classes)))
    return build_network(name, num_classes=num_classes, in_channels=channels, image_size=size, classes=classes, seed=0)


def _rounded_up(minutes: float) -> str:
    """To two digits.

    >>> _rounded_up(0.1234), _rounded_up(12.01)
    ('0.13', '13')
    """
    step = 10.0 ** (math.floor(math.log10(minutes)) - 1)
    return f"{math.ceil(minutes / step) * step:.2g}"

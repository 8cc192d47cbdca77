"""How this machine computes: threads, memory layout and precision, measured once and recorded in the run.

Resuming takes the recorded choices and never measures again, because another choice is another rounding.
"""

import copy
import dataclasses
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vitreous.config import EngineConfig, settled
from vitreous.predictor.torch_backend import choose_device
from vitreous.training.step import batch_loss

PASSES = 3  # a backward pass multiplies about twice as often as the forward one
_PROBE_IMAGES = 128
_LEAST_IMAGES = 16  # fewer and batch norm's statistics are noise
_PROBE_SECONDS = 0.3  # that one probed step may take, if so few images are enough
_PROBE_ROUNDS = 5
_PEAK_SIDE = 1024
_LARGEST_ERROR = 0.5  # of bf16 gradients, relative to the norm of the fp32 ones; rounding alone measures up to 0.4
_LEAST_GAIN = 1.2  # bf16 rounds, so it has to pay; fewer threads pay only where others use the processor


def choose_engine(
    asked: EngineConfig, network: nn.Module, images_NCHW: Tensor, labels_N: Tensor
) -> tuple[EngineConfig, str]:
    """Fill in what was not asked for, by measuring the network's own step; returns the reason beside it.

    Args:
        asked: what the user fixed; only the rest is chosen.
        network: in the form that will be trained; it is left as it was.
        images_NCHW: a batch as the network will see it; the first images are used.
        labels_N: their classes.
    """
    device = choose_device(asked.device)
    channels_last = True if asked.channels_last is None else asked.channels_last
    probe = lay_out(copy.deepcopy(network).to(device), channels_last)
    images, labels = images_NCHW[:_PROBE_IMAGES].to(device), labels_N[:_PROBE_IMAGES].to(device)
    engine = dataclasses.replace(
        asked, device=str(device), channels_last=channels_last, threads=asked.threads or torch.get_num_threads()
    )
    reasons = []
    if asked.precision is None or asked.threads is None:
        images = _few_enough(probe, images, labels, engine)
        labels = labels[: len(images)]
    if asked.precision is None:
        with recorded_threads(engine):
            precision, why = _choose_precision(probe, images, labels)
        engine = dataclasses.replace(engine, precision=precision)
        reasons.append(why)
    if asked.threads is None and device.type == "cpu":
        engine, gain = _choose_threads(probe, images, labels, engine)
        reasons += [gain] if gain else []
    told = f" ({'; '.join(reasons)})" if reasons else ""
    return engine, f"{device}, {engine.threads} thread{'s' * (engine.threads != 1)}, {engine.precision}{told}"


def peak_macs_per_second(engine: EngineConfig) -> float | None:
    """What a product of matrices reaches here with the chosen threads and precision; None on a GPU.

    No layer of a network is faster, so it is the measure of how well a step uses the machine.
    """
    if engine.device != "cpu":
        return None
    dtype = torch.bfloat16 if engine.precision == "bf16" else torch.float32
    matrix = torch.ones(_PEAK_SIDE, _PEAK_SIDE, dtype=dtype)
    with recorded_threads(engine):
        seconds = []
        for _ in range(1 + _PROBE_ROUNDS):
            started = time.perf_counter()
            torch.mm(matrix, matrix)
            seconds.append(time.perf_counter() - started)
    return _PEAK_SIDE**3 / min(seconds)


@contextmanager
def recorded_threads(engine: EngineConfig) -> Iterator[None]:
    """Compute with the run's own number of threads, because another number is another order of sums."""
    threads = torch.get_num_threads()
    torch.set_num_threads(settled(engine.threads))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def lay_out(network: nn.Module, channels_last: bool) -> nn.Module:
    """The network with its filters in the asked memory format."""
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return network.to(memory_format=memory_format)  # type: ignore[call-overload, no-any-return]


def _few_enough(network: nn.Module, images: Tensor, labels: Tensor, engine: EngineConfig) -> Tensor:
    """So many of the images that a step on them does not take long."""
    with recorded_threads(engine):
        seconds = [_timed(network, images[:_LEAST_IMAGES], labels[:_LEAST_IMAGES], "fp32")[0] for _ in range(2)]
    affordable = int(_LEAST_IMAGES * _PROBE_SECONDS / min(seconds))
    return images[: max(_LEAST_IMAGES, affordable)]


def _choose_precision(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[str, str]:
    seconds: dict[str, list[float]] = {"fp32": [], "bf16": []}
    gradients = {}
    for round_number in range(1 + _PROBE_ROUNDS):  # interleaved; the first round warms up and is not counted
        for precision, times in seconds.items():
            taken, gradients[precision] = _timed(network, images, labels, precision)
            if round_number > 0:
                times.append(taken)
    gain = min(seconds["fp32"]) / min(seconds["bf16"])  # what other processes add is not the machine's speed
    error = float((gradients["bf16"] - gradients["fp32"]).norm() / gradients["fp32"].norm().clamp_min(1e-30))
    if error > _LARGEST_ERROR or error != error:
        return "fp32", f"bf16 gradients are {error:.0%} off here"
    if gain < _LEAST_GAIN:
        return "fp32", f"bf16 runs at {gain:.1f}x its speed"
    return "bf16", f"{gain:.1f}x the speed of fp32, gradients within {error:.1%}"


def _choose_threads(
    network: nn.Module, images: Tensor, labels: Tensor, engine: EngineConfig
) -> tuple[EngineConfig, str | None]:
    """Half as many threads where they are clearly faster, and why: a step waits for its slowest thread."""
    whole = settled(engine.threads)
    if whole == 1:
        return engine, None
    halved = dataclasses.replace(engine, threads=whole // 2)
    seconds: dict[int, list[float]] = {whole: [], whole // 2: []}
    for _ in range(_PROBE_ROUNDS):
        for each in (engine, halved):
            with recorded_threads(each):
                seconds[settled(each.threads)].append(_timed(network, images, labels, settled(engine.precision))[0])
    gain = statistics.median(seconds[whole]) / statistics.median(seconds[whole // 2])
    if gain < _LEAST_GAIN:
        return engine, None
    return halved, f"{gain:.1f}x the speed of {whole} threads"


def _timed(network: nn.Module, images: Tensor, labels: Tensor, precision: str) -> tuple[float, Tensor]:
    """Seconds of one forward and backward pass, and the gradients."""
    network.zero_grad()
    started = time.perf_counter()
    with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
        torch.manual_seed(0)  # the same dropout in both precisions
        loss = batch_loss(network, images, labels, precision=precision, label_smoothing=0.0, class_weights_K=None)
        loss.backward()  # type: ignore[no-untyped-call]
    gradients = [each.grad.flatten().float() for each in network.parameters() if each.grad is not None]
    return time.perf_counter() - started, torch.cat(gradients).cpu()

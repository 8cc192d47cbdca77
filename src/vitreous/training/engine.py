"""How this machine computes: threads, memory layout and precision, measured once and recorded in the run.

Resuming takes the recorded choices and never measures again, because another choice is another rounding.
"""

import copy
import dataclasses
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vitreous.config import EngineConfig, settled
from vitreous.predictor.torch_backend import choose_device
from vitreous.training.step import batch_loss

_PROBE_IMAGES = 128
_PROBE_ROUNDS = 5
_LARGEST_ERROR = 0.3  # of bf16 gradients, relative to the norm of the fp32 ones; rounding alone measures up to 0.15
_LEAST_GAIN = 1.2  # bf16 rounds, so it has to pay


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
    threads = asked.threads or (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    channels_last = True if asked.channels_last is None else asked.channels_last
    precision, reason = asked.precision, "as asked"
    if precision is None:
        probe = copy.deepcopy(network).to(device)
        images, labels = images_NCHW[:_PROBE_IMAGES].to(device), labels_N[:_PROBE_IMAGES].to(device)
        with recorded_threads(dataclasses.replace(asked, threads=threads)):
            precision, reason = _choose_precision(lay_out(probe, channels_last), images, labels)
    engine = dataclasses.replace(
        asked, device=str(device), precision=precision, channels_last=channels_last, threads=threads
    )
    return engine, f"{device}, {threads} threads, {precision} ({reason})"


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


def _choose_precision(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[str, str]:
    seconds: dict[str, list[float]] = {"fp32": [], "bf16": []}
    gradients = {}
    for round_number in range(1 + _PROBE_ROUNDS):  # interleaved; the first round warms up and is not counted
        for precision, times in seconds.items():
            started = time.perf_counter()
            gradients[precision] = _gradient(network, images, labels, precision)
            if round_number > 0:
                times.append(time.perf_counter() - started)
    gain = min(seconds["fp32"]) / min(seconds["bf16"])  # what other processes add is not the machine's speed
    error = float((gradients["bf16"] - gradients["fp32"]).norm() / gradients["fp32"].norm().clamp_min(1e-30))
    if error > _LARGEST_ERROR or error != error:
        return "fp32", f"bf16 gradients are {error:.0%} off here"
    if gain < _LEAST_GAIN:
        return "fp32", f"bf16 runs at {gain:.1f}x its speed"
    return "bf16", f"{gain:.1f}x the speed of fp32, gradients within {error:.1%}"


def _gradient(network: nn.Module, images: Tensor, labels: Tensor, precision: str) -> Tensor:
    network.zero_grad()
    with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
        torch.manual_seed(0)  # the same dropout in both precisions
        loss = batch_loss(network, images, labels, precision=precision, label_smoothing=0.0, class_weights_K=None)
        loss.backward()  # type: ignore[no-untyped-call]
    return torch.cat([each.grad.flatten().float() for each in network.parameters() if each.grad is not None]).cpu()

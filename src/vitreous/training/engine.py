"""How this machine computes: threads, memory layout and precision, measured once and recorded in the run.

Resuming takes the recorded choices and never measures again, because another choice is another rounding.
"""

import copy
import dataclasses
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vitreous.config import EngineConfig, settled
from vitreous.predictor.torch_backend import choose_device
from vitreous.training.layer_precision import keep_in_fp32, layers_better_in_fp32
from vitreous.training.step import batch_loss
from vitreous.wording import counted

PASSES = 3  # a backward pass multiplies about twice as often as the forward one
_PROBE_IMAGES = 128
_LEAST_IMAGES = 16  # of which gradients are compared; with fewer batch norm's statistics are noise
_FEW_IMAGES = 4  # that show which kernel is slow, and how many threads pay
_PROBE_SECONDS = 0.3  # that one probed step may take, if so few images are enough; a longer one needs no warming up
_PROBE_ROUNDS = 3
_PEAK_SIDE = 1024
_PEAK_ROUNDS = 5
_LARGEST_ERROR = 2.0  # of bf16 gradients, times what rounded weights alone make of them; measured up to 1.3
_LEAST_ERROR = 0.1  # relative to the norm of the fp32 gradients; less does no harm, whatever explains it
_LEAST_GAIN = 1.2  # bf16 rounds, so it has to pay; fewer threads pay only where others use the processor
_CLEAR = 1.25  # times more or less than the least gain: not measured again


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
    device, reasons = choose_device(asked.device), []
    if asked.precision is None and device.type == "cpu" and (gain := _product_gain(asked)) < 1:
        asked = dataclasses.replace(asked, precision="fp32")
        reasons.append(f"bf16 multiplies matrices at {gain:.1f}x its speed")
    if asked.precision == "fp32":
        asked = dataclasses.replace(asked, fp32_layers=())
    engine = dataclasses.replace(
        asked,
        device=str(device),
        channels_last=True if asked.channels_last is None else asked.channels_last,
        threads=asked.threads or torch.get_num_threads(),
    )
    unasked = [choose for name, choose in _CHOICES.items() if getattr(asked, name) is None]
    if unasked:
        images = in_layout(images_NCHW[:_PROBE_IMAGES].to(device), engine)
        laid_out = lay_out(copy.deepcopy(network).to(device), engine)
        least = _FEW_IMAGES if engine.precision else _LEAST_IMAGES
        probe = _Probe(laid_out, images, labels_N[:_PROBE_IMAGES].to(device), least)
        for choose in unasked:
            engine, reason = choose(probe, engine)
            reasons += [reason] if reason else []
    told = f" ({'; '.join(reasons)})" if reasons else ""
    return engine, f"{device}, {counted(settled(engine.threads), 'thread')}, {engine.precision}{told}"


def peak_macs_per_second(engine: EngineConfig) -> float | None:
    """What a product of matrices reaches here with the chosen threads and precision; None on a GPU.

    No layer of a network is faster, so it is the measure of how well a step uses the machine.
    """
    if engine.device != "cpu":
        return None
    with recorded_threads(engine):
        return _PEAK_SIDE**3 / _product_seconds(torch.bfloat16 if engine.precision == "bf16" else torch.float32)


@contextmanager
def recorded_threads(engine: EngineConfig) -> Iterator[None]:
    """Compute with the run's own number of threads, because another number is another order of sums."""
    threads = torch.get_num_threads()
    torch.set_num_threads(settled(engine.threads))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def lay_out(network: nn.Module, engine: EngineConfig) -> nn.Module:
    """The network with its filters in the engine's memory format, and its layers in their precisions."""
    keep_in_fp32(network, engine.fp32_layers or ())
    return network.to(memory_format=_format(engine))  # type: ignore[call-overload, no-any-return]


def in_layout(images_NCHW: Tensor, engine: EngineConfig) -> Tensor:
    """The images in the engine's memory format, which decides that of every map behind them."""
    return images_NCHW.contiguous(memory_format=_format(engine))


def _format(engine: EngineConfig) -> torch.memory_format:
    return torch.channels_last if engine.channels_last else torch.contiguous_format


class _Probe:
    """The network's own step on so many images that it does not take long, timed in several ways.

    A way is a precision and a number of threads. What was timed for one question serves the next one.
    """

    def __init__(self, network: nn.Module, images: Tensor, labels: Tensor, least_images: int) -> None:
        self.network = network
        self.images, self.labels = images[:least_images], labels[:least_images]
        self.seconds: dict[tuple[str, int], list[float]] = defaultdict(list)
        self.gradients: dict[str, Tensor] = {}
        self._all = images, labels

    def gain(self, way: tuple[str, int], rival: tuple[str, int], typical: Callable[[list[float]], float]) -> float:
        """How many times as fast as ``way`` the rival is; measured in turn, and again as long as it is not clear."""
        self._settle_images(way)
        for number in range(1 + _PROBE_ROUNDS):
            for each in (way, rival):
                if len(self.seconds[each]) <= number:
                    self._time(each)
            counted = self._counted(way), self._counted(rival)
            if all(counted):
                gain = typical(counted[0]) / typical(counted[1])
                if not 1 / _CLEAR < gain / _LEAST_GAIN < _CLEAR:
                    break
        return gain

    def _settle_images(self, way: tuple[str, int]) -> None:
        """As many as a step of the asked length bears, once the kernels are there."""
        if self.seconds:
            return
        self._time(way)
        if self.seconds[way][0] < _PROBE_SECONDS:
            self._time(way)
            affordable = int(len(self.images) * _PROBE_SECONDS / min(self.seconds[way]))
            self.images, self.labels = (each[: max(len(self.images), affordable)] for each in self._all)
            self.seconds.clear()

    def errors(self, threads: int) -> tuple[float, float]:
        """How far bf16 gradients are off, and fp32 ones where weights and images are rounded to bf16, nothing else.

        A deep network answers any change by a larger one. The second number says how much larger, so that the first
        one tells rounding from a wrong kernel.
        """
        rounded = copy.deepcopy(self.network)
        with torch.no_grad():
            for parameter in rounded.parameters():
                parameter.copy_(parameter.bfloat16())
        with recorded_threads(EngineConfig(threads=threads)):
            _, expected = _timed(rounded, self.images.bfloat16().float(), self.labels, "fp32")
        exact = self.gradients["fp32"]
        return _distance(self.gradients["bf16"], exact), _distance(expected, exact)

    def _time(self, way: tuple[str, int]) -> None:
        precision, threads = way
        with recorded_threads(EngineConfig(threads=threads)):
            seconds, self.gradients[precision] = _timed(self.network, self.images, self.labels, precision)
        self.seconds[way].append(seconds)

    def _counted(self, way: tuple[str, int]) -> list[float]:
        """Without the first, where making kernels may be much of it."""
        first, *others = self.seconds[way]
        return others if first < _PROBE_SECONDS else [first, *others]


def _choose_layers(probe: _Probe, engine: EngineConfig) -> tuple[EngineConfig, str | None]:
    """The layers that would stay in fp32 if the rest went to bf16; from now on they do so in the probe's network."""
    layers: tuple[str, ...] = ()
    if engine.device == "cpu":
        with recorded_threads(engine):
            layers = layers_better_in_fp32(probe.network, probe.images[:_FEW_IMAGES])
    keep_in_fp32(probe.network, layers)
    said = f"{counted(len(layers), 'layer')} in fp32, which bf16 would slow down" if layers else None
    return dataclasses.replace(engine, fp32_layers=layers), said


def _choose_precision(probe: _Probe, engine: EngineConfig) -> tuple[EngineConfig, str | None]:
    """Bf16 where it is clearly faster, and right."""
    threads = settled(engine.threads)
    gain = probe.gain(("fp32", threads), ("bf16", threads), min)  # what other processes add is not the machine's speed
    in_fp32 = dataclasses.replace(engine, precision="fp32", fp32_layers=())
    if gain < _LEAST_GAIN:
        return in_fp32, f"bf16 runs at {gain:.1f}x its speed"
    error, expected = probe.errors(threads)
    if not error <= max(_LARGEST_ERROR * expected, _LEAST_ERROR):
        return in_fp32, f"bf16 gradients are {error:.0%} off here, where rounding explains {expected:.0%}"
    in_bf16 = dataclasses.replace(engine, precision="bf16")
    return in_bf16, f"{gain:.1f}x the speed of fp32, gradients {error:.1%} off, where rounding explains {expected:.1%}"


def _choose_threads(probe: _Probe, engine: EngineConfig) -> tuple[EngineConfig, str | None]:
    """Half as many threads where they are clearly faster: a step waits for its slowest thread."""
    whole, precision = settled(engine.threads), settled(engine.precision)
    if whole == 1 or engine.device != "cpu":
        return engine, None
    gain = probe.gain((precision, whole), (precision, whole // 2), statistics.median)
    if gain < _LEAST_GAIN:
        return engine, None
    return dataclasses.replace(engine, threads=whole // 2), f"{gain:.1f}x the speed of {whole} threads"


# What was not asked for is chosen in this order; each choice is measured with those before it.
_CHOICES: dict[str, Callable[[_Probe, EngineConfig], tuple[EngineConfig, str | None]]] = {
    "fp32_layers": _choose_layers,
    "precision": _choose_precision,
    "threads": _choose_threads,
}


def _product_gain(asked: EngineConfig) -> float:
    """How many times as fast as fp32 a product of matrices is in bf16: no layer gains more."""
    with recorded_threads(EngineConfig(threads=asked.threads or torch.get_num_threads())):
        return _product_seconds(torch.float32) / _product_seconds(torch.bfloat16)


def _product_seconds(dtype: torch.dtype) -> float:
    """Of a product of two square matrices, the fastest of a few."""
    matrix = torch.ones(_PEAK_SIDE, _PEAK_SIDE, dtype=dtype)
    seconds = []
    for _ in range(1 + _PEAK_ROUNDS):
        started = time.perf_counter()
        torch.mm(matrix, matrix)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def _distance(gradients: Tensor, exact: Tensor) -> float:
    return float((gradients - exact).norm() / exact.norm().clamp_min(1e-30))


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

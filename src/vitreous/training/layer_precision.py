"""Which convolutions compute in fp32 although the rest of the step is in bf16, and how they are told.

A processor's bf16 kernels do not cover every shape: the input gradient of a depthwise convolution with stride 2, for
one, falls back to a loop that takes 10 to 150 times as long as in fp32 (docs/log.md). So each shape of the network is
timed in both precisions, and its gradients are compared.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from vitreous.errors import ConfigError

_LEAST_GAIN = 2.0  # of fp32, which is expected to lose by as much
_LEAST_SECONDS = 0.001  # that have to be saved; chance decides about less
_LEAST_SHARE = 0.01  # of the time of all convolutions that has to be saved
_LARGEST_ERROR = 0.1  # of a layer's bf16 gradients, relative to the norm of the fp32 ones; rounding measures 0.01
_ROUNDS = 8  # where something else uses the processor, the least of many tells


def layers_better_in_fp32(network: nn.Module, images_NCHW: Tensor) -> tuple[str, ...]:
    """The paths of the convolutions that bf16 slows down, or computes wrongly, on these images."""
    groups = _groups(network, images_NCHW)
    for group in groups:
        group.measure()
    total = sum(len(group.paths) * min(group.seconds["fp32"], group.seconds["bf16"]) for group in groups)
    chosen = {path for group in groups if group.is_better_in_fp32(total) for path in group.paths}
    return tuple(path for path, _ in network.named_modules() if path in chosen)


def keep_in_fp32(network: nn.Module, paths: Sequence[str]) -> None:
    """From now on these layers leave autocast while they compute; deep copies of the network do so too.

    Raises:
        ConfigError: the network has no such layer.
    """
    layers = dict(network.named_modules())
    for path in paths:
        if path not in layers:
            raise ConfigError(f"engine.fp32_layers: the network has no layer {path!r}.")
        layers[path].register_forward_pre_hook(_leave_autocast)
        layers[path].register_forward_hook(_return_to_autocast, always_call=True)


def _leave_autocast(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    kind = inputs[0].device.type
    layer._left_autocast = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)  # type: ignore[assignment]
    if not layer._left_autocast:
        return None
    torch.set_autocast_enabled(kind, False)
    return tuple(each.float() for each in inputs)


def _return_to_autocast(layer: nn.Module, inputs: tuple[Tensor, ...], _: Any) -> None:
    if layer._left_autocast:
        torch.set_autocast_enabled(inputs[0].device.type, True)


@dataclass
class _Group:
    """Convolutions of one shape, which cost the same."""

    layer: nn.Module
    input_NCHW: Tensor
    gradient_NCHW: Tensor
    needs_input_gradient: bool
    paths: list[str]
    seconds: dict[str, float] = field(default_factory=dict)
    error: float = 0.0

    def measure(self) -> None:
        """Time both precisions in turn, and again where fp32 looks better; the first time of each is not counted."""
        gradients = {}
        for number in range(1 + _ROUNDS):
            for precision in ("fp32", "bf16"):
                seconds, gradients[precision] = self._timed(precision)
                if number > 0:
                    self.seconds[precision] = min(seconds, self.seconds.get(precision, seconds))
            if number > 0 and self.seconds["bf16"] < _LEAST_GAIN * self.seconds["fp32"]:
                break
        pairs = zip(gradients["bf16"], gradients["fp32"], strict=True)
        self.error = max(float((rounded - exact).norm() / exact.norm().clamp_min(1e-30)) for rounded, exact in pairs)

    def is_better_in_fp32(self, total: float) -> bool:
        """Where the fastest way through all convolutions takes ``total`` seconds."""
        saved = self.seconds["bf16"] - self.seconds["fp32"]
        matters = len(self.paths) * saved > max(_LEAST_SECONDS, _LEAST_SHARE * total)
        is_slow = matters and saved > (_LEAST_GAIN - 1) * self.seconds["fp32"]
        return is_slow or not self.error <= _LARGEST_ERROR

    def _timed(self, precision: str) -> tuple[float, tuple[Tensor, ...]]:
        """Seconds of a forward and a backward pass, and the gradients of the weights and, where needed, the input."""
        images_NCHW = self.input_NCHW.requires_grad_(self.needs_input_gradient)
        started = time.perf_counter()
        with torch.autocast(images_NCHW.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            answer = self.layer(images_NCHW)
        asked = [next(self.layer.parameters()), *([images_NCHW] if self.needs_input_gradient else [])]
        gradients = torch.autograd.grad(answer, asked, self.gradient_NCHW.to(answer.dtype))
        return time.perf_counter() - started, gradients


def _groups(network: nn.Module, images_NCHW: Tensor) -> list[_Group]:
    """The trainable convolutions of the network by shape, with what each is shown."""
    groups: dict[tuple[object, ...], _Group] = {}
    noise = torch.Generator(images_NCHW.device).manual_seed(0)

    def note(path: str, layer: _ConvNd, shown: Tensor, answer: Tensor) -> None:
        shape = (type(layer), tuple(shown.shape), tuple(layer.weight.shape), layer.bias is None)
        key = (*shape, layer.stride, layer.padding, layer.dilation, layer.groups, shown.requires_grad)
        if key not in groups:
            gradient = torch.empty_like(answer).uniform_(-1, 1, generator=noise)
            groups[key] = _Group(layer, shown.detach().clone(), gradient, shown.requires_grad, [])
        groups[key].paths.append(path)

    def hook(path: str) -> Any:
        return lambda layer, inputs, answer: note(path, layer, inputs[0], answer)

    layers = [(path, layer) for path, layer in network.named_modules() if isinstance(layer, _ConvNd)]
    handles = [layer.register_forward_hook(hook(path)) for path, layer in layers if layer.weight.requires_grad]
    try:
        network(images_NCHW)
    finally:
        for handle in handles:
            handle.remove()
    return list(groups.values())

"""What a network makes of images of a size, found out by a forward of zeros; the network is left as it was.

The forward runs on torch's "meta" device, where tensors have shapes and no numbers, so that it costs next to nothing;
where a network cannot do that, on its own device.
"""

import itertools
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from vitreous.errors import ConfigError, ShapeError

NUM_IMAGES = 2  # one would hide a network that mixes up images and pixels
_SIDES = (1, 2, 4, 8, 16, 24, 28, 32, 48, 64, 96, 112, 128, 160, 192, 224, 256, 288, 299, 320, 384, 448, 512)
_SEARCH_SECONDS = 5.0


class ForwardError(Exception):
    """A forward that failed: in which layer, what it was given, and what was said."""

    def __init__(self, layer: str, error: Exception, misfit: str = "") -> None:
        said = misfit or next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        super().__init__(f"{layer}: {said.rstrip('.')}" if layer else said.rstrip("."))


def require_answer(
    network: nn.Module, model: str, *, num_classes: int, in_channels: int, image_size: tuple[int, int]
) -> None:
    """Check that the network maps N,C,H,W to N,K, scoring and training.

    Raises:
        ShapeError: it cannot take such images; the message names the layer and the smallest square that it takes.
        ConfigError: it answers something else.
    """
    for is_training in (False, True):
        try:
            answer = answer_to_zeros(network, in_channels, image_size, is_training=is_training)
        except ForwardError as error:
            side = smallest_side(network, num_classes=num_classes, in_channels=in_channels)
            way = (
                f"the smallest square that it takes: --image-size {side}"
                if side
                else "no square up to 512 was found that it takes"
            )
            size = f"{in_channels} x {image_size[0]} x {image_size[1]}"
            raise ShapeError(f"{model} cannot take images of {size} at {error};\n{way}.") from error
        if not _is_answer(answer, num_classes):
            when = "in training mode " if is_training else ""
            raise ConfigError(
                f"{model} {when}gives {_kind(answer)} for {NUM_IMAGES} images, wanted {(NUM_IMAGES, num_classes)}: "
                "a number for each image and class."
            )


def answer_to_zeros(
    network: nn.Module, in_channels: int, image_size: tuple[int, int], *, is_training: bool = False
) -> Any:
    """What the network gives for two images of zeros.

    Raises:
        ForwardError: it fails.
    """
    shape = (NUM_IMAGES, in_channels, *image_size)
    try:
        return _forward(network, shape, torch.device("meta"), is_training)
    except ForwardError:  # of the shapes, or of an operation that meta tensors do not have
        own = next(itertools.chain(network.parameters(), network.buffers()), torch.empty(0)).device
        return _forward(network, shape, own, is_training)


def smallest_side(network: nn.Module, *, num_classes: int, in_channels: int) -> int | None:
    """The side of the smallest square that the network takes, or None if none is found up to 512 px in some seconds.

    Usual sides come first, then halving towards the last that was too small; a network that takes none of them may
    be made for one size only, so that each side is tried.
    """

    def fits(side: int) -> bool:
        try:
            answer = _forward(network, (NUM_IMAGES, in_channels, side, side), torch.device("meta"), False)
        except ForwardError:
            return False
        return _is_answer(answer, num_classes)

    fitting = next((side for side in _SIDES if fits(side)), None)
    if fitting is None:
        deadline = time.monotonic() + _SEARCH_SECONDS
        odd_sides = itertools.takewhile(lambda _: time.monotonic() < deadline, range(1, _SIDES[-1]))
        return next((side for side in odd_sides if fits(side)), None)
    too_small = max((side for side in _SIDES if side < fitting), default=0)
    while fitting - too_small > 1:
        middle = (too_small + fitting) // 2
        fitting, too_small = (middle, too_small) if fits(middle) else (fitting, middle)
    return fitting


def _forward(network: nn.Module, shape: tuple[int, ...], device: torch.device, is_training: bool) -> Any:
    with (
        _mode(network, is_training),
        _entered(network) as layers,
        torch.no_grad(),
        torch.random.fork_rng(devices=[]),
        device,
    ):
        try:
            return functional_call(network, _stand_ins(network, device), (torch.zeros(shape),))
        except Exception as error:  # a foreign forward raises whatever it likes
            raise ForwardError(_described(layers), error, _misfit(layers)) from error


def _stand_ins(network: nn.Module, device: torch.device) -> dict[str, Tensor]:
    """Tensors in place of the network's own, so that its weights need no copy and its statistics do not move."""
    if device.type == "meta":
        tensors = itertools.chain(network.named_parameters(), network.named_buffers())
        return {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors}
    return {name: buffer.clone() for name, buffer in network.named_buffers()}


@dataclass(frozen=True, slots=True)
class _Entered:
    """A layer that a forward has entered and not left, and what it was given."""

    name: str
    module: nn.Module
    inputs: tuple[Any, ...]


@contextmanager
def _entered(network: nn.Module) -> Iterator[list[_Entered]]:
    """The layers that a forward is in, outermost first; after a failure the last is where it happened."""
    layers: list[_Entered] = []
    with ExitStack() as hooks:
        for name, module in network.named_modules():

            def enter(module: nn.Module, inputs: tuple[Any, ...], name: str = name) -> None:
                layers.append(_Entered(name, module, inputs))

            def leave(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
                layers.pop()

            hooks.callback(module.register_forward_pre_hook(enter).remove)
            hooks.callback(module.register_forward_hook(leave).remove)
        yield layers


@contextmanager
def _mode(network: nn.Module, is_training: bool) -> Iterator[None]:
    modes = [(module, module.training) for module in network.modules()]
    network.train(is_training)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _described(layers: list[_Entered]) -> str:
    if not layers:
        return ""
    last = layers[-1]
    given = ", ".join(str(tuple(each.shape)) for each in last.inputs if isinstance(each, Tensor))
    return f"{last.name or 'its forward'} ({type(last.module).__name__}), given {given or 'no tensor'}"


def _misfit(layers: list[_Entered]) -> str:
    """What the layer that failed wants, in the reader's words rather than torch's; nothing where that is not known."""
    if not layers or not layers[-1].inputs or not isinstance(layers[-1].inputs[0], Tensor):
        return ""
    module, shape = layers[-1].module, layers[-1].inputs[0].shape
    if isinstance(module, nn.Linear) and shape[-1] != module.in_features:
        return f"it wants {module.in_features:,} features and is given {shape[-1]:,}"
    if isinstance(module, nn.Conv2d) and len(shape) == 4 and shape[1] != module.in_channels:
        return f"it takes {module.in_channels} channels and is given {shape[1]}"
    return ""


def _is_answer(answer: Any, num_classes: int) -> bool:
    return isinstance(answer, Tensor) and answer.shape == (NUM_IMAGES, num_classes)


def _kind(answer: Any) -> str:
    return str(tuple(answer.shape)) if isinstance(answer, Tensor) else f"a {type(answer).__name__}"

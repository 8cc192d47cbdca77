"""Which layer of a network has the last word."""

from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn

from vitreous.models.probe import ForwardError, answer_to_zeros


def head_of(network: nn.Module, in_channels: int, image_size: tuple[int, int]) -> str | None:
    """The path of the linear layer, or 1x1 convolution, whose output is the network's answer; None where there is none.

    It is found by a forward of zeros, so it is the layer that counts and not the one that happens to be last in the
    file; what only gives the numbers another shape may come after it. The network is left as it was.

    >>> from torch import nn
    >>> head_of(nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 2)), 3, (2, 2))
    '3'
    """
    outputs: list[tuple[str, Tensor]] = []
    with ExitStack() as hooks:
        for name, module in network.named_modules():
            if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)):

                def keep(module: nn.Module, inputs: tuple[Any, ...], output: Any, name: str = name) -> None:
                    outputs.append((name, output))

                hooks.callback(module.register_forward_hook(keep).remove)
        try:
            answer = answer_to_zeros(network, in_channels, image_size)
        except ForwardError:
            return None
    if not isinstance(answer, Tensor):
        return None
    return next((name for name, output in reversed(outputs) if _is_same(output, answer)), None)


def _is_same(output: Tensor, answer: Tensor) -> bool:
    """Whether the answer is the output itself, or another view of it: the same numbers in the same order."""
    return _storage_owner(output) is _storage_owner(answer) and output.flatten(1).shape == answer.shape


def _storage_owner(tensor: Tensor) -> Tensor:
    return tensor if tensor._base is None else tensor._base

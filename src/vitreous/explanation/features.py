"""What a layer makes of an image, and the filters it does it with. Takes any ``nn.Module`` and leaves it as found."""

import difflib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from vitreous.errors import UserError


@contextmanager
def recorded(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Outputs of the named layers, filled during forward; hooks are removed even after an error.

    Of a layer that runs several times, the first output is kept. It is a copy, because an in-place layer that comes
    next (``nn.ReLU(inplace=True)``) would write over it.

    Raises:
        UserError: the network has no layer of that name, or it does not give one tensor.
    """
    outputs: dict[str, Tensor] = {}

    def keep(name: str, _module: nn.Module, _inputs: object, output: object) -> None:
        if not isinstance(output, Tensor):
            raise UserError(f"{name} gives a {type(output).__name__}, not one tensor; name a layer inside it.")
        if name not in outputs:
            outputs[name] = output.clone()

    with ExitStack() as hooks:
        for name in names:
            handle = layer(model, name).register_forward_hook(partial(keep, name))
            hooks.callback(handle.remove)
        yield outputs


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; then every module has its own training flag again, frozen ones too."""
    flags = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, was_training in flags:
            module.training = was_training


def layer(network: nn.Module, name: str) -> nn.Module:
    """The module at a path such as ``features.0``.

    Raises:
        UserError: there is none; the message names the nearest.
    """
    known: dict[str, nn.Module] = dict(network.named_modules())
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or [path for path in known if path][:5]
    raise UserError(f"the network has no layer {name!r}; there is {', '.join(near)}.")


def first_convolution(network: nn.Module, example_input: Tensor) -> str:
    """The path of the first ``nn.Conv2d`` that runs, which need not be the first that was registered.

    Args:
        example_input: N,C,H,W, as the network takes it.

    Raises:
        UserError: none runs.
    """
    order: list[str] = []

    def note(name: str, _module: nn.Module, _inputs: object) -> None:
        order.append(name)

    with ExitStack() as hooks, evaluating(network), torch.no_grad():
        for name, module in network.named_modules():
            if isinstance(module, nn.Conv2d):
                hooks.callback(module.register_forward_pre_hook(partial(note, name)).remove)
        network(example_input)
    if not order:
        raise UserError("the network has no nn.Conv2d that runs, so there are no filters and no feature maps to show.")
    return order[0]


def feature_maps(network: nn.Module, input_NCHW: Tensor, name: str) -> Tensor:
    """What the named layer makes of the images, as in evaluation: its output, detached; N,K,H',W' of a convolution."""
    with evaluating(network), torch.no_grad(), recorded(network, [name]) as outputs:
        network(input_NCHW)
    if name not in outputs:
        raise UserError(f"{name} does not run for this input, so it has no output to show.")
    return outputs[name]


def filters(network: nn.Module, name: str) -> Tensor:
    """A copy of the named convolution's weights: K,C,h,w (C is the number of its input channels in one group).

    Raises:
        UserError: the layer is no ``nn.Conv2d``.
    """
    return _convolution(network, name).weight.detach().clone()


def filters_on_input(network: nn.Module, input_NCHW: Tensor, name: str) -> Tensor:
    """Each filter of the named convolution as weights on the network's own input: K,C,h,w.

    The gradient of the convolution's middle output value towards the first image, cut to what it sees. For a
    convolution on the image itself these are its weights; where the image is only scaled or reordered before it (a
    normalization, ``nn.PixelUnshuffle``), they are what it amounts to on the image's pixels. Where something before
    it is not linear, they hold near this image only.

    Raises:
        UserError: the layer is no ``nn.Conv2d``.
    """
    _convolution(network, name)
    image_1CHW = input_NCHW[:1].detach().clone().requires_grad_()
    with evaluating(network), torch.enable_grad(), recorded(network, [name]) as outputs:
        network(image_1CHW.clone())  # a copy, because a leaf must not be written over
        middle_K = outputs[name][0, :, outputs[name].shape[2] // 2, outputs[name].shape[3] // 2]
        weights_KCHW = torch.cat([torch.autograd.grad(value, image_1CHW, retain_graph=True)[0] for value in middle_K])
    return _cut_to_support(weights_KCHW)


def strongest(maps_KHW: Tensor, num: int) -> list[int]:
    """The numbers of the maps with the largest mean absolute value, strongest first.

    >>> strongest(torch.tensor([[[1.0]], [[-3.0]], [[2.0]]]), 2)
    [1, 2]
    """
    response_K = maps_KHW.abs().mean(dim=(1, 2))
    return [int(k) for k in response_K.argsort(descending=True, stable=True)[:num]]


def _convolution(network: nn.Module, name: str) -> nn.Conv2d:
    module = layer(network, name)
    if not isinstance(module, nn.Conv2d):
        raise UserError(f"{name} is a {type(module).__name__}, not an nn.Conv2d; only convolutions have filters.")
    return module


def _cut_to_support(weights_KCHW: Tensor) -> Tensor:
    """Without the rows and columns at the edges in which every weight is 0."""
    seen_HW = (weights_KCHW != 0).any(dim=0).any(dim=0)
    if not bool(seen_HW.any()):
        return weights_KCHW
    rows, columns = seen_HW.any(dim=1).nonzero().flatten(), seen_HW.any(dim=0).nonzero().flatten()
    return weights_KCHW[:, :, int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1]

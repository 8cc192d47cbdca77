"""What a layer makes of an image, and the filters it does it with. Takes any ``nn.Module`` and leaves it as found."""

import difflib
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from vitreous.errors import UserError
from vitreous.trace import Recording, record
from vitreous.trace.values import record_values


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


# --- filters that do nothing ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FilterRanges:
    """Between which numbers the channels of one convolution lie, over all places of all images of a sample."""

    layer: str  # the convolution, as a trace names it
    behind: str  # the last operation that is its own: a norm, an activation, or the convolution itself
    low_K: Tensor
    high_K: Tensor

    @property
    def dead(self) -> list[int]:
        """The filters that give the same number everywhere, whatever they are shown: behind a ReLU, 0."""
        largest = float(torch.maximum(self.low_K.abs(), self.high_K.abs()).max())
        return [int(k) for k in ((self.high_K - self.low_K) <= _STILL * largest).nonzero().flatten()]


def filter_ranges(network: nn.Module, images_NCHW: Tensor) -> tuple[FilterRanges, ...]:
    """What every convolution that runs gives on these images, in running order.

    It is followed through norms, activations, pools and dropout as long as nothing else reads it, and looked at behind
    the last norm or activation: a filter that a ReLU cuts off everywhere is found, and one that a norm scales to
    nothing before it is added to a skip.

    Args:
        network: any; it is run in evaluation mode and left as it was found.
        images_NCHW: as the network takes them. They are run a few at a time, since every number is kept for a moment.

    Raises:
        ShapeError: the network does not take the images.
    """
    recorded_one = record(network, images_NCHW.shape[1:])
    numbers = sum(math.prod(shape) for operation in recorded_one.operations for shape in operation.outputs)
    found: dict[tuple[str, int], FilterRanges] = {}
    for images in torch.split(images_NCHW, max(1, _NUMBERS_AT_ONCE // numbers)):
        values = record_values(network, images)
        recording = values.recording
        for number, end in _own_ends(recording).items():
            maps_KX = values.outputs[end][0].transpose(0, 1).flatten(1)
            name, call = recording.names[number], recording.operations[number].call
            title = f"{name}, call {call}" if call else name
            ranges = FilterRanges(title, recording.names[end], maps_KX.amin(dim=1).cpu(), maps_KX.amax(dim=1).cpu())
            before = found.get((name, call))
            found[name, call] = ranges if before is None else _joined(before, ranges)
    return tuple(found.values())


_STILL = 1e-6  # of the layer's largest number: what rounding alone may move
_NUMBERS_AT_ONCE = 2**24  # of a recorded forward: 64 MiB, and as much again for what the network itself holds
_CONVOLUTIONS = frozenset(f"conv{kind}{axes}d" for kind in ("", "_transpose") for axes in (1, 2, 3))
_OWN = frozenset(  # norms and activations: what they give of a channel that never changes
    (
        *("batch_norm", "instance_norm", "group_norm", "local_response_norm"),
        *("relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "celu", "selu", "gelu", "silu", "mish", "hardtanh"),
        *("hardswish", "hardsigmoid", "hardshrink", "softshrink", "tanhshrink", "softplus", "softsign", "threshold"),
        *("sigmoid", "logsigmoid", "tanh", "square", "abs", "clamp", "clamp_min", "clamp_max", "clip"),
    )
)
_PASSED = frozenset(
    (
        *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"),
        *("max_pool2d", "avg_pool2d", "contiguous", "clone", "detach", "to"),
    )
)


def _own_ends(recording: Recording) -> dict[int, int]:
    """Of each convolution's operation, the last norm or activation that works on its channels alone; else itself."""
    operations = recording.operations
    readers: dict[int, set[int]] = defaultdict(set)
    for number, operation in enumerate(operations):
        for ref in operation.inputs:
            assert ref.operation is not None, "inputs are what operations made"
            readers[ref.operation].add(number)
    ends = {}
    for number, operation in enumerate(operations):
        if operation.function not in _CONVOLUTIONS:
            continue
        ends[number] = at = number
        while len(readers[at]) == 1:
            (at,) = readers[at]
            function = operations[at].function
            if function not in _OWN | _PASSED:
                break
            if function in _OWN:
                ends[number] = at
    return ends


def _joined(before: FilterRanges, now: FilterRanges) -> FilterRanges:
    """Over both; of a network that takes another way for other images, where the first ones were looked at."""
    if before.behind != now.behind:
        return before
    low_K, high_K = torch.minimum(before.low_K, now.low_K), torch.maximum(before.high_K, now.high_K)
    return FilterRanges(before.layer, before.behind, low_K, high_K)

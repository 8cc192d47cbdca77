"""One forward on real numbers, recorded: the graph of ``recording.py`` together with every value in it.

The values are copies made the moment an operation has run, so an in-place layer that comes later changes none of them.
With gradients, each is that of the value as it was then: a tensor's hook belongs to the version that it was put on.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from vitreous.errors import ShapeError
from vitreous.trace.borrowing import borrowed
from vitreous.trace.fitting import described
from vitreous.trace.recording import Recorder, Recording, Ref, failure_of

_Key = tuple[int, int]  # operation, output


@dataclass(frozen=True)
class Values:
    """A recorded forward, and what every operation gave."""

    recording: Recording
    outputs: tuple[tuple[Tensor, ...], ...]  # of each operation, detached
    constants: tuple[Tensor, ...]  # parameters, buffers and other tensors that were read: detached, not copied
    result: Tensor  # of the network; it has a graph if gradients were asked for
    _image: Tensor
    _caught: dict[_Key, Tensor]  # filled by the hooks during a backward pass

    def of(self, ref: Ref) -> Tensor:
        """The tensor that an operation was given."""
        if ref.operation is not None:
            return self.outputs[ref.operation][ref.output]
        assert ref.constant is not None, "what no operation made was there before"
        return self.constants[ref.constant]

    def gradients(self, score: Tensor) -> dict[_Key, Tensor]:
        """Of one number made from ``result``: its gradient towards every (operation, output) on its way to the image.

        The network's parameters get none, whether they are frozen or not.
        """
        self._caught.clear()
        torch.autograd.grad(score, self._image, retain_graph=True, allow_unused=True)
        caught = dict(self._caught)
        self._caught.clear()
        return caught


def record_values(network: nn.Module, image_1CHW: Tensor, *, with_gradients: bool = False) -> Values:
    """Run the network on one image (or a batch) in evaluation mode; keep every number that any operation made.

    The network is left as it was found: flags, hooks, parameters, buffers, the random state.

    Raises:
        ShapeError: the forward fails, or gives something else than one tensor.
    """
    with borrowed(network) as bare:
        return _recorded(bare, image_1CHW, with_gradients)


def _recorded(network: nn.Module, image_1CHW: Tensor, with_gradients: bool) -> Values:
    names = {id(tensor): name for name, tensor in (*network.named_buffers(), *network.named_parameters())}
    outputs: list[list[Tensor]] = []
    caught: dict[_Key, Tensor] = {}

    def keep(operation: int, output: int, tensor: Tensor) -> None:
        if output == 0:
            outputs.append([])
        outputs[operation].append(tensor.detach().clone())
        if tensor.requires_grad:
            tensor.register_hook(partial(_catch, caught, (operation, output)))  # type: ignore[no-untyped-call]

    recorder = Recorder(names, {id(tensor): tensor.numel() for tensor in network.parameters()}, keep)
    leaf = image_1CHW.detach().clone().requires_grad_(with_gradients)
    with (
        recorder.following(network),
        torch.set_grad_enabled(with_gradients),
        torch.random.fork_rng(devices=[]),
    ):
        image = leaf.clone()  # a network may write into what it is given, and a leaf must not be written into
        recorder.add("input", ((), {}), [image])
        try:
            with recorder:
                result = network(image)
        except Exception as error:  # a network may raise whatever it likes
            shape = tuple(image_1CHW.shape[1:])
            message = described(recorder.failure(error), shape, lambda other: failure_of(network, other))
            raise ShapeError(message) from error
    if not isinstance(result, Tensor):
        raise ShapeError(f"the network gives a {type(result).__name__}, not one tensor; wrap it in a module that does.")
    recording = recorder.recording(sum(tensor.numel() for tensor in network.parameters()))
    constants = tuple(tensor.detach() for tensor in recorder.constants)
    return Values(recording, tuple(map(tuple, outputs)), constants, result, leaf, caught)


def _catch(caught: dict[_Key, Tensor], key: _Key, gradient: Tensor) -> None:
    caught[key] = caught[key] + gradient if key in caught else gradient.detach().clone()

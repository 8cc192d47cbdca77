"""The optimizer: which parameters decay, which are orthogonalized, and its state as plain tensors."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW
from torch.optim import Optimizer as TorchOptimizer

from vitreous.config import TrainingConfig, settled
from vitreous.training.finetune import layer_shares
from vitreous.training.muon import Muon

MUON_REST = 1.25  # what sgd's rate is times Muon's, found on validation images: docs/log.md
_MUON_REST_DECAY = 1 / 200  # Muon decays as AdamW does, by rate * decay; in sgd decay is part of the gradient
_MUON_MOMENTUM = 0.6
_MUON_STEPS = 3  # of Newton and Schulz: more bring the update nearer to orthogonal, and no accuracy


class Optimizer(Protocol):
    """What the loop asks of an optimizer; torch's own have it."""

    @property
    def param_groups(self) -> list[dict[str, Any]]: ...

    def zero_grad(self, set_to_none: bool = True) -> None: ...

    def step(self) -> Any: ...


def make_optimizer(network: nn.Module, config: TrainingConfig) -> Optimizer:
    """SGD with Nesterov's momentum, AdamW, or Muon on filters beside SGD on the rest.

    Filters and matrices decay, biases and norms do not (He et al. 2018). Parameters that need no gradient are left out;
    each group knows its ``share`` of the learning rate.
    """
    if config.optimizer == "muon":
        return FilterMuon(network, config)
    groups = _groups(network, config, network.parameters())
    if config.optimizer == "adamw":
        return AdamW(groups, lr=settled(config.learning_rate), betas=(config.momentum, 0.999), fused=True)
    return _sgd(groups, config)


class FilterMuon:
    """Muon on the filters of convolutions, SGD on the rest.

    A filter bank is taken as a matrix of (out, in * kh * kw); the order of its columns does not matter, so it is a view
    of the filters in whatever layout they have. Grouped convolutions are many small matrices: they stay with SGD.
    """

    def __init__(self, network: nn.Module, config: TrainingConfig) -> None:
        convolutions = (module for module in network.modules() if isinstance(module, nn.Conv2d) and module.groups == 1)
        wanted = {module.weight: None for module in convolutions if module.weight.requires_grad}
        groups = _groups(network, config, wanted)
        self._filters = [parameter for group in groups for parameter in group["params"]]
        for group in groups:
            group["params"] = [_as_matrix(parameter.detach()) for parameter in group["params"]]
        self._views = [view for group in groups for view in group["params"]]
        rest = _groups(network, config, [each for each in network.parameters() if each not in wanted])
        for group in rest:
            group["share"] *= MUON_REST
            group["weight_decay"] *= _MUON_REST_DECAY
        self.parts: list[TorchOptimizer] = []
        if groups:
            self.parts.append(Muon(groups, momentum=_MUON_MOMENTUM, num_steps=_MUON_STEPS))
        if rest:
            self.parts.append(_sgd(rest, config))

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Of both."""
        return [group for part in self.parts for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for parameter in self._filters:
            parameter.grad = None
        for part in self.parts:
            part.zero_grad(set_to_none=set_to_none)

    @torch.no_grad()
    def step(self) -> None:
        """One update of all parameters."""
        for view, parameter in zip(self._views, self._filters, strict=True):
            view.grad = None if parameter.grad is None else _as_matrix(parameter.grad, like=parameter)
        for part in self.parts:
            part.step()


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Use ``rate`` in the last layer, and its share in each other, from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["share"]


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimizer's state by ``parameter number . name``; rates and decays are settings, not state."""
    return {
        f"{prefix}{number}.{name}": value
        for prefix, part in _parts(optimizer)
        for number, entries in part.state_dict()["state"].items()
        for name, value in entries.items()
        if isinstance(value, Tensor)
    }


@torch.no_grad()
def restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what ``optimizer_tensors`` gave, in place of all state there is.

    Each tensor gets its parameter's layout in memory: the fused kernels walk both in the order of their bytes, so a
    filter with its channels last and a momentum with its channels first would be paired wrongly, silently.
    """
    for prefix, part in _parts(optimizer):
        parameters = [parameter for group in part.param_groups for parameter in group["params"]]
        state: dict[int, dict[str, Any]] = {}
        for key, tensor in tensors.items():
            if key.startswith(prefix):
                number, name = key.removeprefix(prefix).split(".", 1)
                parameter = parameters[int(number)]
                laid_out = torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor) if tensor.ndim else tensor
                state.setdefault(int(number), {})[name] = laid_out
        part.load_state_dict({"state": state, "param_groups": part.state_dict()["param_groups"]})


def _parts(optimizer: Optimizer) -> Iterator[tuple[str, TorchOptimizer]]:
    """The optimizers that it consists of, each with the prefix of its state's names."""
    if isinstance(optimizer, FilterMuon):
        yield from ((f"{type(part).__name__}.", part) for part in optimizer.parts)
    else:
        assert isinstance(optimizer, TorchOptimizer)
        yield "", optimizer


def _groups(network: nn.Module, config: TrainingConfig, wanted: Any) -> list[dict[str, Any]]:
    """The wanted parameters that are trained, by decay and by share of the rate."""
    decay, wanted = settled(config.weight_decay), set(wanted)
    members: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter, share in layer_shares(network, settled(config.layer_decay)).items():
        if parameter.requires_grad and parameter in wanted:
            members.setdefault((decay if parameter.ndim > 1 else 0.0, share), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": weight_decay, "share": share}
        for (weight_decay, share), parameters in members.items()
    ]


def _sgd(groups: Sequence[dict[str, Any]], config: TrainingConfig) -> SGD:
    rate, momentum = settled(config.learning_rate), config.momentum
    return SGD(groups, lr=rate, momentum=momentum, nesterov=momentum > 0, fused=True)


def _as_matrix(filters_KCHW: Tensor, like: Tensor | None = None) -> Tensor:
    """Filters as (out, in * kh * kw), sharing their memory where the layout is that of ``like`` or their own."""
    layout = filters_KCHW if like is None else like
    is_last = layout.is_contiguous(memory_format=torch.channels_last) and not layout.is_contiguous()
    return (filters_KCHW.permute(0, 2, 3, 1) if is_last else filters_KCHW).flatten(1)

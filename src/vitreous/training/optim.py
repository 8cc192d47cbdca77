"""The optimizer: which parameters decay, and its state as plain tensors."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from vitreous.config import TrainingConfig, settled
from vitreous.training.finetune import layer_shares


def make_optimizer(network: nn.Module, config: TrainingConfig) -> Optimizer:
    """SGD with Nesterov's momentum, or AdamW; filters and matrices decay, biases and norms do not (He et al. 2018).

    Parameters that need no gradient are left out; each group knows its ``share`` of the learning rate.
    """
    rate, decay = settled(config.learning_rate), settled(config.weight_decay)
    members: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter, share in layer_shares(network, settled(config.layer_decay)).items():
        if parameter.requires_grad:
            members.setdefault((decay if parameter.ndim > 1 else 0.0, share), []).append(parameter)
    groups = [
        {"params": parameters, "weight_decay": weight_decay, "share": share}
        for (weight_decay, share), parameters in members.items()
    ]
    if config.optimizer == "adamw":
        return AdamW(groups, lr=rate, betas=(config.momentum, 0.999), fused=True)
    nesterov = config.momentum > 0
    return SGD(groups, lr=rate, momentum=config.momentum, nesterov=nesterov, fused=True)


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Use ``rate`` in the last layer, and its share in each other, from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["share"]


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimizer's state by ``parameter number . name``; rates and decays are settings, not state."""
    state = optimizer.state_dict()["state"]
    return {
        f"{number}.{name}": value
        for number, entries in state.items()
        for name, value in entries.items()
        if isinstance(value, Tensor)
    }


@torch.no_grad()
def restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what ``optimizer_tensors`` gave.

    Each tensor gets its parameter's layout in memory: the fused kernels walk both in the order of their bytes, so a
    filter with its channels last and a momentum with its channels first would be paired wrongly, silently.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for key, tensor in tensors.items():
        number, name = key.split(".", 1)
        parameter = parameters[int(number)]
        laid_out = torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor) if tensor.ndim else tensor
        state.setdefault(int(number), {})[name] = laid_out
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})

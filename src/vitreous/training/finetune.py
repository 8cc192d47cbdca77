"""What stays of a pretrained network while it is trained on, and how fast each of its layers may move."""

import difflib

from torch import nn

from vitreous.config import TrainingConfig, settled
from vitreous.errors import ConfigError


def freeze(network: nn.Module, what: str, head: str | None) -> None:
    """Take the gradient from the parameters that stay as they are.

    Args:
        network: any network; its parameters are taken to be registered in the order of their layers.
        what: "none"; "backbone", all but the head; or the name of the last layer that stays.
        head: the name of the last linear layer, where there is one.

    Raises:
        ConfigError: no such layer, or nothing would be left to train.
    """
    if what == "none":
        return
    if what == "backbone":
        if head is None:
            raise ConfigError(
                "training.freeze = backbone needs a network whose answer comes from a linear layer; "
                f"name the last layer that stays instead, e.g. --freeze {_layers(network)[0]}."
            )
        kept = set(network.parameters()) - set(network.get_submodule(head).parameters())
    else:
        kept = _up_to(network, what)
    if kept.issuperset(network.parameters()):
        raise ConfigError(f"training.freeze = {what!r} would leave nothing to train; name an earlier layer.")
    for parameter in kept:
        parameter.requires_grad = False


def set_training_mode(network: nn.Module, batch_norm: str) -> None:
    """Training mode, but for what stays: frozen layers, and batch norms whose statistics are kept.

    A frozen layer in training mode would still move its running statistics and drop activations.
    """
    network.train()
    for module in network.modules():
        parameters = list(module.parameters())
        is_frozen = bool(parameters) and not any(parameter.requires_grad for parameter in parameters)
        is_kept_norm = batch_norm == "keep" and isinstance(module, nn.modules.batchnorm._BatchNorm)
        if is_frozen or is_kept_norm:
            module.eval()


def layer_shares(network: nn.Module, layer_decay: float) -> dict[nn.Parameter, float]:
    """The share of the learning rate of each parameter: 1 in the last layer, ``layer_decay`` in the first.

    Between them it is a geometric line over the layers that have parameters, so that the same setting suits networks of
    any depth. Source of the idea: Howard, Ruder 2018, "Universal Language Model Fine-tuning", section 3.2.
    """
    layers = [list(module.parameters(recurse=False)) for module in network.modules()]
    layers = [parameters for parameters in layers if parameters]
    last = max(1, len(layers) - 1)
    return {
        parameter: layer_decay ** ((len(layers) - 1 - place) / last)
        for place, parameters in enumerate(layers)
        for parameter in parameters
    }


def is_head_only(config: TrainingConfig) -> bool:
    """Whether the head is all that will be trained."""
    return settled(config.epochs) == 0


def _up_to(network: nn.Module, layer: str) -> set[nn.Parameter]:
    names = _layers(network)
    if layer not in names:
        near = difflib.get_close_matches(layer, names, n=3)
        known = f"did you mean {' or '.join(near)}?" if near else f"its layers begin {', '.join(names[:8])} …"
        raise ConfigError(f"training.freeze = {layer!r}: the network has no such layer with weights; {known}")
    own = list(network.get_submodule(layer).parameters())
    ordered = list(network.parameters())
    last = max(number for number, parameter in enumerate(ordered) if any(parameter is each for each in own))
    return set(ordered[: last + 1])


def _layers(network: nn.Module) -> list[str]:
    return [name for name, module in network.named_modules() if name and any(True for _ in module.parameters())]

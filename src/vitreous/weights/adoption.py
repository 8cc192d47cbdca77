"""Foreign weights into a network: strictly, except for the head, and with an explanation of whatever was done."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitreous.errors import ConfigError
from vitreous.weights.foreign import WeightFile
from vitreous.weights.header import shortened
from vitreous.weights.likeness import COUNTER, Outline, first_convolution, looks_like

_PREFIXES = ("module.", "model.", "_orig_mod.", "state_dict.")  # of DataParallel, Lightning, torch.compile, checkpoints
_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Adoption:
    """What was done, in lines for the screen; and whether the head kept its fresh weights."""

    lines: tuple[str, ...]
    is_head_new: bool


def adopt(network: nn.Module, file: WeightFile, *, head: str | None, classes: Sequence[str] | None = None) -> Adoption:
    """Load the file's tensors into ``network``: every name and every shape, or nothing is changed.

    The head may differ: where the file has none, or one for other classes, the network's own stays. Where
    one side has grey images and the other has colours, the first convolution is translated, by the deviations of
    ``file.preprocessing``; use ``file.preprocessing.for_channels`` with it. Blue first becomes red first.

    Args:
        network: any network.
        file: as ``open_weights`` gave it.
        head: the name of the network's last linear layer; None if it has none, and then nothing may differ.
        classes: of the network; the file's head is then taken only if it is known to tell these apart. Without, their
            number decides.

    Raises:
        ConfigError: a tensor is missing, too much, or of another shape; the message names them, and the architecture
            that the file looks like.
    """
    own = network.state_dict()
    tensors, prefix_lines = _without_prefix(file, own)
    tensors, first_lines = _with_first_convolution(network, file, tensors)
    own_head, their_head = _part(own, head), _part(tensors, head)
    are_others = classes is not None and file.classes != tuple(classes)
    is_head_new = head is not None and (are_others or _shapes(own_head) != _shapes(their_head))
    taken = {name: tensor for name, tensor in tensors.items() if not (is_head_new and name in their_head)}
    stays = own_head if is_head_new else {}
    if differences := _differences(taken, {name: tensor for name, tensor in own.items() if name not in stays}):
        raise ConfigError(_refusal(network, file, tensors, head, differences))
    network.load_state_dict({**own, **taken})
    loaded = f"{len(taken)} of the {len(file.tensors)} tensors in {file.path} are taken"
    head_lines = [] if head is None else [_say_head(head, own_head, their_head, is_head_new)]
    return Adoption((loaded, *file.remarks, *prefix_lines, *first_lines, *head_lines), is_head_new)


def _part(tensors: Mapping[str, Tensor], module: str | None) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if module is not None and name.startswith(f"{module}.")}


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _differences(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """A line for each tensor that does not fit, by the kind of misfit."""
    missing = [f"{name} is missing" for name in wanted if name not in found and not name.endswith(COUNTER)]
    extra = [f"{shortened(name)} is not in the network" for name in _counters_last(found) if name not in wanted]
    shapes = [
        f"{name} is {tuple(found[name].shape)} in the file, {tuple(tensor.shape)} in the network"
        for name, tensor in wanted.items()
        if name in found and found[name].shape != tensor.shape
    ]
    whole = [
        f"{name} is {_kind(found[name])} in the file, {_kind(tensor)} in the network"
        for name, tensor in wanted.items()
        if name in found and found[name].is_floating_point() != tensor.is_floating_point()
    ]
    kinds = {"missing": missing, "not in the network": extra, "of another shape": shapes, "of another kind": whole}
    return {kind: lines for kind, lines in kinds.items() if lines}


def _without_prefix(file: WeightFile, own: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors under names that the network knows: what a wrapper put before all of them is taken away."""
    prefix, names = "", list(file.tensors)
    while found := next((each for each in _PREFIXES if all(name.startswith(each) for name in names)), None):
        prefix, names = prefix + found, [name.removeprefix(found) for name in names]
    if not prefix or len(own.keys() & set(names)) <= len(own.keys() & file.tensors.keys()):
        return dict(file.tensors), []
    renamed = {name.removeprefix(prefix): tensor for name, tensor in file.tensors.items()}
    return renamed, [f"all names in the file begin with {prefix!r}; it was taken away"]


def _counters_last(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: name.endswith(COUNTER))


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


# --- the head ---------------------------------------------------------------------------------------------------------


def _say_head(head: str, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], is_new: bool) -> str:
    num_ours, num_theirs = _num_classes(ours), _num_classes(theirs)
    if num_theirs is None:
        return f"the head {head} is new: the file has none"
    if num_theirs != num_ours:
        return f"the head {head} is new: the file's tells {num_theirs} classes apart, this network {num_ours}"
    if _shapes(ours) != _shapes(theirs):
        return f"the head {head} is new: the file's is of another shape"
    if is_new:
        return f"the head {head} is new: the file's tells {num_theirs} classes apart, but not these"
    return f"the head {head} is the file's: it too tells {num_ours} classes apart"


def _num_classes(head: Mapping[str, Tensor]) -> int | None:
    weight = next((tensor for name, tensor in head.items() if name.endswith(".weight") and tensor.ndim), None)
    return None if weight is None else len(weight)


# --- the first convolution --------------------------------------------------------------------------------------------


def _with_first_convolution(
    network: nn.Module, file: WeightFile, tensors: dict[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors with the first convolution's filters for the network's channels, red first."""
    first = first_convolution(network)
    name = f"{first}.weight"
    filters = tensors.get(name)
    if filters is None or filters.ndim != 4:
        return tensors, []
    lines = []
    if file.preprocessing is not None and file.preprocessing.is_bgr and filters.shape[1] == 3:
        filters = filters.flip(1)
        lines.append(f"the file's network was shown blue first: the channels of {first} were reversed")
    changed = {name: filters}
    channels = network.state_dict()[name].shape[1]
    if (filters.shape[1], channels) == (1, 3):
        changed = {name: filters.expand(-1, 3, -1, -1) / 3}
        lines.append(
            f"the file's network sees grey, this one colour: the filters of {first} are repeated, divided by 3"
        )
    elif (filters.shape[1], channels) == (3, 1):
        changed = _summed_over_colours(network, file, tensors, filters)
        lines.append(
            f"the file's network sees colour, this one grey: the filters of {first} are summed over the colours, "
            "so that it answers about as to the grey picture in three equal channels"
        )
    return {**tensors, **changed}, lines


def _summed_over_colours(
    network: nn.Module, file: WeightFile, tensors: Mapping[str, Tensor], filters: Tensor
) -> dict[str, Tensor]:
    """The first convolution for grey x in place of colours (x - m_c) / s_c, where grey is normalized to (x - m) / s.

    sum_c w_c (x - m_c) / s_c  =  [sum_c w_c s / s_c] (x - m) / s  +  sum_c w_c (m - m_c) / s_c

    The bracket is the new filter; the last term, the same at every place, goes into the bias, or into the mean that a
    batch norm right behind takes away. At the border it is not the same, since padding is 0 on either side: hence
    "about". Without known means and deviations they are taken to be equal.
    """
    first = str(first_convolution(network))
    if file.preprocessing is None:
        return {f"{first}.weight": filters.sum(1, keepdim=True)}
    colour, grey = file.preprocessing.for_channels(3), file.preprocessing.for_channels(1)
    scales = torch.tensor(grey.std) / torch.tensor(colour.std)
    shifts = (torch.tensor(grey.mean) - torch.tensor(colour.mean)) / torch.tensor(colour.std)
    changed = {f"{first}.weight": (filters * scales[:, None, None]).sum(1, keepdim=True)}
    constant = (filters.sum((2, 3)) * shifts).sum(1)
    if (bias := f"{first}.bias") in tensors:
        changed[bias] = tensors[bias] + constant
    elif (mean := f"{_behind(network, first)}.running_mean") in tensors:
        changed[mean] = tensors[mean] - constant
    return changed


def _behind(network: nn.Module, layer: str) -> str:
    names: list[str] = [name for name, _ in network.named_modules()]
    return names[min(names.index(layer) + 1, len(names) - 1)]


# --- refusal ----------------------------------------------------------------------------------------------------------


def _refusal(
    network: nn.Module,
    file: WeightFile,
    tensors: Mapping[str, Tensor],
    head: str | None,
    differences: Mapping[str, list[str]],
) -> str:
    shapes = _shapes(tensors)
    outline = Outline.of(network, head)
    num_fitting, own_share = outline.likeness(shapes)
    counts = ", ".join(f"{len(lines)} {kind}" for kind, lines in differences.items())
    text = [
        f"{file.path} does not fit the network: {num_fitting} of its {len(shapes)} tensors do, "
        f"and the network has {len(outline.shapes)}; {counts}."
    ]
    alike = looks_like(shapes)
    if alike is not None and alike.share > own_share:
        text.append(f"These look like the weights of {alike}; try --model {alike.names[0]}.")
    problems = [line for lines in differences.values() for line in lines]
    text.extend(f"  {problem}" for problem in problems[:_SHOWN])
    if len(problems) > _SHOWN:
        text.append(f"  and {len(problems) - _SHOWN} more")
    return "\n".join(text)

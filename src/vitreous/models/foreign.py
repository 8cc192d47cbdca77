"""Networks that are not ours: ``timm:NAME`` from timm's registry, ``file.py:factory`` from a file of the user's.

Nothing is downloaded: a network comes with fresh weights. A file is run only because the user named it; what a run
folder says is never enough (see ``vitreous.weights``). No torch is imported to tell the kinds apart.
"""

import difflib
import re
from typing import TYPE_CHECKING, Any

from vitreous.errors import ConfigError
from vitreous.models.factory import factory_network, source_sha256, split_factory

if TYPE_CHECKING:
    from torch import nn

_TIMM = "timm:"
_TIMM_NAME = re.compile(r"\w+(\.\w+)?", re.ASCII)


def is_timm(model: str) -> bool:
    """Whether this names a network of timm's registry.

    >>> is_timm("timm:resnet18"), is_timm("resnet18")
    (True, False)
    """
    return model.startswith(_TIMM)


def is_factory(model: str) -> bool:
    """Whether this names a Python file, so that building it would run that file.

    >>> is_factory("nets/small.py:make"), is_factory("small.py"), is_factory("conv8 gap fc")
    (True, True, False)
    """
    return not is_timm(model) and re.search(r"\.py(:|$)", model) is not None


def refuse_factory(model: str | None, path: object) -> None:
    """Refuse a file of settings that names a Python file: no settings cause code to be loaded.

    Raises:
        ConfigError: it does, so the user has to say so.
    """
    if model is not None and is_factory(model):
        raise ConfigError(
            f"{path} wants the network of {model}, and a file of settings never causes code to be loaded; "
            f"name the file yourself: --model {model}"
        )


def is_foreign(model: str) -> bool:
    """Whether this is neither a name of our table nor a line of the pattern language."""
    return is_timm(model) or is_factory(model)


def foreign_network(
    model: str, *, num_classes: int, in_channels: int, image_size: tuple[int, int], probe: bool = True
) -> "nn.Module":
    """The network with fresh weights from torch's random numbers; with ``probe`` it was seen to map N,C,H,W to N,K.

    Raises:
        ConfigError: no such name, file or function; timm is not installed; what was found builds no network, or one
            that answers something else.
        ShapeError: the network does not take images of this size.
    """
    from vitreous.models.probe import require_answer  # with torch

    build = timm_network if is_timm(model) else factory_network
    network = build(model, num_classes=num_classes, in_channels=in_channels)
    if probe:
        require_answer(network, model, num_classes=num_classes, in_channels=in_channels, image_size=image_size)
        _require_untied(network, model)
    return network


def describe_foreign(model: str) -> dict[str, Any]:
    """What a manifest keeps of it: of a file its name and the SHA-256 of its source, not where it lies."""
    if is_timm(model):
        return {"name": model}
    path, function = split_factory(model)
    return {"name": f"{path.name}:{function}", "source_sha256": source_sha256(path)}


def _require_untied(network: "nn.Module", model: str) -> None:
    owners: dict[int, str] = {}
    for name, tensor in network.state_dict().items():
        owner = owners.setdefault(tensor.untyped_storage()._cdata, name) if tensor.numel() else name
        if owner != name:
            raise ConfigError(
                f"{model} uses one tensor as {owner} and as {name}; a weight file holds each under one name only, so "
                "such a network cannot be kept."
            )


def timm_network(model: str, *, num_classes: int, in_channels: int) -> "nn.Module":
    """A network of timm's registry with fresh weights; see ``foreign_network``."""
    name = timm_name(model)
    timm = import_timm()
    _require_known(timm, name)
    try:
        network: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes, in_chans=in_channels)
    except Exception as error:  # timm's builders raise whatever they like
        raise ConfigError(
            f"timm cannot build {name} for {in_channels} channels and {num_classes} classes: {last_line(error)}"
        ) from error
    return network


def timm_name(model: str) -> str:
    """The name as timm's registry has it.

    Raises:
        ConfigError: it is an address or a path.
    """
    name = model.removeprefix(_TIMM)
    if not _TIMM_NAME.fullmatch(name):
        raise ConfigError(
            f"{model!r}: after timm: comes a plain name of timm's registry, such as timm:resnet18 or "
            "timm:resnet18.a1_in1k; addresses and paths are not taken."
        )
    return name


def timm_input(model: str) -> tuple[int, int, int]:
    """The channels, height and width of the images that a network of timm's was designed for.

    Raises:
        ConfigError: timm is not installed, or knows no such network.
    """
    name, timm = timm_name(model), import_timm()
    _require_known(timm, name)
    found = timm.models.get_pretrained_cfg(name, allow_unregistered=True)
    channels, height, width = found.input_size if found is not None else (3, 224, 224)
    return channels, height, width


def import_timm() -> Any:
    """The package timm, which is optional.

    Raises:
        ConfigError: it is not installed, or broken.
    """
    try:
        import timm
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise ConfigError(f"timm is installed, but not what it needs: {error}.") from error
        raise ConfigError("timm is not installed; get it with: pip install 'vitreous[timm]'") from None
    except (ImportError, RuntimeError, AttributeError) as error:  # a torchvision of another torch
        raise ConfigError(f"timm is installed but cannot be imported: {last_line(error)}") from error
    return timm


def last_line(error: BaseException) -> str:
    """An exception as one line: its kind, and what it says last."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[-1].strip()}" if said else type(error).__name__


def _require_known(timm: Any, name: str) -> None:
    architecture, dot, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture.lower(), timm.list_models(), n=3)
        meant = (
            f"did you mean {' or '.join(f'timm:{each}' for each in near)}?" if near else "timm.list_models() has all."
        )
        raise ConfigError(f"timm {timm.__version__} has no network named '{architecture}'; {meant}")
    if dot and name not in timm.list_pretrained(f"{architecture}.*"):
        tags = [each.partition(".")[2] for each in timm.list_pretrained(f"{architecture}.*")]
        near = difflib.get_close_matches(tag, tags, n=3) or tags[:3]
        known = f"such as {', '.join(near)}; " if near else ""
        raise ConfigError(
            f"timm's {architecture} has no tag '{tag}', {known}a tag names published weights, which are not "
            f"downloaded: timm:{architecture} is enough."
        )

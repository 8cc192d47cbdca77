"""A network lent for one forward: without the wrappers that hide it, in evaluation mode, given back as it was."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import copy
from typing import Any

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

from vitreous.errors import ShapeError

_CONTAINERS = (dict, OrderedDict, list, set)


@contextmanager
def borrowed(network: nn.Module) -> Iterator[nn.Module]:
    """Inside, the network itself, in evaluation mode by the flags alone: its own ``eval`` may do more than that.

    DataParallel, DistributedDataParallel and torch.compile are left aside, wherever they stand. Afterwards every
    module has the attributes that it had, also where its forward wrote some, as a cache or a layer made late.

    Raises:
        ShapeError: a scripted or a lazy module, in which nothing can be recorded.
    """
    bare = _bare(network)
    for path, module in bare.named_modules():
        _require_open(path, module)
    with ExitStack() as changes:
        for module in list(bare.modules()):
            changes.callback(_put_back, module, _contents(module))
        for module in list(bare.modules()):
            for name, child in module._modules.items():
                if child is not None:
                    module._modules[name] = _bare(child)
        for module in bare.modules():
            module.__dict__["training"] = False
            if module._compiled_call_impl is not None:  # module.compile()
                module.__dict__["_compiled_call_impl"] = None
        yield bare


def _bare(module: nn.Module) -> nn.Module:
    while (inner := _inside(module)) is not None:
        module = inner
    return module


def _inside(module: nn.Module) -> nn.Module | None:
    if "_orig_mod" in module._modules:  # torch.compile; its class is in a part of torch that takes seconds to import
        return module._modules["_orig_mod"]
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return module._modules["module"]
    return None


def _require_open(path: str, module: nn.Module) -> None:
    who = f"{path} is" if path else "the network is"
    if isinstance(module, torch.jit.ScriptModule):
        raise ShapeError(
            f"{who} scripted or traced by torch.jit, and what it calls cannot be recorded; "
            "give the module that it was made from."
        )
    if isinstance(module, LazyModuleMixin) and module.has_uninitialized_params():
        raise ShapeError(
            f"{who} a {type(module).__name__} that has no weights yet, it takes its shape from the first image; "
            "run the network once, network(torch.zeros(1, 3, 224, 224)), then trace it."
        )


def _contents(module: nn.Module) -> dict[str, tuple[Any, Any]]:
    """Every attribute and, of containers, what is in them."""
    return {
        name: (value, copy(value) if type(value) in _CONTAINERS else None) for name, value in module.__dict__.items()
    }


def _put_back(module: nn.Module, contents: dict[str, tuple[Any, Any]]) -> None:
    for _, (value, inside) in contents.items():
        if isinstance(value, list):
            value[:] = inside
        elif type(value) in _CONTAINERS and (value or inside):
            value.clear()
            value.update(inside)
    module.__dict__.clear()
    module.__dict__.update({name: value for name, (value, _) in contents.items()})

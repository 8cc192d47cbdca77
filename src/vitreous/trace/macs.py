"""Multiply-accumulates: of convolutions, dense layers and matrix products; a bias is an addition and not counted.

Frequent functions have a formula here. What runs inside others (attention, recurrent layers, einsum) is counted one
level lower, at the operators that torch really runs; that is slower, and its first use imports half of torch.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vitreous.trace.rules import RULES

aten = torch.ops.aten


def counted(function: str, args: tuple[Any, ...], kwargs: dict[str, Any], run: Callable[[], Any]) -> tuple[Any, int]:
    """What a function gives when it is run, and its multiply-accumulates."""
    if function in _FORMULAS:
        result = run()
        return result, _FORMULAS[function](result, *args, **kwargs)
    if function.strip("_") in _FREE:
        return run(), 0
    with _OperatorCounter() as counter:
        return run(), counter.total


# --- functions --------------------------------------------------------------------------------------------------------


def _convolution(result: Any, input: Any, weight: Any, *_: Any, **__: Any) -> int:
    """Every number of the output meets one filter, which sees the channels of its group."""
    return int(result.numel() * math.prod(weight.shape[1:]))


def _transposed_convolution(result: Any, input: Any, weight: Any, *_: Any, **__: Any) -> int:
    """Every number of the input meets one filter, which fills the channels of its group."""
    return int(input.numel() * math.prod(weight.shape[1:]))


def _product(result: Any, input: Any, *_: Any, **__: Any) -> int:
    """Every number of the output is a sum along the first factor's last dimension."""
    return int(result.numel() * input.shape[-1])


_FORMULAS: dict[str, Callable[..., int]] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _transposed_convolution),
    **dict.fromkeys(("linear", "matmul", "__matmul__", "mm", "bmm"), _product),
}
_MULTIPLYING = {name.strip("_") for name in _FORMULAS} | {"rmatmul", "scaled_dot_product_attention", "einsum"}
ASKING = frozenset(  # about a tensor; no tensor comes of it
    (
        *("size", "dim", "ndimension", "numel", "nelement", "stride", "storage_offset", "element_size", "get_device"),
        *("is_contiguous", "is_floating_point", "is_complex", "is_same_size"),
        *("shape", "dtype", "device", "layout", "ndim", "requires_grad", "grad_fn", "names"),
        *("is_meta", "is_cuda", "is_cpu", "is_nested", "is_quantized", "is_sparse", "is_mkldnn", "is_leaf"),
    )
)
_MAKING = ("empty", "zeros", "ones", "full", "rand", "randn", "arange", "tensor", "linspace", "setitem", "index_copy")
_FREE = {*RULES, *_MAKING} - _MULTIPLYING


# --- operators --------------------------------------------------------------------------------------------------------


class _OperatorCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside, ``total`` grows by the multiply-accumulates of every operator that torch runs."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.total += _operator(func.overloadpacket, args, result)
        return result


def _operator(operator: Any, args: Sequence[Any], result: Any) -> int:
    if operator in (aten.convolution, aten._convolution):
        is_transposed = args[6]  # then every number of the input meets one filter
        return _convolution(args[0] if is_transposed else result, *args)
    if operator in (aten.mm, aten.bmm):
        return _product(result, args[0])
    if operator in (aten.addmm, aten.baddbmm):
        return _product(result, args[1])
    if operator.__name__.startswith("_scaled_dot_product"):
        query, key, value = (each.shape for each in args[:3])  # N,heads,L,E and N,heads,S,E and N,heads,S,V
        return int(math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1]))
    return 0

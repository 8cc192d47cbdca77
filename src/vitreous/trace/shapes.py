"""The shapes of what frequent functions give, without asking torch for them.

On the meta device many of torch's kernels are written in Python: their first call takes a second to import what they
need, each later one up to a millisecond. What is answered here takes microseconds. Where anything is out of the
ordinary (broadcasting that fails, strides, an odd argument) there is no answer, and torch has the word.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vitreous.errors import ShapeError
from vitreous.geometry import conv_output_size, pool_output_size

Shape = tuple[int, ...]

# --- number by number -------------------------------------------------------------------------------------------------

_NUMBER_BY_NUMBER = frozenset(
    (
        *("relu", "relu6", "leaky_relu", "elu", "gelu", "silu", "mish", "hardtanh", "hardswish", "hardsigmoid"),
        *("sigmoid", "tanh", "softplus", "softmax", "exp", "sqrt", "square", "abs", "neg"),
        *("dropout", "dropout2d", "alpha_dropout"),
        *("add", "sub", "mul", "div", "truediv", "radd", "rsub", "rmul", "rtruediv", "iadd", "isub", "imul"),
    )
)


def _number_by_number(*args: Any, **kwargs: Any) -> Shape | None:
    shapes = [tuple(each.shape) for each in (*args, *kwargs.values()) if isinstance(each, Tensor)]
    return shapes[0] if len(set(shapes)) == 1 else _broadcast(shapes)


def _broadcast(shapes: Sequence[Shape]) -> Shape | None:
    longest = max(map(len, shapes))
    padded = [(1,) * (longest - len(shape)) + shape for shape in shapes]
    extents = [{extent for extent in column if extent != 1} or {1} for column in zip(*padded, strict=True)]
    return tuple(next(iter(each)) for each in extents) if all(len(each) == 1 for each in extents) else None


# --- functions with a shape of their own ------------------------------------------------------------------------------


def _batch_norm(input: Tensor, running_mean: Any, running_var: Any, *args: Any, **kwargs: Any) -> Shape | None:
    given = [running_mean, running_var, *args[:2], *kwargs.values()]
    lengths = {tuple(each.shape) for each in given if isinstance(each, Tensor)}
    return tuple(input.shape) if lengths == {(input.shape[1],)} else None


def _layer_norm(input: Tensor, normalized_shape: Sequence[int], *args: Any, **kwargs: Any) -> Shape | None:
    lengths = {tuple(each.shape) for each in (*args, *kwargs.values()) if isinstance(each, Tensor)}
    ends = tuple(normalized_shape)
    return tuple(input.shape) if lengths <= {ends} and tuple(input.shape[-len(ends) :]) == ends else None


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Shape | None:
    is_fitting = input.shape[-1] == weight.shape[1] and (bias is None or tuple(bias.shape) == (weight.shape[0],))
    return (*input.shape[:-1], weight.shape[0]) if is_fitting else None


def _max_pool(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Shape | None:
    return None if return_indices else _pool(input, kernel_size, stride, padding, dilation, ceil_mode)


def _average_pool(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: Any = None,
) -> Shape | None:
    return _pool(input, kernel_size, stride, padding, 1, ceil_mode)


def _pool(input: Tensor, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Shape | None:
    settings = [kernel, kernel if stride is None else stride, padding, dilation]
    if len(input.shape) != 4 or not all(isinstance(each, int) or len(each) == 2 for each in settings):
        return None
    kernels, steps, pads, gaps = ((each,) * 2 if isinstance(each, int) else tuple(each) for each in settings)
    try:
        sizes = map(partial(pool_output_size, ceil_mode=ceil_mode), input.shape[2:], kernels, steps, pads, gaps)
        return (*input.shape[:2], *sizes)
    except ShapeError:
        return None


def _adaptive_avg_pool(input: Tensor, output_size: Any) -> Shape | None:
    sizes = (output_size,) * 2 if isinstance(output_size, int) else tuple(output_size)
    if len(sizes) != 2 or len(input.shape) != 4 or not all(isinstance(size, int) for size in sizes):
        return None
    return (*input.shape[:2], *sizes)


def _reduction(input: Tensor, dim: Any = None, keepdim: bool = False) -> Shape | None:
    dims = [dim] if isinstance(dim, int) else dim
    if not dims or isinstance(dim, bool) or not all(-input.dim() <= each < input.dim() for each in dims):
        return None
    read = {each % input.dim() for each in dims}
    return tuple(1 if d in read else extent for d, extent in enumerate(input.shape) if keepdim or d not in read)


def _cat(tensors: Sequence[Tensor], dim: int = 0) -> Shape | None:
    first = list(tensors[0].shape)
    if not all(isinstance(each, Tensor) for each in tensors) or not -len(first) <= dim < len(first):
        return None
    others = [list(each.shape) for each in tensors]
    total = sum(shape.pop(dim) for shape in others if len(shape) == len(first))
    first[dim] = total
    return tuple(first) if all(shape == others[0] for shape in others) else None


def _convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Shape | None:
    num_axes = len(weight.shape) - 2
    is_fitting = bias is None or tuple(bias.shape) == (weight.shape[0],)
    is_fitting = is_fitting and len(input.shape) == num_axes + 2 and input.shape[1] == weight.shape[1] * groups
    settings = stride, padding, dilation
    if not is_fitting or weight.shape[0] % groups or not all(isinstance(each, int | tuple) for each in settings):
        return None
    steps, pads, gaps = ((each,) * num_axes if isinstance(each, int) else each for each in settings)
    try:
        sizes = map(conv_output_size, input.shape[2:], weight.shape[2:], steps, pads, gaps)
        return (input.shape[0], weight.shape[0], *sizes)
    except ShapeError:
        return None


def _index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Shape | None:
    return tuple(input.shape) if source.shape[0] == index.shape[0] and source.shape[1:] == input.shape[1:] else None


_SHAPES: dict[str, Callable[..., Shape | None]] = {
    **dict.fromkeys(_NUMBER_BY_NUMBER, _number_by_number),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _convolution),
    "linear": _linear,
    "max_pool2d": _max_pool,
    "avg_pool2d": _average_pool,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "adaptive_avg_pool2d": _adaptive_avg_pool,
    "mean": _reduction,
    "sum": _reduction,
    "cat": _cat,
    "index_copy": _index_copy,
}


# --- answers ----------------------------------------------------------------------------------------------------------


def run(func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What torch would give for these meta tensors, quickly where the shape is known beforehand."""
    shape_of = _SHAPES.get(name.strip("_"))
    tensors = _plain_tensors((*args, *kwargs.values())) if shape_of is not None else []
    if shape_of is None or not tensors or kwargs.get("dtype") is not None or "out" in kwargs:
        return func(*args, **kwargs)
    is_in_place = kwargs.get("inplace") is True or (name[-1] == "_" and (name[:2] != "__" or name[2] == "i"))
    try:
        shape = shape_of(*args, **kwargs)
    except (TypeError, IndexError):  # called in a way that is not foreseen here
        shape = None
    if shape is None or (is_in_place and shape != tuple(tensors[0].shape)):
        return func(*args, **kwargs)
    if is_in_place:
        return tensors[0].zero_()  # counts as a change
    return torch.empty(shape, dtype=tensors[0].dtype, device="meta")


def _plain_tensors(args: tuple[Any, ...]) -> list[Tensor]:
    """The tensors among the arguments, if they are such that shapes are all that there is to them."""
    given = args[0] if isinstance(args[0], list | tuple) else args
    tensors = [each for each in given if isinstance(each, Tensor)]
    is_plain = all(type(each) in (Tensor, nn.Parameter) and each.is_meta and each.is_contiguous() for each in tensors)
    dtypes = {each.dtype for each in tensors if each.is_floating_point()}
    return tensors if is_plain and tensors and dtypes == {tensors[0].dtype} else []


class ShapesOnly(TorchFunctionMode):
    """Networks built inside, under ``torch.device("meta")``, skip the drawing of first weights.

    >>> with torch.device("meta"), ShapesOnly():
    ...     network = nn.Conv2d(3, 64, 7)
    >>> network.weight.shape
    torch.Size([64, 3, 7, 7])
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init" or name in ("normal_", "uniform_"):
            return next(each for each in (*args, *kwargs.values()) if isinstance(each, Tensor))
        if name == "randint":  # (high, size) or (low, high, size)
            return torch.empty(args[-1])
        return run(func, name, args, kwargs)

"""Batch norm over a batch that several processes share: each has a part, and all use the statistics of the whole.

With it the ranks compute what one process computes for the same batch, up to rounding. ``nn.SyncBatchNorm`` does the
same on a GPU, and refuses a processor.

Source: Ioffe, Szegedy 2015, "Batch Normalization", section 3 (the gradient below is theirs, with the sums over all).
"""

import copy
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812, the field's name for it
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

_KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)  # themselves: a subclass may do more than they


def with_shared_norms(network: nn.Module) -> nn.Module:
    """A network of the same parameters and buffers whose training batch norms ask all ranks for their statistics."""
    tensors = [*network.parameters(), *network.buffers()]
    twin = copy.deepcopy(network, {id(tensor): tensor for tensor in tensors})
    for module in list(twin.modules()):
        for name, child in module.named_children():
            if type(child) in _KINDS and isinstance(child, _BatchNorm) and _learns(child):
                setattr(module, name, SharedNorm(child))
    return twin


def _learns(norm: _BatchNorm) -> bool:
    return norm.training and norm.track_running_stats and norm.momentum is not None


class SharedNorm(nn.Module):
    """A batch norm's training pass, with the parameters and running statistics of ``norm``."""

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """N,C,... -> the same shape, each channel with mean 0 and deviation 1 over all ranks, then scaled and moved."""
        norm = self.norm
        y, mean_C, var_C, count = _Normalise.apply(x, norm.weight, norm.bias, norm.eps)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            assert norm.momentum is not None, "the average is exponential"
            assert norm.num_batches_tracked is not None, "statistics are tracked"
            assert norm.running_mean is not None, "statistics are tracked"
            assert norm.running_var is not None, "statistics are tracked"
            norm.num_batches_tracked += 1
            norm.running_mean.lerp_(mean_C.to(norm.running_mean.dtype), norm.momentum)
            unbiased_C = var_C * (count / (count - 1))
            norm.running_var.lerp_(unbiased_C.to(norm.running_var.dtype), norm.momentum)
        return y  # type: ignore[no-any-return]


class _Normalise(torch.autograd.Function):
    """Sums go around in float64, so that the variance loses nothing when the mean is taken off."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight_C: Tensor | None, bias_C: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        wide = x if x.dtype == torch.float64 else x.float()
        mean_C, var_C = (each.double() for each in torch.batch_norm_update_stats(wide, None, None, 0.0))
        num = x.numel() // x.shape[1]
        sums = torch.cat([mean_C * num, (var_C + mean_C * mean_C) * num, mean_C.new_tensor([num])])
        dist.all_reduce(sums)
        count = sums[-1]
        mean_C, squares_C = (sums[:-1] / count).chunk(2)
        var_C = (squares_C - mean_C * mean_C).clamp_min_(0)
        mean_C, var_C = mean_C.to(wide.dtype), var_C.to(wide.dtype)
        ctx.save_for_backward(x, weight_C, mean_C, var_C, count)
        ctx.eps = eps
        y = F.batch_norm(x, mean_C, var_C, weight_C, bias_C, training=False, eps=eps)
        ctx.mark_non_differentiable(mean_C, var_C, count)
        return y, mean_C, var_C, count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        """As with fixed statistics, less what the statistics themselves owe to each number."""
        dy = gradients[0]
        x, weight_C, mean_C, var_C, count = ctx.saved_tensors
        dx, scaled_C, sum_C = torch.ops.aten.native_batch_norm_backward(
            dy, x, weight_C, mean_C, var_C, None, None, False, ctx.eps, [True, True, True]
        )
        sums = torch.cat([scaled_C, sum_C]).double()
        dist.all_reduce(sums)
        all_scaled_C, all_sum_C = (sums / count).chunk(2)
        inverse_C = torch.rsqrt(var_C.double() + ctx.eps)
        gain_C = inverse_C if weight_C is None else inverse_C * weight_C
        slope_C = gain_C * inverse_C * all_scaled_C
        offset_C = gain_C * all_sum_C - slope_C * mean_C
        shape = [1, -1] + [1] * (x.ndim - 2)
        owed = x * slope_C.to(mean_C.dtype).view(shape) + offset_C.to(mean_C.dtype).view(shape)
        dx = dx - owed.to(dx.dtype)
        return dx, scaled_C if weight_C is not None else None, sum_C if weight_C is not None else None, None

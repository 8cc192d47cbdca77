"""Muon: the update of a matrix is replaced by about the nearest orthogonal one (Jordan 2024, "Muon: an optimizer for
hidden layers").

torch has a Muon, which multiplies in bf16 everywhere; where a processor has no instructions for that, it takes four to
seven times as long as this one (docs/log.md). Here all is fp32, and all but two of the large products are saved: the
steps of the iteration are taken on the small matrix X X^T alone. (In bf16 that would not do: rounding makes some of its
eigenvalues negative, and such ones grow.)
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

_A, _B, _C = 3.4445, -4.7750, 2.0315  # Jordan's: the steepest start at 0 that ends within about 0.7 to 1.2
_LEAST_NORM = 1e-7


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov's momentum and AdamW's decay, on matrices.

    Args:
        groups: with ``params``, each a matrix, and their ``weight_decay``.
        momentum: share of the past in the running mean of gradients.
        num_steps: of Newton and Schulz; more come nearer to an orthogonal matrix.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], *, momentum: float, num_steps: int) -> None:
        super().__init__(groups, {"lr": 1e-3, "momentum": momentum, "weight_decay": 0.0})
        self._num_steps = num_steps

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of all matrices that have a gradient."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is not None:
                    update = self._update(matrix, matrix.grad, group["momentum"])
                    num_rows, num_columns = matrix.shape
                    matrix.mul_(1 - group["lr"] * group["weight_decay"])
                    matrix.add_(update, alpha=-group["lr"] * math.sqrt(max(1, num_rows / num_columns)))

    def _update(self, matrix: Tensor, gradient: Tensor, momentum: float) -> Tensor:
        state = self.state[matrix]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        mean = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        return orthogonalized(gradient.lerp(mean, momentum), self._num_steps)


def orthogonalized(matrix: Tensor, num_steps: int) -> Tensor:
    """About the nearest orthogonal matrix: its singular values go near to 1, their directions stay.

    The step of Newton and Schulz, X <- (a I + b X X^T + c (X X^T)^2) X, multiplies X by a polynomial of X X^T, which
    commutes with the next one. So the polynomials are multiplied with each other, and X once, at the end.

    Args:
        matrix: any shape (rows, columns); zeros stay zeros.
        num_steps: 5 bring all but the smallest singular values to 0.7 to 1.2.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonalized(matrix.T, num_steps).T
    wide: Tensor = matrix / matrix.norm().clamp_min(_LEAST_NORM)
    gram = wide @ wide.T
    product: Tensor | None = None
    for number in range(num_steps):
        polynomial = torch.addmm(gram, gram, gram, beta=_B, alpha=_C)
        polynomial.diagonal().add_(_A)
        product = polynomial if product is None else polynomial @ product
        if number + 1 < num_steps:
            gram = polynomial @ gram @ polynomial
    return wide if product is None else product @ wide

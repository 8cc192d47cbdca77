"""Muon against torch's own, and against the iteration as it is written."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitreous.training.muon import Muon, orthogonalized

SIDES = st.integers(1, 40)


def gaussian(rows, columns, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def as_written(matrix, num_steps):
    """Newton and Schulz's steps on the matrix itself, in float64."""
    x = matrix.double() / matrix.double().norm()
    x = x.T if len(x) > len(x.T) else x
    for _ in range(num_steps):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x if x.shape == matrix.shape else x.T


@given(SIDES, SIDES, st.integers(0, 5))
def test_it_is_the_iteration_as_it_is_written(rows, columns, num_steps):
    matrix = gaussian(rows, columns)
    expected = as_written(matrix, num_steps)
    off = (orthogonalized(matrix, num_steps) - expected).norm() / expected.norm()
    assert float(off) < (1e-4 if num_steps <= 3 else 0.02)  # each step enlarges what rounding did to X X^T


def test_a_matrix_of_few_directions_stays_bounded():
    """Rounding may make the least eigenvalues of X X^T negative, and such ones grow."""
    matrix = gaussian(512, 3) @ gaussian(3, 2000, seed=1)
    assert float(torch.linalg.matrix_norm(orthogonalized(matrix, 5), 2)) < 1.3


def test_singular_values_come_near_to_one_and_directions_stay():
    matrix = gaussian(20, 60)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    seen = u.T @ orthogonalized(matrix, 5) @ v.T
    assert 0.6 < torch.diagonal(seen).min() < torch.diagonal(seen).max() < 1.3
    assert float((seen - torch.diag(torch.diagonal(seen))).abs().max()) < 1e-4


def test_no_gradient_is_no_update():
    assert orthogonalized(torch.zeros(3, 5), 3).abs().max() == 0


@pytest.mark.parametrize("shape", [(8, 27), (27, 8), (5, 5)])
def test_steps_are_those_of_torch(shape):
    ours, theirs = (torch.nn.Parameter(gaussian(*shape)) for _ in range(2))
    settings = {"params": [ours], "weight_decay": 0.1}
    optimizer = Muon([settings], momentum=0.6, num_steps=3)
    optimizer.param_groups[0]["lr"] = 0.05
    oracle = torch.optim.Muon([theirs], lr=0.05, weight_decay=0.1, momentum=0.6, ns_steps=3)
    for step in range(5):
        for parameter in (ours, theirs):
            parameter.grad = gaussian(*shape, seed=step)
        optimizer.step()
        oracle.step()
    torch.testing.assert_close(ours, theirs, atol=5e-3, rtol=0)  # torch orthogonalizes in bf16


def test_what_has_no_gradient_stays():
    parameter = torch.nn.Parameter(gaussian(4, 4))
    before = parameter.detach().clone()
    Muon([{"params": [parameter], "weight_decay": 0.1}], momentum=0.6, num_steps=3).step()
    assert torch.equal(parameter, before)

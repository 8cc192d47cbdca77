import pytest
import torch
from torch import nn

from vitreous.config import TrainingConfig
from vitreous.training.optim import (
    MUON_REST,
    FilterMuon,
    make_optimizer,
    optimizer_tensors,
    restore_optimizer,
    set_rate,
)


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Flatten(),
        nn.Linear(32, 4),
    )


def settings(optimizer: str) -> TrainingConfig:
    return TrainingConfig(optimizer=optimizer, learning_rate=0.1, weight_decay=0.01, layer_decay=1.0)


def train(network: nn.Module, optimizer, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        x_NCHW = torch.randn(5, 3, 6, 6, generator=generator)
        set_rate(optimizer, 0.1 / (1 + step))
        optimizer.zero_grad(set_to_none=True)
        network(x_NCHW).square().mean().backward()
        optimizer.step()


def test_muon_moves_a_filter_bank_by_an_orthogonal_matrix():
    network = small_network()
    optimizer = make_optimizer(network, settings("muon"))
    set_rate(optimizer, 0.1)
    before = network[0].weight.detach().clone()
    network(torch.randn(5, 3, 6, 6)).square().mean().backward()
    gradient = network[0].weight.grad.flatten(1).clone()
    optimizer.step()
    update = (before * (1 - 0.1 * 0.01) - network[0].weight.detach()).flatten(1) / 0.1
    u, _, v = torch.linalg.svd(gradient, full_matrices=False)
    # a few steps leave singular values of about 0.5 to 1.5 on the gradient's own directions (Jordan 2024)
    spread = torch.linalg.svdvals(update)
    assert 0.3 < spread.min() < spread.max() < 1.6
    assert torch.diagonal(u.T @ update @ v.T).min() > 0.3


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_muon_does_not_care_for_the_layout(memory_format):
    plain, laid_out = small_network(), small_network().to(memory_format=memory_format)
    for network in (plain, laid_out):
        train(network, make_optimizer(network, settings("muon")), range(4))
    for ours, theirs in zip(plain.parameters(), laid_out.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_grouped_filters_biases_norms_and_matrices_stay_with_sgd():
    network = small_network()
    optimizer = make_optimizer(network, settings("muon"))
    assert isinstance(optimizer, FilterMuon)
    muon, sgd = optimizer.parts
    assert [tuple(each.shape) for group in muon.param_groups for each in group["params"]] == [(8, 27)]
    with_sgd = {id(each) for group in sgd.param_groups for each in group["params"]}
    assert with_sgd == {id(each) for each in network.parameters()} - {id(network[0].weight)}
    set_rate(optimizer, 0.2)
    assert {group["lr"] for group in muon.param_groups} == {0.2}
    assert {group["lr"] for group in sgd.param_groups} == {0.2 * MUON_REST}


def test_muon_trains_a_network_without_filters_and_one_that_is_frozen():
    dense = nn.Sequential(nn.Flatten(), nn.Linear(108, 4))
    assert len(make_optimizer(dense, settings("muon")).param_groups) == 2  # weights decay, biases do not
    frozen = small_network()
    for parameter in frozen[:5].parameters():
        parameter.requires_grad = False
    trained = [each for group in make_optimizer(frozen, settings("muon")).param_groups for each in group["params"]]
    assert [tuple(each.shape) for each in trained] == [(4, 32), (4,)]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_restored_state_goes_on_to_the_same_bits(optimizer, memory_format):
    whole, stopped = (small_network().to(memory_format=memory_format) for _ in range(2))
    train(whole, make_optimizer(whole, settings(optimizer)), range(6))
    first = make_optimizer(stopped, settings(optimizer))
    train(stopped, first, range(3))
    kept = {
        name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in optimizer_tensors(first).items()
    }
    again = make_optimizer(stopped, settings(optimizer))
    restore_optimizer(again, kept)
    train(stopped, again, range(3, 6))
    for ours, theirs in zip(whole.parameters(), stopped.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_restoring_nothing_forgets_everything(optimizer):
    network = small_network()
    made = make_optimizer(network, settings(optimizer))
    train(network, made, range(2))
    assert optimizer_tensors(made)
    restore_optimizer(made, {})
    assert not optimizer_tensors(made)

import pytest
import torch
from torch import nn

from vitreous.config import Config
from vitreous.errors import ConfigError
from vitreous.models import build_network
from vitreous.training.finetune import freeze, layer_shares, set_training_mode
from vitreous.training.optim import make_optimizer, set_rate


@pytest.fixture
def network() -> nn.Module:
    return build_network("resnet18", num_classes=3, in_channels=3, image_size=(64, 64))


def trained_names(network: nn.Module) -> set[str]:
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


def test_none_freezes_nothing(network):
    freeze(network, "none", "fc")
    assert trained_names(network) == {name for name, _ in network.named_parameters()}


def test_backbone_leaves_the_head(network):
    freeze(network, "backbone", "fc")
    assert trained_names(network) == {"fc.weight", "fc.bias"}


def test_a_layer_freezes_all_that_is_before_it(network):
    freeze(network, "layer3", "fc")
    assert {name.split(".")[0] for name in trained_names(network)} == {"layer4", "fc"}


@pytest.mark.parametrize(("what", "words"), [("layr3", "layer3"), ("fc", "nothing to train"), ("zz", "conv1")])
def test_what_cannot_be_frozen_is_refused(network, what, words):
    with pytest.raises(ConfigError, match=words):
        freeze(network, what, "fc")


def test_backbone_without_a_linear_head_is_refused():
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten())
    with pytest.raises(ConfigError, match="linear layer"):
        freeze(network, "backbone", None)


def test_frozen_layers_and_kept_norms_do_not_move_in_training(network):
    freeze(network, "layer2", "fc")
    set_training_mode(network, "keep")
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    network(torch.randn(4, 3, 64, 64))
    assert all(torch.equal(before[name], buffer) for name, buffer in network.named_buffers())
    assert network.training
    assert network.fc.training


def test_norms_behind_the_frozen_layers_move_when_they_may(network):
    freeze(network, "layer2", "fc")
    set_training_mode(network, "update")
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    network(torch.randn(4, 3, 64, 64))
    moved = {name.split(".")[0] for name, buffer in network.named_buffers() if not torch.equal(before[name], buffer)}
    assert moved == {"layer3", "layer4"}


def test_the_rate_falls_geometrically_from_the_last_layer_to_the_first():
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.Linear(2, 2))
    shares = {name: layer_shares(network, 0.01)[parameter] for name, parameter in network.named_parameters()}
    assert shares["3.weight"] == shares["3.bias"] == 1
    assert shares["2.weight"] == pytest.approx(0.1)
    assert shares["0.bias"] == pytest.approx(0.01)


def test_the_optimizer_moves_each_layer_at_its_share_and_no_frozen_one():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    network[0].requires_grad_(False)
    config = Config().updated(
        {
            "training": {
                "optimizer": "sgd",
                "learning_rate": 1.0,
                "weight_decay": 0.0,
                "layer_decay": 0.01,
                "momentum": 0.0,
            }
        }
    )
    before = [parameter.detach().clone() for parameter in network.parameters()]
    optimizer = make_optimizer(network, config.training)
    set_rate(optimizer, 0.5)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    moved = [float((old - new.detach()).abs().max()) for old, new in zip(before, network.parameters(), strict=True)]
    assert moved == pytest.approx([0, 0, 0.05, 0.05, 0.5, 0.5])

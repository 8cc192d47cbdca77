"""Layers that stay in fp32: how they are found, and that they leave autocast as they found it."""

import copy

import pytest
import torch
from torch import nn

from vitreous.config import Config, EngineConfig
from vitreous.errors import ConfigError
from vitreous.training import layer_precision
from vitreous.training.engine import choose_engine, lay_out
from vitreous.training.layer_precision import keep_in_fp32, layers_better_in_fp32

IMAGES = torch.randn(16, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def network() -> nn.Sequential:
    """Two depthwise convolutions of one shape, among others."""
    torch.manual_seed(0)
    depthwise = [nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False) for _ in range(2)]
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), depthwise[0], nn.Conv2d(8, 8, 1), depthwise[1], nn.Flatten(), nn.Linear(800, 2)
    )


def dtypes_seen(layers: nn.Sequential, *, autocast: bool = True) -> list[torch.dtype]:
    """Of what each layer answers."""
    seen: list[torch.dtype] = []
    for layer in layers:
        layer.register_forward_hook(lambda layer, inputs, answer: seen.append(answer.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        layers(IMAGES)
    return seen


def slow_in_bf16(monkeypatch, is_slow, error=0.0):
    """As if bf16 took four times as long where ``is_slow(layer)``, and half as long elsewhere."""

    def timed(group, precision):
        gradient = torch.ones(4) * (1 + error * (precision == "bf16"))
        return (1.0 if precision == "fp32" else 4.0 if is_slow(group.layer) else 0.5), (gradient,)

    monkeypatch.setattr(layer_precision._Group, "_timed", timed)


def test_only_the_named_layers_leave_autocast():
    kept = network()
    keep_in_fp32(kept, ["2"])
    assert dtypes_seen(copy.deepcopy(kept))[:5] == [
        torch.bfloat16,
        torch.bfloat16,
        torch.float32,
        torch.bfloat16,
        torch.bfloat16,
    ]
    assert set(dtypes_seen(kept, autocast=False)) == {torch.float32}


def test_autocast_comes_back_after_an_error():
    kept = network()
    keep_in_fp32(kept, ["2"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with pytest.raises(RuntimeError):
            kept[2](torch.ones(1, 3, 4, 4))  # three channels for eight
        assert torch.is_autocast_enabled("cpu")
        with torch.autocast("cpu", enabled=False):
            kept[2](torch.ones(1, 8, 4, 4))
            assert not torch.is_autocast_enabled("cpu")


def test_a_network_without_numbers_passes():
    kept = network().to("meta")
    keep_in_fp32(kept, ["2"])
    assert kept(IMAGES.to("meta")).shape == (16, 2)


def test_all_layers_of_a_slow_shape_are_found(monkeypatch):
    slow_in_bf16(monkeypatch, lambda layer: layer.groups > 1)
    assert layers_better_in_fp32(network(), IMAGES) == ("2", "4")
    slow_in_bf16(monkeypatch, lambda layer: False)
    assert layers_better_in_fp32(network(), IMAGES) == ()


def test_a_shape_that_bf16_computes_wrongly_is_found(monkeypatch):
    slow_in_bf16(monkeypatch, lambda layer: False, error=0.2)
    assert layers_better_in_fp32(network(), IMAGES) == ("0", "2", "3", "4")
    slow_in_bf16(monkeypatch, lambda layer: False, error=float("nan"))
    assert layers_better_in_fp32(network(), IMAGES) == ("0", "2", "3", "4")


def test_real_rounding_is_not_taken_for_an_error():
    groups = layer_precision._groups(network(), IMAGES)
    for group in groups:
        group.measure()
    assert [group.paths for group in groups] == [["0"], ["2", "4"], ["3"]]
    assert all(0 < group.error < 0.03 for group in groups)
    assert [group.needs_input_gradient for group in groups] == [False, True, True]


def test_frozen_layers_are_not_asked(monkeypatch):
    slow_in_bf16(monkeypatch, lambda layer: True)
    frozen = network()
    frozen[2].requires_grad_(False)
    assert layers_better_in_fp32(frozen, IMAGES) == ("0", "3", "4")


def test_the_engine_records_them(monkeypatch):
    slow_in_bf16(monkeypatch, lambda layer: layer.groups > 1)
    asked = EngineConfig(device="cpu", precision="bf16", threads=1)
    chosen, said = choose_engine(asked, network(), IMAGES, torch.arange(16) % 2)
    assert chosen.fp32_layers == ("2", "4")
    assert "2 layers in fp32" in said
    assert dtypes_seen(lay_out(network(), chosen))[2] == torch.float32
    config = Config(engine=chosen)
    assert Config.from_toml(config.to_toml()) == config


def test_what_was_asked_is_not_measured(monkeypatch):
    slow_in_bf16(monkeypatch, lambda layer: True)
    labels = torch.arange(16) % 2
    asked = EngineConfig(device="cpu", precision="bf16", threads=1, fp32_layers=())
    assert choose_engine(asked, network(), IMAGES, labels)[0].fp32_layers == ()
    asked = EngineConfig(device="cpu", precision="fp32", threads=1)
    assert choose_engine(asked, network(), IMAGES, labels)[0].fp32_layers == ()


@pytest.mark.parametrize("text", ["engine.fp32_layers=7", "engine.fp32_layers=['a', 7]"])
def test_a_wrong_setting_is_refused(text):
    with pytest.raises(ConfigError, match="one text or a list of texts"):
        Config().override([text])


def test_a_layer_that_is_not_there_is_refused():
    config = Config().override(["engine.fp32_layers=features.9"])
    with pytest.raises(ConfigError, match=r"no layer 'features.9'"):
        lay_out(network(), config.engine)

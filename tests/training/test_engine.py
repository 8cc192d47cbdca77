"""What the engine chooses, and that it leaves the network as it was."""

import copy
import dataclasses

import pytest
import torch
from torch import nn

from vitreous.config import EngineConfig
from vitreous.training import engine
from vitreous.training.allocator import kept_blocks
from vitreous.training.engine import choose_engine, peak_macs_per_second, recorded_threads


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))


IMAGES, LABELS = torch.randn(32, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(32) % 3


def choose(monkeypatch, seconds, asked=None, gradients=None):
    """The choice where a step takes what ``seconds(precision, threads)`` says."""

    def timed(_network, _images, _labels, precision):
        gradient = torch.ones(4) if gradients is None else gradients[precision]
        return seconds(precision, torch.get_num_threads()), gradient

    monkeypatch.setattr(engine, "_timed", timed)
    monkeypatch.setattr(torch, "get_num_threads", iter_threads := Threads())
    monkeypatch.setattr(torch, "set_num_threads", iter_threads.set)
    return choose_engine(asked or EngineConfig(device="cpu"), network(), IMAGES, LABELS)


class Threads:
    """Eight threads, without eight processors."""

    def __init__(self) -> None:
        self.number = 8

    def __call__(self) -> int:
        return self.number

    def set(self, number: int) -> None:
        self.number = number


def test_the_faster_precision_is_taken_if_its_gradients_are_right(monkeypatch):
    def twice_as_fast(precision, threads):
        return 1.0 if precision == "bf16" else 2.0

    chosen, said = choose(monkeypatch, twice_as_fast)
    assert (chosen.precision, chosen.threads) == ("bf16", 8)
    assert "2.0x the speed of fp32" in said
    wrong = {"fp32": torch.ones(4), "bf16": torch.tensor([1.0, 1.0, 1.0, 2.4])}
    chosen, said = choose(monkeypatch, twice_as_fast, gradients=wrong)
    assert chosen.precision == "fp32"
    assert "70% off" in said


def test_a_little_speed_is_not_worth_the_rounding(monkeypatch):
    chosen, said = choose(monkeypatch, lambda precision, threads: 1.0 if precision == "bf16" else 1.1)
    assert chosen.precision == "fp32"
    assert "1.1x" in said


def test_fewer_threads_where_a_neighbour_holds_the_others(monkeypatch):
    chosen, said = choose(monkeypatch, lambda precision, threads: 1.0 if threads == 4 else 3.0)
    assert chosen.threads == 4
    assert "3.0x the speed of 8 threads" in said


def test_what_was_asked_is_not_measured(monkeypatch):
    def never(precision, threads):
        raise AssertionError("measured")

    asked = EngineConfig(device="cpu", precision="fp32", threads=3, channels_last=False)
    chosen, said = choose(monkeypatch, never, asked)
    assert chosen == dataclasses.replace(asked)
    assert said == "cpu, 3 threads, fp32"


def test_the_network_and_the_random_numbers_are_left_alone():
    probed = network()
    before, random = copy.deepcopy(probed.state_dict()), torch.get_rng_state()
    threads = torch.get_num_threads()
    chosen, _ = choose_engine(EngineConfig(device="cpu"), probed, IMAGES, LABELS)
    assert chosen.precision in ("fp32", "bf16")
    assert all(torch.equal(before[name], tensor) for name, tensor in probed.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert torch.get_num_threads() == threads
    assert all(parameter.grad is None for parameter in probed.parameters())


def test_the_peak_is_at_least_what_a_layer_reaches():
    peak = peak_macs_per_second(EngineConfig(device="cpu", precision="fp32", threads=1))
    assert peak > 1e8
    assert peak_macs_per_second(EngineConfig(device="cuda", precision="bf16", threads=1)) is None


@pytest.mark.parametrize("fails", [False, True])
def test_threads_are_put_back(fails):
    before = torch.get_num_threads()
    try:
        with recorded_threads(EngineConfig(threads=1)):
            assert torch.get_num_threads() == 1
            if fails:
                raise ValueError
    except ValueError:
        pass
    assert torch.get_num_threads() == before


def test_bits_do_not_depend_on_where_blocks_lie():
    def gradients():
        probed = network()
        probed(IMAGES).square().sum().backward()
        return torch.cat([each.grad.flatten() for each in probed.parameters()])

    plain = gradients()
    with kept_blocks():
        kept = gradients()
    assert torch.equal(plain, kept)

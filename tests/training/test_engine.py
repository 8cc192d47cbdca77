"""What the engine chooses, and that it leaves the network as it was."""

import copy
import dataclasses

import pytest
import torch
from torch import nn

from vitreous.allocator import kept_blocks
from vitreous.config import EngineConfig
from vitreous.training import engine
from vitreous.training.engine import choose_engine, in_layout, lay_out, peak_macs_per_second, recorded_threads


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))


IMAGES, LABELS = torch.randn(32, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(32) % 3


def choose(monkeypatch, seconds, asked=None, probed=None, product_gain=2.0):
    """The choice where a step takes what ``seconds(precision, threads)`` says."""
    really = engine._timed

    def timed(network, images, labels, precision):
        _, gradients = really(network, images, labels, precision)
        return seconds(precision, torch.get_num_threads()), gradients

    monkeypatch.setattr(engine, "_timed", timed)
    monkeypatch.setattr(engine, "_product_gain", lambda _: product_gain)
    monkeypatch.setattr(torch, "get_num_threads", iter_threads := Threads())
    monkeypatch.setattr(torch, "set_num_threads", iter_threads.set)
    return choose_engine(asked or EngineConfig(device="cpu"), probed or network(), IMAGES, LABELS)


class Threads:
    """Eight threads, without eight processors."""

    def __init__(self) -> None:
        self.number = 8

    def __call__(self) -> int:
        return self.number

    def set(self, number: int) -> None:
        self.number = number


class WrongInBf16(nn.Module):
    """A kernel that is off by ``share`` where autocast is on."""

    def __init__(self, share):
        super().__init__()
        self.share = share

    def forward(self, maps):
        wrong = torch.is_autocast_enabled("cpu")
        return maps + self.share * maps.roll(1, -1) if wrong else maps


def twice_as_fast(precision, threads):
    return 1.0 if precision == "bf16" else 2.0


def test_the_faster_precision_is_taken_if_its_gradients_are_right(monkeypatch):
    chosen, said = choose(monkeypatch, twice_as_fast)
    assert (chosen.precision, chosen.threads) == ("bf16", 8)
    assert "2.0x the speed of fp32" in said


@pytest.mark.parametrize("share", [0.3, float("nan")])
def test_a_precision_that_is_wrong_by_more_than_rounding_is_refused(monkeypatch, share):
    chosen, said = choose(monkeypatch, twice_as_fast, probed=network().insert(2, WrongInBf16(share)))
    assert chosen.precision == "fp32"
    assert "where rounding explains" in said


def test_a_deep_network_that_answers_every_rounding_loudly_is_no_reason_for_fp32(monkeypatch):
    torch.manual_seed(0)
    deep = []
    for in_channels in [1] + 24 * [8]:
        deep += [nn.Conv2d(in_channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()]
    deep = nn.Sequential(*deep, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    chosen, said = choose(monkeypatch, twice_as_fast, probed=deep)
    assert chosen.precision == "bf16"
    assert float(said.partition("gradients ")[2].partition("%")[0]) > 50


def test_bf16_is_not_tried_where_even_a_product_of_matrices_loses_by_it(monkeypatch):
    def in_fp32(precision, threads):
        assert precision == "fp32"
        return 1.0

    chosen, said = choose(monkeypatch, in_fp32, product_gain=0.2)
    assert (chosen.precision, chosen.fp32_layers) == ("fp32", ())
    assert "bf16 multiplies matrices at 0.2x its speed" in said


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
    assert chosen == dataclasses.replace(asked, fp32_layers=())
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


@pytest.mark.parametrize("channels_last", [True, False])
def test_images_and_filters_have_one_layout(channels_last):
    chosen = EngineConfig(channels_last=channels_last)
    answer = lay_out(nn.Conv2d(4, 4, 3), chosen)(in_layout(torch.randn(2, 4, 8, 8), chosen))
    assert answer.is_contiguous() != channels_last


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

"""Networks in wrappers, and what a forward leaves behind."""

import pytest
import torch
from torch import nn

from vitreous.errors import ShapeError
from vitreous.trace.borrowing import borrowed
from vitreous.trace.recording import record
from vitreous.trace.values import record_values


def two_convolutions():
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.Conv2d(4, 2, 3)))


class Compiled(nn.Module):
    """As torch.compile wraps a module; the real one takes seconds to import."""

    def __init__(self, module):
        super().__init__()
        self._orig_mod = module

    def forward(self, x):
        raise AssertionError("the compiled code runs")


@pytest.mark.parametrize("wrap", [nn.DataParallel, Compiled, lambda network: Compiled(nn.DataParallel(network))])
def test_wrappers_are_left_aside_wherever_they_stand(wrap):
    bare = two_convolutions()
    wrapped = wrap(two_convolutions())
    inner = nn.Sequential(nn.Conv2d(3, 4, 1), wrap(nn.Sequential(nn.Conv2d(4, 2, 3))))
    for network in (bare, wrapped, inner):
        recording = record(network, (3, 8, 8))
        assert recording.names == ("input", "0", "1.0")
        assert recording.constants == ("0.weight", "0.bias", "1.0.weight", "1.0.bias")
        assert record_values(network, torch.zeros(1, 3, 8, 8)).recording.names == recording.names
    assert type(inner[1]) is type(wrap(nn.ReLU()))


def test_a_module_that_compiled_itself_runs_its_plain_forward():
    network = two_convolutions()
    network[0]._compiled_call_impl = lambda *_: pytest.fail("the compiled code runs")
    record(network, (3, 8, 8))
    assert network[0]._compiled_call_impl is not None


def scripted():
    return torch.jit.script(two_convolutions())


def traced():
    return nn.Sequential(nn.ReLU(), torch.jit.trace(two_convolutions(), torch.zeros(1, 3, 8, 8)))


@pytest.mark.filterwarnings("ignore")  # torch.jit goes out of use
@pytest.mark.parametrize(
    ("build", "said"),
    [
        (scripted, "the network is scripted .*; give the module that it was made from"),
        (traced, "1 is scripted"),
        (lambda: nn.Sequential(nn.ReLU(), nn.LazyConv2d(4, 3)), "1 is a LazyConv2d .*; run the network once"),
    ],
)
def test_what_cannot_be_looked_into_is_refused_with_the_way_out(build, said):
    with pytest.raises(ShapeError, match=said):
        record(build(), (3, 8, 8))


def test_what_a_forward_writes_is_put_back():
    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.seen = {}

        def forward(self, x):
            self.seen[len(self.seen)] = x
            self.late = nn.Conv2d(x.shape[1], 2, 1)
            self.count = 1
            return self.late(x)

    network = Late()
    before = dict(network.__dict__)
    for _ in range(2):
        assert record(network, (3, 8, 8)).operations[-1].outputs == ((1, 2, 8, 8),)
    assert (network.__dict__, network.seen, dict(network.named_parameters())) == (before, {}, {})


def test_flags_are_put_back_one_by_one():
    network = two_convolutions().train()
    network[0].eval()
    with borrowed(network) as bare:
        assert bare is network
        assert not any(module.training for module in network.modules())
    assert [module.training for module in network.modules()] == [True, False, True, True]

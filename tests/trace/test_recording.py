"""What is written down of a forward, and that nothing stays behind."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vitreous.errors import ShapeError
from vitreous.trace import trace
from vitreous.trace.recording import record


class Twice(nn.Module):
    """One convolution used twice, an addition, an in-place ReLU, a function of no module."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.relu(self.norm(self.conv(x)))
        return functional.avg_pool2d(self.conv(y) + x, 2)


def test_operations_have_names_modules_calls_shapes_and_costs():
    operations = record(Twice(), (3, 8, 8)).operations
    assert [(step.name, step.path, step.call) for step in operations] == [
        ("input", "", 0),
        ("conv2d", "conv", 0),
        ("batch_norm", "norm", 0),
        ("relu", "relu", 0),
        ("conv2d", "conv", 1),
        ("add", "", 0),
        ("avg_pool2d", "", 0),
    ]
    assert [step.parameters for step in operations] == [0, 84, 6, 0, 0, 0, 0]  # each counted once
    assert [step.macs for step in operations] == [0, 81 * 64, 0, 0, 81 * 64, 0, 0]
    assert [[ref.operation for ref in step.inputs] for step in operations[1:]] == [[0], [1], [2], [3], [4, 0], [5]]
    assert operations[-1].outputs == ((1, 3, 4, 4),)


def test_the_network_is_left_as_it_was():
    network = nn.Sequential(Twice(), nn.Dropout(), nn.BatchNorm2d(3))
    network[0].norm.eval()
    network[2].weight.requires_grad_(False)
    network[0].register_forward_hook(lambda *_: None)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    before = [(dict(module.__dict__), module.training) for module in network.modules()]
    generator = torch.random.get_rng_state()
    record(network, (3, 8, 8))
    with pytest.raises(ShapeError):
        record(network, (4, 8, 8))
    assert [(dict(module.__dict__), module.training) for module in network.modules()] == before
    assert all(tensor.equal(state[name]) for name, tensor in network.state_dict().items())
    assert all(tensor.device.type == "cpu" for tensor in network.state_dict().values())
    assert not network[2].weight.requires_grad
    assert network[0].conv.weight.requires_grad
    assert len(network[0]._forward_hooks) == 1
    assert not network[0].conv._forward_hooks
    assert torch.random.get_rng_state().equal(generator)


def test_a_failing_forward_is_told_with_its_place_and_shapes():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(10, 2))
    with pytest.raises(ShapeError, match=r"cannot take an image of 3x8x8: 2 wants 10 features but is given 144"):
        record(network, (3, 8, 8))


class Attention(nn.Module):
    """Products inside functions that have no formula here."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2, groups=2)

    def forward(self, x):
        x = self.stem(x)
        tokens = x.flatten(2).transpose(1, 2)
        tokens = self.attention(tokens, tokens, tokens)[0] + functional.scaled_dot_product_attention(*[tokens] * 3)
        mixed = torch.einsum("nlc,nmc->nlm", tokens, tokens) @ tokens
        return self.up(mixed.transpose(1, 2).reshape(x.shape))


def test_macs_inside_attention_einsum_and_transposed_convolutions_are_torchs():
    network = Attention().eval()
    found = trace(network, (3, 16, 16))
    # torch's counter misses fused attention: of the processor's kernels, and of modules where no gradient is wanted
    with FlopCounterMode(display=False) as flops, sdpa_kernel(SDPBackend.MATH):
        network(torch.zeros(1, 3, 16, 16))
    assert 2 * found.macs == flops.get_total_flops()
    assert {field.status for field in found.fields[-1]} == {"unknown"}  # nothing is guessed


def test_what_is_written_through_a_view_is_not_followed_and_not_missed():
    class Writes(nn.Module):
        def forward(self, x):
            x = x * 1.0
            x[:, :1].relu_()
            return x + 1

    found = trace(Writes(), (3, 8, 8))
    assert "written through a view" in [step.name for step in found.operations]
    assert {field.status for field in found.fields[-1]} == {"unknown"}


def test_parameters_that_a_forward_does_not_use_count_for_the_network_only():
    network = nn.Sequential(nn.Conv2d(3, 4, 1))
    network[0].spare = nn.Linear(3, 3)
    recording = record(network, (3, 8, 8))
    assert recording.parameters == 16 + 12
    assert sum(step.parameters for step in recording.operations) == 16


def test_named_arguments_count_like_others():
    class Blur(nn.Module):
        def forward(self, x):
            x = functional.conv2d(x, torch.ones(3, 1, 2, 2, device=x.device), groups=3)
            return functional.linear(x, weight=torch.ones(5, 7, device=x.device))

    assert [step.macs for step in record(Blur(), (3, 8, 8)).operations if step.macs] == [3 * 49 * 4, 3 * 7 * 5 * 7]


def test_every_operation_has_a_name_that_finds_it():
    recording = record(Twice(), (3, 8, 8))
    assert recording.names == ("input", "conv", "norm", "relu", "conv", "add", "avg_pool2d")
    addresses = [(name, step.call) for name, step in zip(recording.names, recording.operations, strict=True)]
    assert [recording.find(*address) for address in addresses] == list(range(7))
    assert recording.find("avg_pool2d") == recording.find("") == 6
    assert recording.find("conv", 2) is recording.find("dense") is None
    assert recording.constants[:2] == ("conv.weight", "conv.bias")


class Named(nn.Module):
    """A module with the name of a function, and a function called twice in one forward."""

    def __init__(self):
        super().__init__()
        self.relu = nn.Sequential(nn.ReLU(), nn.Conv2d(1, 1, 1))

    def forward(self, x):
        return functional.relu(functional.relu(self.relu(x)))


def test_a_name_is_never_that_of_two_operations():
    recording = record(Named(), (1, 4, 4))
    assert recording.names == ("input", "relu.0", "relu.1", ":relu", "relu#2")
    assert recording.find("relu") == 2  # the module's result


class Asking(nn.Module):
    """Runs on numbers only, counts its calls and keeps what it saw."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.register_buffer("calls", torch.zeros(()))
        self.seen = []

    def forward(self, x):
        self.calls += 1
        self.last = x
        self.seen.append(x)
        return self.conv(x) if x.sum() > 0 or self.calls > 0 else x


def test_a_forward_that_asks_for_numbers_runs_on_zeros_and_is_marked():
    network = Asking()
    recording = record(network, (3, 8, 8))
    assert recording.is_one_path
    assert recording.left_torch_at is None
    assert "conv" in recording.names
    assert (network.calls.item(), hasattr(network, "last"), network.seen) == (0, False, [])
    assert not record(network.conv, (3, 8, 8)).is_one_path


@pytest.mark.parametrize(
    ("function", "is_one_path", "left_torch_at"),
    [
        (lambda x: x * x.mean().item(), True, 2),
        (lambda x: torch.from_numpy(x.numpy() * 2), True, 1),
        (lambda x: x[x > 0], True, None),
        (lambda x: x.flatten()[x.flatten().nonzero()], True, None),
        (lambda x: x * CONSTANT, False, None),  # registered nowhere: meta tensors cannot meet it
    ],
)
def test_what_meta_tensors_cannot_serve(function, is_one_path, left_torch_at):
    class Wrapped(nn.Module):
        def forward(self, x):
            return function(x)

    recording = record(Wrapped(), (3, 8, 8))
    assert (recording.is_one_path, recording.left_torch_at) == (is_one_path, left_torch_at)


CONSTANT = torch.ones(3, 1, 1)


def test_a_network_without_numbers_of_its_own_runs_on_zeros_too():
    with torch.device("meta"):
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    network.append(Asking())
    network[2].conv = nn.Conv2d(4, 4, 1)
    assert record(network, (3, 8, 8)).is_one_path


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_networks_of_other_kinds_of_numbers(kind):
    network = Twice().to(kind)
    assert record(network, (3, 8, 8)).operations == record(Twice(), (3, 8, 8)).operations
    assert trace(nn.Sequential(Asking().to(kind)), (3, 8, 8)).recording.is_one_path

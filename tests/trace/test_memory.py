"""Bytes of maps, beside what torch holds while it runs."""

import weakref

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from vitreous.models import build_network
from vitreous.trace.memory import memory_of
from vitreous.trace.recording import record

NETWORKS = [
    ("lenet5", (1, 32, 32)),
    ("lenet5-1998", (1, 32, 32)),
    ("alexnet", (3, 96, 96)),
    ("vgg11_bn", (3, 64, 64)),
    ("resnet18", (3, 64, 64)),
    ("resnet50", (3, 64, 64)),
    ("mobilenet_v2", (3, 64, 64)),
    ("conv8bn avgpool res[conv16bn conv16bn] conv8 gelu dropout0.5 gmp fc", (3, 16, 16)),
]


def built(name, shape):
    return build_network(name, num_classes=10, in_channels=shape[0], image_size=shape[1:])


@pytest.mark.parametrize(("name", "shape"), NETWORKS)
def test_what_is_kept_for_the_backward_pass_is_what_autograd_keeps(name, shape):
    network = built(name, shape).train()
    own = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    saved = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if tensor.shape[0] == 2 and storage.data_ptr() not in own:  # of two images; other things are kept once
            saved[storage.data_ptr()] = (storage.nbytes(), storage)  # held, so that no other takes its place
        return tensor

    images = torch.rand(2, *shape)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(images)
    two_images = sum(size for size, _ in saved.values())
    counted = memory_of(record(network, shape)).for_training
    assert counted == two_images / 2


class Alive(TorchDispatchMode):
    """Inside, ``peak`` is the most bytes of storages that were alive at once after an operator."""

    def __init__(self, image, network):
        super().__init__()
        self.now = self.peak = image.untyped_storage().nbytes()
        given = (image, *network.parameters(), *network.buffers())
        self.known = {tensor.untyped_storage()._cdata for tensor in given}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in self.known:
                self.add(tensor)
        self.peak = max(self.peak, self.now)
        return result

    def add(self, tensor):
        storage, size = tensor.untyped_storage()._cdata, tensor.untyped_storage().nbytes()
        self.known.add(storage)
        self.now += size

        def gone():
            self.now -= size
            self.known.discard(storage)

        weakref.finalize(tensor, gone)


def peak_of_torch(network, image):
    with torch.no_grad(), Alive(image, network) as alive:
        network(image)
    return alive.peak


@pytest.mark.parametrize(("name", "shape"), [("alexnet", (3, 96, 96)), ("lenet5", (1, 32, 32))])
def test_the_peak_of_scoring_is_what_lives_at_once(name, shape):
    network = built(name, shape).eval()
    counted = memory_of(record(network, shape)).peak
    assert counted == pytest.approx(peak_of_torch(network, torch.rand(1, *shape)), rel=0.01)


def test_a_forward_whose_variables_hold_on_to_tensors_needs_more():
    network = built("resnet50", (3, 64, 64)).eval()
    counted = memory_of(record(network, (3, 64, 64))).peak
    assert counted < peak_of_torch(network, torch.rand(1, 3, 64, 64)) < 1.5 * counted


def test_an_in_place_layer_takes_no_memory_and_a_view_none():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(32, 1))
    memory = memory_of(record(network, (1, 6, 6)))
    assert memory.new == (4 * 36, 4 * 32, 0, 0, 4)
    assert memory.alive == (144, 144 + 128, 144 + 128, 144 + 128, 144 + 128 + 4)
    assert memory.kept == (0, 4 * 36, 4 * 32, 0, 0)  # the image by the convolution; then one storage for all

"""Beside torchvision and timm, the reference implementations: `make test-reference` has them, `make test` does not."""

import importlib.util
from importlib.metadata import version

import pytest
import torch
from torch import nn


def define_operators_of_torchvision():
    """PyPI's torchvision is built for CUDA's torch: beside the processor's, its operators do not exist.

    Two of them are wanted at import and never called here, so their names are enough.
    """
    is_for_another_torch = torch.version.cuda is None and "+" not in version("torchvision")
    if is_for_another_torch and not hasattr(torch.ops.torchvision, "nms"):
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


if importlib.util.find_spec("torchvision"):
    define_operators_of_torchvision()


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def with_statistics():
    """Gives any network running statistics that are not those of a fresh one, so that a mix-up would show."""

    def change(network):
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, std=0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
        return network.eval()

    return change

import pytest
import torch
from torch import nn

from vitreous.training.step import batch_loss


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_class_weights_multiply_what_each_image_adds_to_the_mean(label_smoothing):
    torch.manual_seed(0)
    logits = torch.randn(6, 3)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    equal, weighted = (
        batch_loss(
            nn.Identity(), logits, labels, precision="fp32", label_smoothing=label_smoothing, class_weights_K=weights
        )
        for weights in (None, torch.ones(3))
    )
    torch.testing.assert_close(equal, weighted)


def test_an_image_of_a_class_with_weight_two_counts_as_two_images():
    torch.manual_seed(0)
    logits = torch.randn(3, 2)
    weights = torch.tensor([1.0, 2.0])
    labels = torch.tensor([0, 1, 0])
    arguments = {"precision": "fp32", "label_smoothing": 0.0}
    once = batch_loss(nn.Identity(), logits, labels, class_weights_K=weights, **arguments) * 3
    doubled = torch.cat([logits, logits[1:2]])
    twice = batch_loss(nn.Identity(), doubled, torch.tensor([0, 1, 0, 1]), class_weights_K=None, **arguments) * 4
    torch.testing.assert_close(once, twice)

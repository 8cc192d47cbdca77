import pytest
import torch
from torch import nn

from vitreous.training.clock import Clock
from vitreous.training.step import MixedLabels, batch_loss, train_step


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


def test_a_mixed_label_counts_with_its_share():
    torch.manual_seed(0)
    logits, labels, partners = torch.randn(4, 3), torch.tensor([0, 1, 2, 1]), torch.tensor([2, 1, 0, 0])
    share = torch.tensor([1.0, 0.5, 0.0, 0.3])
    targets = share[:, None] * nn.functional.one_hot(labels, 3) + (1 - share[:, None]) * nn.functional.one_hot(
        partners, 3
    )
    expected = nn.functional.cross_entropy(logits, targets, label_smoothing=0.1)  # torch takes probabilities as targets
    mixed = MixedLabels(partners, share)
    arguments = {"precision": "fp32", "label_smoothing": 0.1, "class_weights_K": None}
    torch.testing.assert_close(batch_loss(nn.Identity(), logits, labels, mixed=mixed, **arguments), expected)


@pytest.mark.parametrize("num_parts", [2, 3, 7, 50])
@pytest.mark.parametrize("is_mixed", [False, True])
@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 0.5])])
def test_a_step_in_parts_is_the_step(num_parts, is_mixed, weights):
    def step(parts):
        torch.manual_seed(0)
        network = nn.Linear(5, 3).double()
        images, labels = torch.randn(7, 5).double(), torch.randint(3, (7,))
        mixed = MixedLabels(torch.randint(3, (7,)), torch.rand(7).double()) if is_mixed else None
        loss = train_step(
            network,
            images,
            labels,
            torch.optim.SGD(network.parameters(), lr=0.1),
            precision="fp32",
            label_smoothing=0.1,
            class_weights_K=weights,
            clip_norm=0.05,
            clock=Clock(is_exact=True),
            mixed=mixed,
            num_parts=parts,
        )
        return loss, network.weight

    for whole, in_parts in zip(step(1), step(num_parts), strict=True):
        torch.testing.assert_close(whole, in_parts, rtol=1e-5, atol=1e-6)

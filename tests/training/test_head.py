import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from vitreous.data.cache import usage
from vitreous.data.preprocess import Preprocess
from vitreous.errors import Interrupted
from vitreous.predictor import Predictor
from vitreous.predictor.torch_backend import TorchBackend
from vitreous.training.head import backbone_features, can_fit, fit_head


def clouds(
    num_classes: int, num_images: int, num_features: int, seed: int = 0, noise: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of unequal scale and offset around one centre a class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num_images) % num_classes
    centres = torch.randn(num_classes, num_features, generator=torch.Generator().manual_seed(99))
    features = centres[labels] + noise * torch.randn(num_images, num_features, generator=generator)
    return features * torch.logspace(-3, 3, num_features) + 7, labels


@pytest.mark.parametrize("strength", [1.0, 0.01, 1e-4])
def test_the_fit_is_the_one_that_scikit_learn_finds(strength):
    features, labels = clouds(4, 200, 6)
    fitted = fit_head(features, labels, features, labels, torch.ones(4), strengths=[strength])
    scaled = (features - features.mean(0)) / features.std(0, correction=0)
    oracle = LogisticRegression(C=1 / (strength * len(labels)), tol=1e-8, max_iter=10_000)
    oracle.fit(scaled.double().numpy(), labels.numpy())
    logits = (features @ fitted.weight_KD.T + fitted.bias_K).double().softmax(1).numpy()
    np.testing.assert_allclose(logits, oracle.predict_proba(scaled.double().numpy()), atol=2e-3)


def test_class_weights_are_those_of_scikit_learn():
    features, labels = clouds(3, 300, 5)
    keep = (labels != 2) | (torch.arange(300) % 10 == 2)  # the last class is ten times rarer
    features, labels = features[keep], labels[keep]
    weights = len(labels) / (3 * torch.bincount(labels).float())
    fitted = fit_head(features, labels, features, labels, weights, strengths=[0.01])
    scaled = ((features - features.mean(0)) / features.std(0, correction=0)).double().numpy()
    oracle = LogisticRegression(C=1 / (0.01 * len(labels)), tol=1e-8, max_iter=10_000, class_weight="balanced")
    oracle.fit(scaled, labels.numpy())
    answers = (features @ fitted.weight_KD.T + fitted.bias_K).double().softmax(1).numpy()
    np.testing.assert_allclose(answers, oracle.predict_proba(scaled), atol=2e-3)


def test_the_penalty_is_chosen_on_validation():
    """Twelve images of forty features are learned by heart in no time; what holds on others needs a strong penalty."""
    features, labels = clouds(2, 12, 40, noise=4)
    others, other_labels = clouds(2, 400, 40, seed=1, noise=4)
    fitted = fit_head(features, labels, others, other_labels, torch.ones(2))
    for strength in (1e-3, 1e-6):
        weaker = fit_head(features, labels, others, other_labels, torch.ones(2), strengths=[strength])
        assert fitted.val_loss <= weaker.val_loss + 1e-4
        assert fitted.strength > strength


def test_a_feature_that_never_varies_does_no_harm():
    features, labels = clouds(2, 50, 3)
    features[:, 1] = 0
    fitted = fit_head(features, labels, features, labels, torch.ones(2))
    assert torch.isfinite(fitted.weight_KD).all()
    assert fitted.train_loss < 0.5


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """A network of five features, its predictor, and pixels that need three batches."""
    monkeypatch.setenv("VITREOUS_CACHE", str(tmp_path))
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2))
    preprocess = Preprocess(height=8, width=8, channels=3, fit="pad")
    predictor = Predictor(TorchBackend(network, preprocess, torch.device("cpu")), preprocess, ("a", "b"))
    return network, predictor, np.random.default_rng(0).integers(0, 256, (600, 8, 8, 3), np.uint8)


def test_features_are_what_the_head_is_shown(tiny):
    network, predictor, pixels = tiny
    index = np.arange(599, -1, -1)
    features = backbone_features(predictor, network[4], pixels, index, key="a" * 64)
    with torch.no_grad():
        logits = network[4](features)
    np.testing.assert_allclose(logits.numpy(), predictor.logits(pixels[index]), atol=1e-6)
    assert not network[4]._forward_pre_hooks


def test_features_are_computed_once(tiny, monkeypatch):
    network, predictor, pixels = tiny
    first = backbone_features(predictor, network[4], pixels, np.arange(600), key="b" * 64)
    monkeypatch.setattr(predictor, "logits", lambda _: pytest.fail("the network ran again"))
    assert torch.equal(backbone_features(predictor, network[4], pixels, np.arange(600), key="b" * 64), first)


def test_features_that_were_stopped_are_not_kept(tiny):
    network, predictor, pixels = tiny
    calls = iter([None, None, Interrupted("stop", 2)])

    def stop_at_the_third_batch():
        if error := next(calls):
            raise error

    with pytest.raises(Interrupted):
        backbone_features(
            predictor, network[4], pixels, np.arange(600), key="c" * 64, before_batch=stop_at_the_third_batch
        )
    assert usage().num_packs == 0
    assert len(backbone_features(predictor, network[4], pixels, np.arange(600), key="c" * 64)) == 600


def test_only_a_linear_layer_with_biases_can_be_fitted():
    network = nn.ModuleDict({"fc": nn.Linear(2, 2), "bare": nn.Linear(2, 2, bias=False), "conv": nn.Conv2d(2, 2, 1)})
    assert can_fit(network, "fc")
    assert not can_fit(network, "bare")
    assert not can_fit(network, "conv")
    assert not can_fit(network, None)

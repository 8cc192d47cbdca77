import numpy as np
import pytest
from sklearn.covariance import EmpiricalCovariance
from sklearn.metrics import roc_auc_score

from vitreous.evaluation.familiarity import fit_familiarity
from vitreous.predictor.calibration import Familiarity, to_unit_length

NUM_DIMENSIONS = 40


def features(num, seed, spread=0.3):
    """Three classes in 40 dimensions, wide in a few; as after a ReLU, of unequal lengths."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, num)
    centres = np.random.default_rng(99).normal(0, 1, (3, NUM_DIMENSIONS))
    widths = np.r_[np.full(6, 1.0), np.full(NUM_DIMENSIONS - 6, spread)]
    near = centres[labels] + random.normal(0, 1, (num, NUM_DIMENSIONS)) * widths
    return (near * random.uniform(0.5, 2, (num, 1))).astype(np.float32), labels


def foreign(num, seed):
    return np.random.default_rng(seed).normal(0, 1, (num, NUM_DIMENSIONS)).astype(np.float32)


@pytest.fixture(scope="module")
def familiarity():
    return fit_familiarity(*features(600, 0), features(199, 1)[0])


def test_one_in_twenty_ordinary_images_is_called_unfamiliar():
    """Over many calibrations: the share of familiarities of at most 5 % is at most that, and nearly."""
    trained, labels = features(600, 0)
    shares = [
        (fit_familiarity(trained, labels, features(99, s)[0]).familiarity(features(500, 9000 + s)[0]) <= 0.05).mean()
        for s in range(60)
    ]
    assert np.mean(shares) == pytest.approx(0.05, abs=0.008)


def test_foreign_features_are_told(familiarity):
    own, other = familiarity.distance(features(500, 7)[0]), familiarity.distance(foreign(500, 8))
    assert roc_auc_score(np.r_[np.zeros(500), np.ones(500)], np.r_[own, other]) > 0.99
    assert (familiarity.familiarity(foreign(500, 8)) <= 0.05).mean() > 0.95


def test_with_all_directions_it_is_mahalanobis_distance():
    """Directions and rest together are the covariance: scikit-learn's distance where the rest is equal on its own."""
    trained, labels = features(600, 0)
    fitted = fit_familiarity(trained, labels, trained[:20])
    across = np.eye(NUM_DIMENSIONS) - fitted.directions_DR @ fitted.directions_DR.T
    covariance = fitted.directions_DR * fitted.variances_R @ fitted.directions_DR.T + fitted.rest * across
    oracle = EmpiricalCovariance()
    oracle._set_covariance(covariance)
    others = to_unit_length(features(50, 3)[0])
    wanted = []
    for mean in fitted.means_KD:
        oracle.location_ = mean.astype(np.float64)
        wanted.append(oracle.mahalanobis(others))
    assert fitted.distance(others) == pytest.approx(np.min(wanted, axis=0), rel=1e-4)


def test_length_does_not_matter_and_zeros_do_no_harm(familiarity):
    some = features(20, 4)[0]
    assert familiarity.distance(some * 100) == pytest.approx(familiarity.distance(some), rel=1e-4)
    assert np.isfinite(familiarity.distance(np.zeros((1, NUM_DIMENSIONS), np.float32))).all()


@pytest.mark.parametrize(("num", "num_dimensions"), [(2, 1), (3, 5), (8, 2), (4, 300)])
def test_few_images_and_few_features_do_no_harm(num, num_dimensions):
    random = np.random.default_rng(num)
    trained = random.normal(size=(num, num_dimensions)).astype(np.float32)
    fitted = fit_familiarity(trained, np.arange(num) % 2, random.normal(size=(19, num_dimensions)))
    assert ((fitted.familiarity(trained) > 0) & (fitted.familiarity(trained) <= 1)).all()
    constant = fit_familiarity(np.ones((num, num_dimensions)), np.zeros(num, np.int64), np.ones((19, num_dimensions)))
    assert np.isfinite(constant.distance(trained)).all()


def test_it_is_read_as_it_was_written(familiarity):
    again = Familiarity.from_bytes(familiarity.to_bytes())
    some = foreign(30, 5)
    assert (again.distance(some) == familiarity.distance(some)).all()
    assert (again.familiarity(some) == familiarity.familiarity(some)).all()
    with pytest.raises(ValueError, match="familiarity"):
        Familiarity.from_bytes(familiarity.to_bytes()[:200])

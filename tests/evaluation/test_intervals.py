import numpy as np
import pytest
from scipy.stats import beta, binomtest, bootstrap

from vitreous.evaluation.intervals import central, resampled, resampled_confusion, wilson


def test_wilsons_interval_is_the_published_one():
    """Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662; 0 of 20 gives 0 to 0.1611."""
    assert (wilson(81, 263).low, wilson(81, 263).high) == (
        pytest.approx(0.2553, abs=1e-4),
        pytest.approx(0.3662, abs=1e-4),
    )
    assert (wilson(0, 20).low, wilson(0, 20).high) == (pytest.approx(0, abs=1e-12), pytest.approx(0.1611, abs=1e-4))


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (1, 1), (0, 37), (12, 37), (37, 37), (999_999, 1_000_000)])
def test_wilsons_interval_is_scipys(successes, trials):
    theirs = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    ours = wilson(successes, trials)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert 0 <= ours.low <= ours.value <= ours.high <= 1


def test_of_one_stratum_it_is_scipys_bootstrap():
    values = np.random.default_rng(5).exponential(size=200)
    drawn = resampled(np.zeros(200, np.int64), lambda counts: (counts @ values / 200)[:, None])
    ours = central(drawn[:, 0])
    theirs = bootstrap((values,), np.mean, method="percentile", n_resamples=5000, rng=1).confidence_interval
    assert (ours.low, ours.high) == (pytest.approx(theirs.low, rel=0.03), pytest.approx(theirs.high, rel=0.03))


def test_each_class_is_drawn_as_often_as_it_is_shown():
    strata = np.array([2, 0, 0, 5, 2, 0, 2, 2])
    counts = resampled(strata, lambda counts: counts.astype(np.float64))
    for number in (0, 2, 5):
        assert set(counts[:, strata == number].sum(axis=1)) == {(strata == number).sum()}
    assert counts[:, strata == 0].std() > 0.5


def test_the_share_of_right_answers_follows_rubins_distribution():
    """Of two classes with 40 right and 10 wrong it is Beta(40, 10.5): half a mistake is made up for each class."""
    right, answers = resampled_confusion(np.array([[40, 10], [0, 25]]))
    assert np.quantile(right[:, 0] / 50, [0.025, 0.5, 0.975]) == pytest.approx(
        beta(40, 10.5).ppf([0.025, 0.5, 0.975]), abs=0.015
    )
    assert answers.sum(axis=1) == pytest.approx(75)
    assert np.quantile(right[:, 1] / 25, 0.025) == pytest.approx(beta(25, 0.5).ppf(0.025), abs=0.02)

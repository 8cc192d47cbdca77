import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import binom, norm

from vitreous.evaluation.comparison import compare, mcnemar, paired_difference


def table(num_both, num_first, num_second, num_neither):
    """Probabilities of two networks whose answers fall so, and the labels."""
    firsts = np.repeat([1, 1, 0, 0], [num_both, num_first, num_second, num_neither])
    seconds = np.repeat([1, 0, 1, 0], [num_both, num_first, num_second, num_neither])
    sure = np.array([[0.8, 0.2], [0.2, 0.8]])
    return sure[firsts], sure[seconds], np.ones(len(firsts), np.int64)


def test_a_worked_example():
    compared = compare(*table(70, 5, 15, 10))
    assert (compared.num_both, compared.num_first, compared.num_second, compared.num_neither) == (70, 5, 15, 10)
    assert compared.difference == pytest.approx(0.10)
    assert compared.accuracies[1].value == pytest.approx(0.85)
    assert compared.p_value == pytest.approx(2 * binom(20, 0.5).cdf(5))
    assert compared.is_real
    assert compared.log_loss_difference == pytest.approx(-0.1 * np.log(4))
    assert compared.log_loss_difference_interval.high < 0


def test_the_same_answers_differ_in_nothing():
    compared = compare(*table(90, 0, 0, 10))
    assert (compared.p_value, compared.difference, compared.is_real) == (1.0, 0.0, False)
    assert compared.difference_interval.low < 0 < compared.difference_interval.high


@pytest.mark.parametrize(("num_first", "num_second"), [(0, 0), (0, 5), (3, 3), (1, 9), (40, 60)])
def test_the_p_value_is_a_fair_coins(num_first, num_second):
    num = num_first + num_second
    chances = binom(num, 0.5).pmf(np.arange(num + 1))
    assert mcnemar(num_first, num_second) == pytest.approx(chances[chances <= chances[num_first] + 1e-12].sum())


@pytest.mark.parametrize(("gained", "lost", "num"), [(12, 3, 80), (0, 1, 44), (30, 70, 400), (5, 0, 20)])
def test_the_interval_inverts_the_score_test(gained, lost, num):
    """Oracle: the likelihood under each difference is maximised by search instead of Tango's formula."""

    def statistic(difference):
        low = max(0.0, -difference)
        high = (1 - difference) / 2

        def loss(rate):
            cells = (rate + difference, rate, 1 - 2 * rate - difference)
            counts = (gained, lost, num - gained - lost)
            return -sum(n * np.log(max(p, 1e-300)) for n, p in zip(counts, cells, strict=True) if n)

        rate = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
        variance = num * (2 * rate + difference - difference**2)
        return (gained - lost - num * difference) / np.sqrt(variance)

    seen, critical = (gained - lost) / num, norm.ppf(0.975)
    interval = paired_difference(gained, lost, num)
    assert interval.low == pytest.approx(brentq(lambda d: statistic(d) - critical, -0.99, seen), abs=1e-4)
    assert interval.high == pytest.approx(brentq(lambda d: statistic(d) + critical, seen, 0.99), abs=1e-4)


@pytest.mark.parametrize(("rates", "num"), [((0.02, 0.02), 100), ((0.1, 0.04), 200), ((0.01, 0.0), 60)])
def test_the_interval_holds_the_truth(rates, num):
    random = np.random.default_rng(1)
    drawn = random.multinomial(num, [*rates, 1 - sum(rates)], size=1000)
    truth = rates[0] - rates[1]
    ends = {pair: paired_difference(*pair, num) for pair in {(int(g), int(lost)) for g, lost, _ in drawn}}
    held = [ends[int(g), int(lost)].low <= truth <= ends[int(g), int(lost)].high for g, lost, _ in drawn]
    assert np.mean(held) > 0.93


def test_all_gained_and_all_lost_end_at_the_edge():
    assert paired_difference(10, 0, 10).high == pytest.approx(1)
    assert paired_difference(0, 10, 10).low == pytest.approx(-1)

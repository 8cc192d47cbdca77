import math

from hypothesis import given
from hypothesis import strategies as st

from vitreous.training.range_test import RangeTest, smooth


def test_what_is_read_off_a_valley():
    rates = (0.01, 0.02, 0.04, 0.08, 0.16)
    valley = RangeTest(rates, losses=(2.0, 1.9, 1.2, 1.1, 3.0), diverged=True)
    assert (valley.steepest_rate, valley.lowest_loss_rate, valley.suggested) == (0.02, 0.08, 0.08)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=50))
def test_smoothing_stays_between_the_least_and_the_most(losses):
    smoothed = smooth(losses)
    for number, each in enumerate(smoothed, 1):
        seen = losses[:number]
        assert min(seen) - 1e-9 <= each <= max(seen) + 1e-9


def test_smoothing_leaves_a_constant_alone():
    assert all(math.isclose(each, 2.5) for each in smooth([2.5] * 30))

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitreous.training.schedule import rate_at


@given(
    num_steps=st.integers(1, 500),
    schedule=st.sampled_from(["linear", "cosine", "constant"]),
    warmup=st.floats(0, 0.9),
)
def test_the_rate_rises_then_falls_and_stays_between_0_and_1(num_steps, schedule, warmup):
    rates = [rate_at(step, num_steps, schedule=schedule, warmup_fraction=warmup) for step in range(num_steps)]
    assert all(0 < rate <= 1 for rate in rates)
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_half_way_down_is_half_the_rate():
    for schedule in ("linear", "cosine"):
        assert rate_at(1, 3, schedule=schedule, warmup_fraction=0.0) == pytest.approx(0.5)

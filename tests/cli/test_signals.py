"""What is done with signals, in this process; tests/integration/test_signals.py sends them to whole commands."""

import signal

import pytest

from vitreous.cli import signals
from vitreous.cli.signals import Stopped, leave_on_signals, stop_on_signals, unmasked_signals


@pytest.fixture(autouse=True)
def _no_deadline(monkeypatch):
    monkeypatch.setattr(signals, "_PATIENCE_SECONDS", 3600.0)  # which would end this very process


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_raised_where_nothing_has_to_be_saved(number, status):
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as stopped, leave_on_signals():
        signal.raise_signal(number)
    assert stopped.value.status == status
    assert signal.getsignal(number) == before


def test_while_a_run_trains_the_first_is_told_and_the_second_raised():
    told = []

    def work():
        with stop_on_signals() as asked:
            told.append(asked())
            signal.raise_signal(signal.SIGTERM)
            told.append(asked())
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Stopped) as stopped:
        work()
    assert told == [None, signal.SIGTERM]
    assert stopped.value.status == 130


def test_a_signal_that_came_too_late_to_be_asked_for_is_not_lost():
    with pytest.raises(Stopped) as stopped, stop_on_signals():
        signal.raise_signal(signal.SIGTERM)
    assert stopped.value.status == 143


def test_an_error_on_the_way_out_hides_neither_the_signal_nor_another_error():
    def disturbed():
        try:
            raise Stopped(signal.SIGTERM)
        finally:
            fail()

    def fail():
        raise RuntimeError("release unlocked lock")

    with pytest.raises(Stopped), unmasked_signals():
        disturbed()
    with pytest.raises(RuntimeError, match="unlocked"), unmasked_signals():
        fail()

import numpy as np
import torch

from vitreous.augmentation.counter import Stream, _mixed, uniform


def test_the_draws_are_uniform_and_the_streams_independent():
    index = torch.arange(200_000)
    first, second = uniform(7, 3, index, 0), uniform(7, 3, index, 1)
    counts = torch.histc(first.float(), 20, 0, 1)
    assert float(((counts - 10_000) ** 2 / 10_000).sum()) < 43.8  # chi-squared, 19 degrees of freedom, p = 0.001
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.01
    assert float(first.min()) >= 0
    assert float(first.max()) < 1


def test_no_two_streams_epochs_or_seeds_go_together():
    """Correlations of 10,000 draws have a spread of 0.01; of some thousand pairs none is beyond 0.05."""
    index = torch.arange(10_000)
    keys = [(0, 0, stream) for stream in (*Stream, 101, 102, 103)] + [(0, epoch, 2) for epoch in range(1, 20)]
    keys += [(seed, 0, 2) for seed in range(1, 20)]
    table = torch.corrcoef(torch.stack([uniform(seed, epoch, index, stream) for seed, epoch, stream in keys]))
    assert float((table - torch.eye(len(keys))).abs().max()) < 0.05


def test_neighbouring_images_do_not_go_together():
    drawn = uniform(0, 0, torch.arange(100_000), 0)
    for distance in (1, 2, 28, 256):
        assert abs(float(torch.corrcoef(torch.stack([drawn[distance:], drawn[:-distance]]))[0, 1])) < 0.016


def test_the_mixer_is_splitmix64s():
    """Its first outputs from the state 1234567, as published with its ports."""
    gamma = 0x9E3779B97F4A7C15
    wanted = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    states = [(1234567 + number * gamma) % 2**64 for number in range(1, 6)]
    assert [_mixed(state) for state in states] == wanted
    assert _mixed(np.array(states, dtype=np.uint64)).tolist() == wanted


def test_runs_that_were_begun_draw_on_as_they_did():
    """Values that the first version drew."""
    drawn = uniform(2**31 - 1, 99, torch.tensor([0, 59_999, 2**40]), 8)
    assert drawn.tolist() == [0.4866064450053076, 0.5687471844706834, 0.11057670070246561]


def test_the_streams_are_all_different_and_leave_room_for_eight_operations():
    assert len({int(stream) for stream in Stream}) == len(Stream)
    assert max(Stream) == Stream.RANDAUGMENT, "nothing stands where the second operation draws"

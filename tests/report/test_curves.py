import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitreous.report.curves import training_charts

METRICS = [
    {"epoch": 1, "train_loss": 2.0, "val_loss": 1.5, "val_accuracy": 0.5},
    {"epoch": 2, "train_loss": 1.0, "val_loss": 1.2, "val_accuracy": 0.75},
    {"epoch": 3, "train_loss": 0.5, "val_loss": 1.4, "val_accuracy": 0.625},
]


def value_at(chart, y):
    """The value at a height, read off two of the chart's own ticks."""
    (y0, label0), (y1, label1) = chart.y_ticks[0], chart.y_ticks[-1]
    low, high = float(label0.rstrip("%")), float(label1.rstrip("%"))
    return low + (y - y0) / (y1 - y0) * (high - low)


def test_points_lie_where_the_ticks_say():
    loss, accuracy = training_charts(METRICS, best_epoch=2)
    assert [value_at(loss, point.y) for point in loss.lines[0].runs[0]] == pytest.approx([2, 1, 0.5], abs=0.01)
    assert [value_at(loss, point.y) for point in loss.lines[1].runs[0]] == pytest.approx([1.5, 1.2, 1.4], abs=0.01)
    assert [value_at(accuracy, point.y) for point in accuracy.lines[0].runs[0]] == pytest.approx(
        [50, 75, 62.5], abs=0.2
    )
    assert [label for _, label in loss.x_ticks] == ["1", "2", "3"]
    assert loss.best_x == loss.lines[0].runs[0][1].x
    assert accuracy.lines[0].runs[0][1].text == "epoch 2: validation accuracy 75.00%"


def test_a_figure_that_is_not_finite_breaks_the_line():
    (loss, _) = training_charts([METRICS[0], {**METRICS[1], "val_loss": math.nan}, METRICS[2]], best_epoch=1)
    assert [len(run) for run in loss.lines[1].runs] == [1, 1]


def test_one_epoch_is_a_point_and_no_epoch_is_no_chart():
    charts = training_charts(METRICS[:1], best_epoch=7)
    assert [chart.best_x for chart in charts] == [None, None]
    assert [len(chart.lines[0].runs[0]) for chart in charts] == [1, 1]
    assert training_charts([], best_epoch=None) == []


@given(
    figures=st.lists(
        st.tuples(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1, allow_subnormal=False)), min_size=1, max_size=30
    )
)
def test_nothing_lies_off_the_paper(figures):
    metrics = [
        {"epoch": number, "train_loss": train, "val_loss": val, "val_accuracy": share}
        for number, (train, val, share) in enumerate(figures, start=1)
    ]
    for chart in training_charts(metrics, best_epoch=1):
        places = [point for line in chart.lines for run in line.runs for point in run]
        assert all(chart.left <= point.x <= chart.right and chart.top <= point.y <= chart.bottom for point in places)
        labels = [label for _, label in chart.y_ticks]
        assert len(labels) == len(set(labels)) >= 2

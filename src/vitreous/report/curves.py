"""The course of training as line charts: where each point lies on the paper. The template draws them as SVG."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.ticker import MaxNLocator

WIDTH, HEIGHT = 460, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 16, 36


@dataclass(frozen=True, slots=True)
class Point:
    """One epoch's figure: its place on the paper, and the words that a reader who points at it sees."""

    x: float
    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """One figure over the epochs; ``runs`` are its unbroken parts (a figure may be missing or not finite)."""

    name: str
    style: str
    runs: tuple[tuple[Point, ...], ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines, the ticks of both axes as (place, label), and where the best epoch lies."""

    title: str
    lines: tuple[Line, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    best_x: float | None
    best_epoch: int | None
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = HEIGHT - _BOTTOM


def training_charts(metrics: Sequence[Mapping[str, Any]], best_epoch: int | None) -> list[Chart]:
    """The charts of the losses and of the validation accuracy; none where no epoch is finished."""
    losses = [("train loss", "train", "train_loss"), ("validation loss", "val", "val_loss")]
    charts = [
        _chart("Loss", metrics, losses, best_epoch, is_share=False),
        _chart(
            "Validation accuracy", metrics, [("validation accuracy", "val", "val_accuracy")], best_epoch, is_share=True
        ),
    ]
    return [chart for chart in charts if chart is not None]


def _chart(
    title: str,
    metrics: Sequence[Mapping[str, Any]],
    columns: Sequence[tuple[str, str, str]],
    best_epoch: int | None,
    *,
    is_share: bool,
) -> Chart | None:
    epochs = [int(line.get("epoch", number)) for number, line in enumerate(metrics, start=1)]
    series = {key: [_finite(line.get(key)) for line in metrics] for _, _, key in columns}
    values = [value for column in series.values() for value in column if value is not None]
    if not values:
        return None
    y_values = _ticks(min(values), max(values), is_share=is_share)
    x_low, x_high = epochs[0] - (0.5 if len(epochs) == 1 else 0), epochs[-1] + (0.5 if len(epochs) == 1 else 0)

    def x_of(epoch: float) -> float:
        return round(_LEFT + (epoch - x_low) / (x_high - x_low) * (WIDTH - _LEFT - _RIGHT), 1)

    def y_of(value: float) -> float:
        share = (value - y_values[0]) / (y_values[-1] - y_values[0])
        return round(HEIGHT - _BOTTOM - share * (HEIGHT - _BOTTOM - _TOP), 1)

    def point(name: str, epoch: int, value: float) -> Point:
        return Point(
            x_of(epoch), y_of(value), f"epoch {epoch}: {name} {f'{value:.2%}' if is_share else f'{value:.4f}'}"
        )

    lines = tuple(
        Line(
            name,
            style,
            _unbroken(
                [
                    None if value is None else point(name, epoch, value)
                    for epoch, value in zip(epochs, series[key], strict=True)
                ]
            ),
        )
        for name, style, key in columns
    )
    x_values = [int(tick) for tick in MaxNLocator(8, integer=True).tick_values(epochs[0], epochs[-1])]
    is_best_shown = best_epoch is not None and best_epoch in epochs
    return Chart(
        title=title,
        lines=lines,
        x_ticks=tuple((x_of(tick), str(tick)) for tick in x_values if epochs[0] <= tick <= epochs[-1]),
        y_ticks=tuple((y_of(tick), label) for tick, label in zip(y_values, _labels(y_values, is_share), strict=True)),
        best_x=x_of(best_epoch) if is_best_shown and best_epoch is not None else None,
        best_epoch=best_epoch if is_best_shown else None,
    )


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _ticks(low: float, high: float, *, is_share: bool) -> list[float]:
    """Round values that enclose low .. high; a share stays within 0 .. 1."""
    if high - low < 1e-3:
        low, high = low - 5e-4, high + 5e-4
    ticks = [round(float(tick), 10) for tick in MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]
    kept = [tick for tick in ticks if not is_share or 0 <= tick <= 1]
    return kept if len(kept) >= 2 else [0.0, 1.0]


def _labels(ticks: Sequence[float], is_share: bool) -> list[str]:
    """As many decimals as the step between two ticks needs."""
    step = (ticks[1] - ticks[0]) * (100 if is_share else 1)
    decimals = next(num for num in range(11) if abs(round(step, num) - step) < 1e-9)
    return [f"{tick * 100:.{decimals}f}%" if is_share else f"{tick:.{decimals}f}" for tick in ticks]


def _unbroken(points: Sequence[Point | None]) -> tuple[tuple[Point, ...], ...]:
    runs: list[list[Point]] = [[]]
    for point in points:
        if point is None:
            runs.append([])
        else:
            runs[-1].append(point)
    return tuple(tuple(run) for run in runs if run)

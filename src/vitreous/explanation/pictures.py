"""Figures of one explanation: labelled, told apart by all kinds of colour vision, on one scale where they are compared.

Each function gives a matplotlib Figure of its own; nothing is drawn through pyplot, whose state is global.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from torch import Tensor

from vitreous.explanation.attribution import Attribution
from vitreous.explanation.equivariance import Consistency
from vitreous.explanation.faithfulness import Faithfulness
from vitreous.explanation.influence import Influence
from vitreous.explanation.residual import ResidualShare
from vitreous.explanation.routing import Route

Pixels = NDArray[np.uint8]  # H,W,C

SKIP, BRANCH, BOX = "#0072b2", "#d55e00", "#e69f00"  # Okabe and Ito's blue, vermilion and orange
_ABOVE_0, _AROUND_0 = "cividis", "RdBu_r"
_COLUMNS = 6
_STRONG = 0.995  # of a map's values are below the end of its scale: a few pixels would leave the others pale
_CELL = 1.9  # inches


def attribution_figure(pixels_HWC: Pixels, judged: Sequence[Faithfulness], target: str) -> Figure:
    """The image, and each method's map over it in grey, with how far it can be believed."""
    figure, axes = _row(len(judged) + 1, 3.0)
    _image(axes[0], pixels_HWC)
    axes[0].set_title("the image, as the network\nis given it", fontsize=9)
    for place, each in zip(axes[1:], judged, strict=True):
        _over(place, pixels_HWC, each.attribution)
        place.set_title(f"{each.attribution.method}\n{each.verdict} ({each.score:+.2f})", fontsize=9)
    figure.suptitle(f"What speaks for {target!r}: yellow or red for it, blue against it", fontsize=11)
    return figure


def faithfulness_figure(judged: Sequence[Faithfulness], target: str) -> Figure:
    """Deletion and insertion curves of every method, on the same axes."""
    figure, (deletion, insertion) = _row(2, 4.2)
    styles = ("-", "--", "-.", ":")
    colours = (SKIP, BRANCH, "#009e73", "#cc79a7")
    for number, each in enumerate(judged):
        style = {"linestyle": styles[number % 4], "color": colours[number % 4], "label": each.attribution.method}
        deletion.plot(each.curves.shares, each.curves.deletion, **style)
        insertion.plot(each.curves.shares, each.curves.insertion, **style)
    for place, title in (
        (deletion, "hidden first: the curve should fall early"),
        (insertion, "shown first: the curve should rise early"),
    ):
        place.set_title(f"what the map calls important,\n{title}", fontsize=9)
        place.set_xlabel("share of the pixels", fontsize=9)
        place.set_ylabel(f"probability of {target!r}", fontsize=9)
        place.set_ylim(-0.02, 1.02)
        place.grid(alpha=0.3)
    deletion.legend(fontsize=8)
    return figure


def maps_figure(
    maps_CHW: Tensor, channels: Sequence[int], title: str, pixels_HWC: Pixels, boxes: Sequence[range] | None
) -> Figure:
    """A layer's strongest channels on one scale, beside the image with what the middle unit can see."""
    chosen = maps_CHW[list(channels)].float().cpu().numpy()
    is_signed, limit = bool((chosen < 0).any()), float(np.abs(chosen).max()) or 1.0
    num_rows = math.ceil((len(channels) + 1) / _COLUMNS)
    figure = Figure(figsize=(_CELL * _COLUMNS, _CELL * num_rows * 1.12 + 0.5), layout="constrained")
    axes = figure.subplots(num_rows, _COLUMNS, squeeze=False).ravel()
    _image(axes[0], pixels_HWC)
    if boxes is not None:
        _frame(axes[0], boxes)
        axes[0].set_title("what a middle unit sees", fontsize=8)
    drawn = None
    for place, number, map_HW in zip(axes[1:], channels, chosen, strict=False):
        colours: dict[str, Any] = {"cmap": _AROUND_0, "vmin": -limit} if is_signed else {"cmap": _ABOVE_0, "vmin": 0}
        drawn = place.imshow(map_HW, vmax=limit, interpolation="nearest", **colours)
        place.set_title(f"channel {number}", fontsize=8)
    for place in axes:
        place.set_axis_off()
    if drawn is not None:
        figure.colorbar(drawn, ax=list(axes), shrink=0.8, pad=0.01)
    figure.suptitle(title, fontsize=11)
    return figure


def filters_figure(filters_KCHW: Tensor, layer: str, most: int = 64) -> Figure:
    """The first convolution's filters on one scale; on three channels in their colours, mid-grey being 0."""
    filters = filters_KCHW[:most].float().cpu().numpy()
    limit = float(np.abs(filters).max()) or 1.0
    in_colour = filters.shape[1] == 3
    num_columns = min(16, len(filters))
    num_rows = math.ceil(len(filters) / num_columns)
    figure = Figure(figsize=(0.75 * num_columns + 0.8, 0.75 * num_rows + 0.7), layout="constrained")
    axes = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
    drawn = None
    for place, each in zip(axes, filters, strict=False):
        if in_colour:
            place.imshow(each.transpose(1, 2, 0) / (2 * limit) + 0.5, interpolation="nearest")
        else:
            drawn = place.imshow(each.mean(axis=0), cmap=_AROUND_0, vmin=-limit, vmax=limit, interpolation="nearest")
    for place in axes:
        place.set_axis_off()
    if drawn is not None:
        figure.colorbar(drawn, ax=list(axes), shrink=0.8, pad=0.01)
    shown = f"{len(filters)} of {len(filters_KCHW)}" if len(filters) < len(filters_KCHW) else f"{len(filters)}"
    scale = f"mid-grey is 0, the ends are +-{limit:.2g}" if in_colour else "white is 0"
    figure.suptitle(f"{layer}: {shown} filters of {filters.shape[2]} x {filters.shape[3]} ({scale})", fontsize=10)
    return figure


def influence_figure(pixels_HWC: Pixels, found: Sequence[tuple[str, Influence]]) -> Figure:
    """What a middle unit can see, and what it looks at: for each network given, on a scale of its own."""
    figure, axes = _row(len(found) + 1, 3.0)
    _image(axes[0], pixels_HWC)
    _frame(axes[0], found[0][1].box)
    sides = " x ".join(str(len(pixels)) for pixels in found[0][1].box)
    axes[0].set_title(f"{found[0][1].layer}: one unit\ncan see {sides} px", fontsize=9)
    for place, (name, each) in zip(axes[1:], found, strict=True):
        place.imshow(each.influence_HW.numpy(), cmap=_ABOVE_0)
        _frame(place, each.box)
        share = "none" if each.share_of_box is None else f"{each.share_of_box:.0%} of it"
        place.set_title(f"{name}: 95 % of its influence\ncomes from {share}", fontsize=9)
        place.set_axis_off()
    return figure


def residual_figure(shares: Sequence[ResidualShare]) -> Figure:
    """For each addition, how much of the sum came by the skip and how much by the branch."""
    figure = Figure(figsize=(7.5, 0.34 * len(shares) + 1.4), layout="constrained")
    place = figure.subplots()
    rows = range(len(shares))
    names = [share.layer.replace(":add", "") for share in shares]
    skips = [share.skip.projection or 0.0 for share in shares]
    branches = [share.branch.projection or 0.0 for share in shares]
    place.barh([row - 0.2 for row in rows], skips, 0.38, color=SKIP, label="by the skip")
    place.barh([row + 0.2 for row in rows], branches, 0.38, color=BRANCH, label="by the branch")
    place.set_yticks(list(rows), names, fontsize=8)
    place.invert_yaxis()
    place.axvline(0, color="black", linewidth=0.8)
    place.set_xlabel("share of the sum; the two add up to 1, one below 0 works against the sum", fontsize=9)
    place.legend(fontsize=8, loc="lower right")
    place.grid(axis="x", alpha=0.3)
    return figure


def routing_figure(pixels_HWC: Pixels, routes: Sequence[Route]) -> Figure:
    """Where the gradient of the class went in the max pools, on the maps that they read."""
    figure, axes = _row(len(routes) + 1, 3.0)
    _image(axes[0], pixels_HWC)
    axes[0].set_title("the image", fontsize=9)
    for place, route in zip(axes[1:], routes, strict=True):
        place.imshow(route.gradient_map.float().cpu().numpy(), cmap=_ABOVE_0, interpolation="nearest")
        nothing = f"{route.share_without_gradient:.0%} of its input got no gradient"
        place.set_title(f"{route.layer}\n{nothing}", fontsize=9)
        place.set_axis_off()
    return figure


def consistency_figure(found: Consistency, target: str) -> Figure:
    """The class's probability while the image is moved, right, down and both."""
    figure = Figure(figsize=(5.6, 3.2), layout="constrained")
    place = figure.subplots()
    start = float(found.confidences_SN[0, 0])
    ways = {"right": (0, 1), "down": (1, 0), "both": (1, 1)}
    styles = zip(("-", "--", ":"), (SKIP, BRANCH, "#009e73"), strict=True)
    for (name, way), (style, colour) in zip(ways.items(), styles, strict=True):
        moves = enumerate(found.shifts, start=1)
        chosen = [(n, shift) for n, shift in moves if (shift.down > 0, shift.right > 0) == way]
        steps = [0, *(max(shift.down, shift.right) for _, shift in chosen)]
        place.plot(
            steps, [start, *(float(found.confidences_SN[n, 0]) for n, _ in chosen)], style, color=colour, label=name
        )
    place.set_xlabel("moved by so many pixels", fontsize=9)
    place.set_ylabel(f"probability of {target!r}", fontsize=9)
    place.set_ylim(-0.02, 1.02)
    place.grid(alpha=0.3)
    place.legend(fontsize=8)
    return figure


# --- pieces -----------------------------------------------------------------------------------------------------------


def _row(count: int, side: float) -> tuple[Figure, NDArray[Any]]:
    figure = Figure(figsize=(side * count, side + 0.7), layout="constrained")
    return figure, figure.subplots(1, count, squeeze=False).ravel()


def _image(place: Axes, pixels_HWC: Pixels) -> None:
    place.imshow(_shown(pixels_HWC), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    place.set_axis_off()


def _shown(pixels_HWC: Pixels) -> Pixels:
    """Grey, or red, green and blue; of any other number of channels their mean."""
    if pixels_HWC.shape[2] == 3:
        return pixels_HWC
    return np.asarray(pixels_HWC.mean(axis=2).astype(np.uint8))


def _over(place: Axes, pixels_HWC: Pixels, attribution: Attribution) -> None:
    grey = pixels_HWC.mean(axis=2)
    place.imshow(grey, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    values = attribution.map_HW.float().numpy()
    limit = float(np.quantile(np.abs(values), _STRONG)) or float(np.abs(values).max()) or 1.0
    colours: dict[str, Any] = (
        {"cmap": _AROUND_0, "vmin": -limit} if attribution.is_signed else {"cmap": _ABOVE_0, "vmin": 0}
    )
    place.imshow(
        values, vmax=limit, alpha=0.35 + 0.5 * np.clip(np.abs(values) / limit, 0, 1), interpolation="nearest", **colours
    )
    place.set_axis_off()


def _frame(place: Axes, boxes: Sequence[range]) -> None:
    rows, columns = boxes
    corner = (columns.start - 0.5, rows.start - 0.5)
    place.add_patch(Rectangle(corner, len(columns), len(rows), fill=False, edgecolor=BOX, linewidth=2))

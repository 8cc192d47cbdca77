"""Figures of one explanation: labelled, told apart by all kinds of colour vision, on one scale where they are compared.

Each function gives a matplotlib Figure of its own; nothing is drawn through pyplot, whose state is global.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, Rectangle
from numpy.typing import NDArray
from torch import Tensor

from vitreous.explanation.attribution import Attribution
from vitreous.explanation.equivariance import Consistency
from vitreous.explanation.faithfulness import DEVIATIONS, Curves, Faithfulness
from vitreous.explanation.influence import Influence
from vitreous.explanation.residual import ResidualShare
from vitreous.explanation.routing import Route
from vitreous.trace import SeenField

Pixels = NDArray[np.uint8]  # H,W,C

SKIP, BRANCH, BOX = "#0072b2", "#d55e00", "#e69f00"  # Okabe and Ito's blue, vermilion and orange
_ABOVE_0, _AROUND_0 = "cividis", "RdBu_r"
_COLUMNS = 6
_STRONG = 0.99  # of a map's values are within its scale: a few outliers would make all others look like nothing
_CELL = 1.9  # inches


def attribution_figure(pixels_HWC: Pixels, judged: Sequence[Faithfulness], target: str) -> Figure:
    """The image, and each method's map over it in grey, with how far it can be believed."""
    figure, axes = _row(len(judged) + 1, 3.0)
    _image(axes[0], pixels_HWC)
    axes[0].set_title("the image, as the network\nis given it", fontsize=9)
    for place, each in zip(axes[1:], judged, strict=True):
        _over(place, pixels_HWC, each.attribution)
        chance = f"{each.score:+.2g}, chance up to {DEVIATIONS * each.chance_deviation:.2g}"
        place.set_title(f"{each.attribution.method}: {each.verdict}\n({chance})", fontsize=9)
    bar = figure.colorbar(ScalarMappable(Normalize(-1, 1), _AROUND_0), ax=list(axes), pad=0.01)
    bar.set_ticks([-1, 0, 1], labels=["against it", "0", "for it"], fontsize=8)
    figure.suptitle(
        f"What speaks for {target!r}: red for it, blue against it, each map on a scale of its own", fontsize=11
    )
    return figure


def faithfulness_figure(judged: Sequence[Faithfulness], target: str) -> Figure:
    """Deletion above and insertion below: a column for each method, with chance as a band; one scale for all."""
    figure = Figure(figsize=(3.4 * len(judged) + 0.6, 5.4), layout="constrained")
    axes = figure.subplots(2, len(judged), sharex=True, sharey=True, squeeze=False)
    for (above, below), each in zip(axes.T, judged, strict=True):
        _curve(above, each.curves.shares, [_hiding(found) for found in (each.curves, *each.chance)], BRANCH)
        _curve(below, each.curves.shares, [_showing(found) for found in (each.curves, *each.chance)], SKIP)
        above.set_title(f"{each.attribution.method}\nhidden first: area {each.curves.deletion_area:.2f}", fontsize=9)
        below.set_title(f"shown first: area {each.curves.insertion_area:.2f}", fontsize=9)
        below.set_xlabel("share of the pixels", fontsize=9)
    for place, word in zip(axes[:, 0], ("lower", "higher"), strict=True):
        place.set_ylabel(f"probability of the class\n({word} is better)", fontsize=9)
        place.set_ylim(-0.02, 1.02)
    axes[0, 0].legend(fontsize=8)
    figure.suptitle(f"{target!r} while pixels are hidden, or shown, in the order of each map", fontsize=11)
    return figure


def maps_figure(
    maps_CHW: Tensor, channels: Sequence[int], title: str, pixels_HWC: Pixels, boxes: Sequence[range] | None
) -> Figure:
    """A layer's strongest channels on one scale, beside the image with what the middle unit can see."""
    chosen = maps_CHW[list(channels)].float().cpu().numpy()
    is_signed, limit = bool((chosen < 0).any()), float(np.abs(chosen).max()) or 1.0
    num_rows = math.ceil((len(channels) + 1) / _COLUMNS)
    figure = Figure(figsize=(_CELL * _COLUMNS, _CELL * num_rows * 1.12 + 0.5), layout="compressed")
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
        figure.colorbar(drawn, ax=list(axes), pad=0.01)
    figure.suptitle(title, fontsize=11)
    return figure


def filters_figure(filters_KCHW: Tensor, layer: str, most: int = 64) -> Figure:
    """The first convolution's filters on one scale; on three channels in their colours, mid-grey being 0."""
    filters = filters_KCHW[:most].float().cpu().numpy()
    limit = float(np.abs(filters).max()) or 1.0
    in_colour = filters.shape[1] == 3
    num_columns = min(16, len(filters))
    num_rows = math.ceil(len(filters) / num_columns)
    figure = Figure(figsize=(0.75 * num_columns + 0.8, 0.75 * num_rows + 0.7), layout="compressed")
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
        figure.colorbar(drawn, ax=list(axes), pad=0.01)
    shown = f"{len(filters)} of {len(filters_KCHW)}" if len(filters) < len(filters_KCHW) else f"{len(filters)}"
    averaged = "" if in_colour or filters.shape[1] == 1 else f", the mean over {filters.shape[1]} channels"
    scale = f"mid-grey is 0, the ends are +-{limit:.2g}" if in_colour else f"white is 0{averaged}"
    figure.suptitle(f"{layer}: {shown} filters of {filters.shape[2]} x {filters.shape[3]} ({scale})", fontsize=10)
    return figure


def influence_figure(pixels_HWC: Pixels, found: Sequence[tuple[str, Influence]]) -> Figure:
    """What a middle unit can see (framed), and what it looks at: for each network given, on one scale.

    The dashed ellipse on the image has two standard deviations of the last one's influence.
    """
    figure, axes = _row(len(found) + 1, 3.0)
    _image(axes[0], pixels_HWC)
    _frame(axes[0], found[0][1].box)
    _ellipse(axes[0], found[-1][1])
    sides = " x ".join(str(len(pixels)) for pixels in found[0][1].box)
    axes[0].set_title(f"{found[0][1].layer}: a middle unit can\nsee {sides} px of the image", fontsize=9)
    shares = [(each.influence_HW / each.influence_HW.sum().clamp_min(1e-30)).numpy() for _, each in found]
    limit = max(_limit(share_HW, 0.999) for share_HW in shares)
    drawn = None
    for place, (name, each), share_HW in zip(axes[1:], found, shares, strict=True):
        drawn = place.imshow(share_HW / limit, cmap=_ABOVE_0, vmin=0, vmax=1)
        _frame(place, each.box)
        place.set_title(f"{name}: {_reach(each)}", fontsize=9)
        place.set_axis_off()
    if drawn is not None:
        bar = figure.colorbar(drawn, ax=list(axes), pad=0.01)
        bar.set_ticks([0, 1], labels=["no influence", "most"], fontsize=8)
    return figure


def residual_figure(shares: Sequence[ResidualShare]) -> Figure:
    """For each addition, how much of the sum came by the skip and how much by the branch."""
    figure = Figure(figsize=(7.5, 0.34 * len(shares) + 1.9), layout="constrained")
    place = figure.subplots()
    rows = range(len(shares))
    names = [share.layer.replace(":add", "") + (f", call {share.call}" if share.call else "") for share in shares]
    skips = [share.skip.projection or 0.0 for share in shares]
    branches = [share.branch.projection or 0.0 for share in shares]
    place.barh([row - 0.2 for row in rows], skips, 0.38, color=SKIP, label="by the skip")
    place.barh([row + 0.2 for row in rows], branches, 0.38, color=BRANCH, label="by the branch")
    place.set_yticks(list(rows), names, fontsize=8)
    place.invert_yaxis()
    place.axvline(0, color="black", linewidth=0.8)
    place.set_xlabel("share of the sum; the two add up to 1, one below 0 works against the sum", fontsize=9)
    figure.legend(fontsize=8, loc="outside upper right", ncols=2)
    figure.suptitle("What makes each sum: the skip or the branch", fontsize=11, x=0.02, horizontalalignment="left")
    place.grid(axis="x", alpha=0.3)
    place.set_axisbelow(True)
    return figure


def routing_figure(pixels_HWC: Pixels, routes: Sequence[tuple[Route, Sequence[SeenField]]]) -> Figure:
    """Where the gradient of the class went in the max pools, on the darkened image.

    Args:
        pixels_HWC: the image.
        routes: each with what the units of its input see of the image: each unit is drawn at the centre of that.
    """
    figure, axes = _row(len(routes) + 1, 3.0)
    _image(axes[0], pixels_HWC)
    axes[0].set_title("the image", fontsize=9)
    drawn = None
    for place, (route, fields) in zip(axes[1:], routes, strict=True):
        values = route.gradient_map.float().cpu().numpy()
        values = values / _limit(values, 0.999)
        reach = _reach_of_units(fields, values.shape)
        if reach is not None:
            _image(place, pixels_HWC, brightness=0.4)
        drawn = place.imshow(
            values,
            cmap=_ABOVE_0,
            vmin=0,
            vmax=1,
            alpha=None if reach is None else np.sqrt(values.clip(0, 1)),
            extent=reach,
            interpolation="nearest",
        )
        if reach is not None:
            place.set_xlim(-0.5, pixels_HWC.shape[1] - 0.5)
            place.set_ylim(pixels_HWC.shape[0] - 0.5, -0.5)
        nothing = f"{route.share_without_gradient:.0%} of its input got no gradient"
        place.set_title(f"{route.layer}{f', call {route.call}' if route.call else ''}\n{nothing}", fontsize=9)
        place.set_axis_off()
    if drawn is not None:
        bar = figure.colorbar(drawn, ax=list(axes), pad=0.01)
        bar.set_ticks([0, 1], labels=["no gradient", "most"], fontsize=8)
    return figure


def consistency_figure(found: Consistency, target: str) -> Figure:
    """The class's probability while the image is moved, right, down and both."""
    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    place = figure.subplots()
    figure.suptitle("The answer while the image moves", fontsize=11)
    start = float(found.confidences_SN[0, 0])
    ways = {"right": (0, 1), "down": (1, 0), "right and down": (1, 1)}
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
    figure = Figure(figsize=(side * count, side + 0.7), layout="compressed")
    return figure, figure.subplots(1, count, squeeze=False).ravel()


def _image(place: Axes, pixels_HWC: Pixels, brightness: float = 1.0) -> None:
    shown = (_shown(pixels_HWC) * brightness).astype(np.uint8)
    place.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    place.set_axis_off()


def _shown(pixels_HWC: Pixels) -> Pixels:
    """Grey, or red, green and blue; of any other number of channels their mean."""
    if pixels_HWC.shape[2] == 3:
        return pixels_HWC
    return np.asarray(pixels_HWC.mean(axis=2).astype(np.uint8))


def _over(place: Axes, pixels_HWC: Pixels, attribution: Attribution) -> None:
    """Nothing where the map is 0, so that the image is seen there."""
    _image(place, pixels_HWC.mean(axis=2, keepdims=True).astype(np.uint8))
    values = attribution.map_HW.float().numpy()
    shares = (values / _limit(values, _STRONG)).clip(-1, 1)
    place.imshow(shares, cmap=_AROUND_0, vmin=-1, vmax=1, alpha=0.9 * np.sqrt(np.abs(shares)), interpolation="nearest")


def _limit(values: NDArray[Any], share: float) -> float:
    """Where a scale ends that holds this share of the values, signs aside; 1 if they are all 0."""
    sizes = np.abs(values)
    return float(np.quantile(sizes, share)) or float(sizes.max(initial=0)) or 1.0


def _hiding(found: Curves) -> Tensor:
    return found.deletion


def _showing(found: Curves) -> Tensor:
    return found.insertion


def _curve(place: Axes, shares: Tensor, curves: Sequence[Tensor], colour: str) -> None:
    """The first is the map's own, the others are random: their mean, and two standard deviations on either side."""
    own, *others = (curve.numpy() for curve in curves)
    mean, deviation = np.mean(others, axis=0), np.std(others, axis=0)
    low, high = mean - DEVIATIONS * deviation, mean + DEVIATIONS * deviation
    place.fill_between(shares.numpy(), low.clip(0), high.clip(None, 1), color="0.85", label="chance")
    place.plot(shares.numpy(), mean, color="0.55", linewidth=1)
    place.plot(shares.numpy(), own, color=colour, linewidth=2, label="this map")
    place.grid(alpha=0.3)


def _reach(found: Influence) -> str:
    """In words, two lines."""
    if found.sigma is None or found.share_of_box is None:
        return "no pixel\nhas any influence"
    sigma = " x ".join(f"{each:.1f}" for each in found.sigma)
    return f"95 % of it comes from\n{found.share_of_box:.0%} of the frame, sigma {sigma} px"


def _ellipse(place: Axes, found: Influence) -> None:
    if found.sigma is not None and found.centre is not None:
        (y, x), (height, width) = found.centre, found.sigma
        place.add_patch(Ellipse((x, y), 4 * width, 4 * height, fill=False, edgecolor="white", linewidth=3))
        place.add_patch(
            Ellipse((x, y), 4 * width, 4 * height, fill=False, edgecolor="black", linewidth=1.5, linestyle="--")
        )


def _reach_of_units(fields: Sequence[SeenField], units: Sequence[int]) -> tuple[float, float, float, float] | None:
    """What a map covers on the image, its units in their places: left, right, bottom, top; None without places."""
    ends = []
    for seen, num_units in zip(fields, units, strict=False):
        if seen.place is None:
            return None
        half = float(seen.place.jump) / 2
        ends.append((float(seen.place.centre(0)) - half, float(seen.place.centre(num_units - 1)) + half))
    if len(ends) != 2:
        return None
    (top, bottom), (left, right) = ends
    return left, right, bottom, top


def _frame(place: Axes, boxes: Sequence[range]) -> None:
    rows, columns = boxes
    corner = (columns.start - 0.5, rows.start - 0.5)
    place.add_patch(Rectangle(corner, len(columns), len(rows), fill=False, edgecolor=BOX, linewidth=2))

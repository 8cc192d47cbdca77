"""A network as a picture: an SVG in which repeated blocks are folded and every skip is drawn.

diagram.py      the recorded operations -> boxes (a convolution with what follows it), blocks, arrows
drawing.py      boxes -> places -> SVG
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from vitreous.trace.diagram import Block, Box, Diagram, diagram_of
from vitreous.trace.summary import Summary

_BOX, _LINE = (312, 40), 20  # a box's width and height; the width of a lane that holds arrows only
_GAP = (26, 22)  # between lanes, and between ranks
_LEFT, _TOP = 190, 64  # where the names of blocks and the title stand
_COLOURS = {  # light forms of Okabe and Ito's, which colour-blind people can tell apart
    "convolution": "#cfe6f5",
    "pooling": "#fbe3b5",
    "dense": "#ecd3e4",
    "joint": "#cdeadf",
    "image": "#ffffff",
    "other": "#ececec",
}


def draw(summary: Summary) -> str:
    """The picture as the text of an SVG, with what each layer sees and costs in it; tooltips tell the rest."""
    diagram = diagram_of(summary)
    places = _placed(diagram)
    width = places.width + 24
    height = places.bottom + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="system-ui, Helvetica, Arial, sans-serif" font-size="12" role="img">',
        f"<title>{escape(_headline(summary))}</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#444"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="16" y="26" font-size="17" font-weight="600">{escape(summary.model)}</text>',
        f'<text x="16" y="45" fill="#555">{escape(_costs(summary))}</text>',
        *(_block(block, places) for block in diagram.blocks),
        *(_arrow(source, target, places) for source, target in diagram.arrows),
        *(_box(number, box, places) for number, box in enumerate(diagram.boxes)),
        *_legend(diagram, height),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


# --- places -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Places:
    """Lanes run down the picture side by side; ranks are its rows."""

    ranks: tuple[int, ...]  # of each box
    lanes: tuple[int, ...]
    runs: dict[tuple[int, int], int]  # the lane in which an arrow over several ranks runs down
    lefts: tuple[int, ...]  # of each lane
    widths: tuple[int, ...]

    def middle(self, lane: int) -> float:
        return self.lefts[lane] + self.widths[lane] / 2

    def top(self, rank: int) -> int:
        return _TOP + rank * (_BOX[1] + _GAP[1])

    @property
    def width(self) -> int:
        return self.lefts[-1] + self.widths[-1]

    @property
    def bottom(self) -> int:
        return self.top(max(self.ranks)) + _BOX[1]


def _placed(diagram: Diagram) -> _Places:
    ranks = _ranks(diagram)
    taken: set[tuple[int, int]] = set()
    lanes = _lanes(diagram, ranks, taken)
    runs = {}
    for source, target in sorted(diagram.arrows, key=lambda arrow: ranks[arrow[1]] - ranks[arrow[0]]):
        between = range(ranks[source] + 1, ranks[target])
        if between:
            runs[source, target] = _free([lanes[source], *range(1, len(taken) + 2)], between, taken)
    num_lanes = 1 + max((*lanes, *runs.values()))
    widths = tuple(_BOX[0] if lane in lanes else _LINE for lane in range(num_lanes))
    lefts = tuple(_LEFT + sum(widths[:lane]) + lane * _GAP[0] for lane in range(num_lanes))
    return _Places(ranks, lanes, runs, lefts, widths)


def _ranks(diagram: Diagram) -> tuple[int, ...]:
    """The longest way from the image, in boxes."""
    ranks = [0] * len(diagram.boxes)
    for source, target in diagram.arrows:  # in the order of their targets, which run in order
        ranks[target] = max(ranks[target], ranks[source] + 1)
    return tuple(ranks)


def _lanes(diagram: Diagram, ranks: Sequence[int], taken: set[tuple[int, int]]) -> tuple[int, ...]:
    """The first branch goes on below its source, the others beside it; where branches join, the leftmost lane."""
    lanes: list[int] = []
    for number in range(len(diagram.boxes)):
        sources = [source for source, target in diagram.arrows if target == number]
        wanted = min((lanes[source] for source in sources), default=0)
        lanes.append(_free(range(wanted, wanted + len(diagram.boxes) + 1), [ranks[number]], taken))
    return tuple(lanes)


def _free(candidates: Sequence[int], ranks: Sequence[int], taken: set[tuple[int, int]]) -> int:
    lane = next(lane for lane in candidates if not any((lane, rank) in taken for rank in ranks))
    taken.update((lane, rank) for rank in ranks)
    return lane


# --- shapes -----------------------------------------------------------------------------------------------------------


def _box(number: int, box: Box, places: _Places) -> str:
    left, top = places.lefts[places.lanes[number]], places.top(places.ranks[number])
    middle = left + _BOX[0] / 2
    return (
        f'<g><title>{escape(box.told)}</title><rect x="{left}" y="{top}" width="{_BOX[0]}" height="{_BOX[1]}" rx="6" '
        f'fill="{_COLOURS[box.kind]}" stroke="#555"/>'
        f'<text x="{middle}" y="{top + 17}" text-anchor="middle" font-weight="600">{escape(_cut(box.title, 46))}</text>'
        f'<text x="{middle}" y="{top + 32}" text-anchor="middle" font-size="10.5" fill="#444">'
        f"{escape(_cut(box.facts, 60))}</text></g>"
    )


def _arrow(source: int, target: int, places: _Places) -> str:
    top, end = places.top(places.ranks[source]) + _BOX[1], places.top(places.ranks[target]) - 2
    x0, x1 = places.middle(places.lanes[source]), places.middle(places.lanes[target])
    half = _GAP[1] / 2
    run = places.middle(places.runs.get((source, target), places.lanes[source]))
    if x0 == x1 == run:
        path = f"M{x0} {top}V{end}"
    elif (source, target) not in places.runs:
        path = f"M{x0} {top}V{top + half}H{x1}V{end}"
    else:
        near = f"M{x0} {top}V{top + half - 3}H{run}" if run != x0 else f"M{x0} {top}"
        side = places.lefts[places.lanes[target]] + _BOX[0] + 2 if run > x1 else places.lefts[places.lanes[target]] - 2
        path = f"{near}V{end + 2 + _BOX[1] / 2}H{side}"
    is_skip = (source, target) in places.runs
    style = 'stroke="#0072b2" stroke-width="2"' if is_skip else 'stroke="#444" stroke-width="1.3"'
    return f'<path d="{path}" fill="none" {style} marker-end="url(#tip)"/>'


def _block(block: Block, places: _Places) -> str:
    ranks = [places.ranks[box] for box in block.boxes]
    top, bottom = places.top(min(ranks)) - 8, places.top(max(ranks)) + _BOX[1] + 8
    right = _LEFT - 22
    times = (
        f'<text x="{right}" y="{top + 40}" text-anchor="end" font-size="17" font-weight="600">x {block.times}</text>'
    )
    return (
        f'<rect x="12" y="{top}" width="{places.width - 2}" height="{bottom - top}" rx="10" fill="#f7f7f7" '
        f'stroke="#ccc" stroke-dasharray="4 3"/><text x="{right}" y="{top + 19}" text-anchor="end" fill="#333">'
        f"{escape(_cut(block.name, 24))}</text>{times if block.times > 1 else ''}"
    )


def _legend(diagram: Diagram, height: int) -> Iterator[str]:
    left = 16
    for kind in dict.fromkeys(box.kind for box in diagram.boxes):
        yield (
            f'<rect x="{left}" y="{height - 24}" width="14" height="14" rx="3" fill="{_COLOURS[kind]}" stroke="#555"/>'
            f'<text x="{left + 20}" y="{height - 13}" fill="#333">{kind}</text>'
        )
        left += 40 + 7 * len(kind)


# --- words ------------------------------------------------------------------------------------------------------------


def _headline(summary: Summary) -> str:
    return f"{summary.model} on {' x '.join(map(str, summary.input))}"


def _costs(summary: Summary) -> str:
    trace = summary.trace
    return f"{trace.parameters:,} parameters, {trace.macs:,} MACs for one image"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"

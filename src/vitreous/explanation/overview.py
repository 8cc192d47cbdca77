"""One image through one network, explained: pictures, a page around them, and a document with the numbers.

attribution    which pixels speak for the answer, by three methods, and which of them to believe
maps           what the layers make of the image, one figure for each size of map; the first filters
field          what a unit can see, and what it looks at, before training and after
residual       how much of each sum came by the skip
routing        where the max pools sent the gradient
shifts         whether the answer stays when the image moves
"""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from torch import Tensor, nn

from vitreous import storage
from vitreous.errors import UserError
from vitreous.explanation import pictures
from vitreous.explanation.attribution import Attribution, grad_cam, integrated_gradients, occlusion
from vitreous.explanation.equivariance import first_change, shift_consistency, shifted_maps
from vitreous.explanation.faithfulness import Faithfulness, judge, most_faithful
from vitreous.explanation.features import filters, first_convolution, strongest
from vitreous.explanation.influence import influence
from vitreous.explanation.pictures import Pixels
from vitreous.explanation.residual import residual_shares
from vitreous.explanation.routing import routes
from vitreous.progress import SILENT, Progress
from vitreous.trace import Trace
from vitreous.trace.receptive_field import receptive_fields
from vitreous.trace.values import Values, record_values

_MAPS = 11  # channels of a layer that are shown beside the image
_MOST_POOLS = 5
_DPI = 110


@dataclass(frozen=True)
class Shown:
    """A part of an explanation: its picture's file, or why there is none, and how to read it."""

    name: str
    title: str
    file: str | None
    text: str


@dataclass(frozen=True)
class Explanation:
    """What was said, why, and where the pictures are."""

    out: Path
    image: str
    label: str
    confidence: float
    target: str
    believed: str | None  # the method that its deletion and insertion curves speak for; None where none beats chance
    parts: tuple[Shown, ...]
    numbers: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The document of ``vitreous explain --json``, which is also written beside the pictures."""
        return {
            "image": self.image,
            "label": self.label,
            "confidence": self.confidence,
            "class": self.target,
            "believe": self.believed,
            "files": {part.name: part.file for part in self.parts if part.file},
            "absent": {part.name: part.text for part in self.parts if not part.file},
            **self.numbers,
        }

    def lines(self) -> Iterator[str]:
        """In short, for a terminal."""
        yield f"{self.image}: {self.label}, {self.confidence:.1%} sure"
        about = f"explained for {self.target!r}: " if self.target != self.label else ""
        yield about + _believe(self.believed)
        for part in self.parts:
            yield f"  {part.name:<12} {part.text}"
        yield f"pictures: {self.out / 'index.html'}"


@dataclass(frozen=True)
class _Subject:
    """What all parts look at."""

    network: nn.Module
    input_1CHW: Tensor
    pixels_HWC: Pixels
    target: int
    target_name: str
    values: Values
    trace: Trace
    fresh: nn.Module | None


_Part = Callable[[_Subject], Iterator[tuple[Shown, Figure | None, dict[str, Any]]]]


def explain_image(
    network: nn.Module,
    input_1CHW: Tensor,
    pixels_HWC: Pixels,
    classes: Sequence[str],
    out: Path,
    *,
    name: str,
    target: int | None = None,
    fresh: nn.Module | None = None,
    progress: Progress = SILENT,
) -> Explanation:
    """Explain one answer and write the pictures, ``explanation.json`` and ``index.html`` into a new folder.

    Args:
        network: any, with its weights; left as it was found.
        input_1CHW: the image as the network takes it.
        pixels_HWC: the same image as people see it.
        classes: names of the logits.
        out: the folder, which must not exist.
        name: of the image.
        target: the class to explain; by default the answer.
        fresh: the same architecture with its first weights, to compare what training made of the receptive field.
        progress: where a bar goes.

    Raises:
        UserError: ``out`` exists, or the network does not take the image.
    """
    if out.exists():
        raise UserError(f"{out} exists; name a new folder with --out.")
    values = record_values(network, input_1CHW, with_gradients=True)
    probabilities = values.result.detach()[0].double().softmax(0)
    answer = int(probabilities.argmax())
    chosen = answer if target is None else target
    traced = Trace(values.recording, receptive_fields(values.recording))
    subject = _Subject(network, input_1CHW, pixels_HWC, chosen, classes[chosen], values, traced, fresh)
    out.mkdir(parents=True)
    parts: list[Shown] = []
    numbers: dict[str, Any] = {}
    with progress.task("explaining", len(_PARTS), "parts") as task:
        for part in _PARTS:
            for shown, figure, found in part(subject):
                if figure is not None and shown.file is not None:
                    storage.write_atomic(out / shown.file, _png(figure))
                parts.append(shown)
                numbers.update(found)
            task.advance()
    believed = numbers.get("attribution", {}).get("believe")
    confidence = float(probabilities[answer])
    made = Explanation(out, name, classes[answer], confidence, classes[chosen], believed, tuple(parts), numbers)
    storage.write_json(out / "explanation.json", made.to_json())
    storage.write_atomic(out / "index.html", _page(made).encode())
    return made


# --- parts ------------------------------------------------------------------------------------------------------------


def _attribution(subject: _Subject) -> Iterator[tuple[Shown, Figure | None, dict[str, Any]]]:
    network, image, target = subject.network, subject.input_1CHW, subject.target
    maps: list[Attribution] = []
    absent = ""
    try:
        maps.append(grad_cam(network, image, target))
    except UserError as error:
        absent = f" Grad-CAM is not there: {error}"
    maps.append(integrated_gradients(network, image, target))
    maps.append(occlusion(network, image, target).probability)
    steps, orders = _effort(subject.trace.macs)
    judged = judge(network, image, target, maps, steps=steps, orders=orders)
    best = most_faithful(judged)
    believed = None if best is None else best.attribution.method
    text = _believe(believed) + absent
    figure = pictures.attribution_figure(subject.pixels_HWC, judged, subject.target_name)
    facts = {
        "attribution": {"believe": believed, "methods": [_judged_json(each) for each in judged]},
    }
    yield Shown("attribution", "What speaks for the answer", "attribution.png", text), figure, facts
    curves = pictures.faithfulness_figure(judged, subject.target_name)
    text = "pixels are hidden, or shown, in the order of each map; chance is the same with squares in random order"
    yield Shown("faithfulness", "Which map to believe", "faithfulness.png", text), curves, {}


def _effort(macs: int) -> tuple[int, int]:
    """Steps and random orders that a network's size allows: seconds for a small one, half a minute for ResNet-50."""
    return (32, 10) if macs < 0.5e9 else (16, 8) if macs < 2e9 else (10, 6)


def _judged_json(each: Faithfulness) -> dict[str, Any]:
    return {
        "method": each.attribution.method,
        "layer": each.attribution.layer,
        "note": each.attribution.note,
        "deletion_area": each.curves.deletion_area,
        "insertion_area": each.curves.insertion_area,
        "score": each.score,
        "chance_deviation": each.chance_deviation,
        "is_better_than_chance": each.is_better_than_chance,
        "completeness_error": each.attribution.completeness_error,
    }


def _maps(subject: _Subject) -> Iterator[tuple[Shown, Figure | None, dict[str, Any]]]:
    stages = _stages(subject.trace)
    if not stages:
        yield Shown("maps", "Feature maps", None, "this network has no map whose units lie on the image"), None, {}
    names = subject.trace.recording.names
    rows = []
    for order, number in enumerate(stages, start=1):
        maps_CHW = subject.values.outputs[number][0][0]
        fields = subject.trace.fields[number]
        channels = strongest(maps_CHW, _MAPS)
        boxes = _middle(subject.trace, number, subject.pixels_HWC.shape[:2])
        size = " x ".join(map(str, maps_CHW.shape))
        sees = " x ".join(str(field.size) for field in fields)
        title = f"{names[number]}: {size}, a unit sees {sees} px; the strongest channels"
        figure = pictures.maps_figure(maps_CHW, channels, title, subject.pixels_HWC, boxes)
        file = f"maps-{order}.png"
        rows.append({"layer": names[number], "shape": list(maps_CHW.shape), "channels": channels, "file": file})
        yield Shown(f"maps-{order}", f"Feature maps of {names[number]}", file, title), figure, {}
    yield from _filters(subject, rows)


def _filters(subject: _Subject, rows: list[dict[str, Any]]) -> Iterator[tuple[Shown, Figure | None, dict[str, Any]]]:
    try:
        layer = first_convolution(subject.network, subject.input_1CHW)
    except UserError as error:
        yield Shown("filters", "Filters", None, str(error)), None, {"maps": rows}
        return
    figure = pictures.filters_figure(filters(subject.network, layer), layer)
    text = f"the weights of {layer}, all on one scale"
    yield Shown("filters", "Filters of the first convolution", "filters.png", text), figure, {"maps": rows}


def _stages(trace: Trace) -> list[int]:
    """For each size of map the last one that a block gave, or the last of all, in running order."""
    blocks = (each for each in trace.recording.modules if len(each.operations) > 1 and each.path)
    given = {ref.operation for block in blocks for ref in block.outputs}
    last: dict[tuple[int, ...], int] = {}
    for number, fields in enumerate(trace.fields):
        shape = trace.operations[number].outputs[0]
        on_image = number > 0 and len(shape) == 4 and len(fields) == 2 and all(field.has_places for field in fields)
        if on_image and min(shape[2:]) > 1 and (number in given or last.get(shape[2:]) not in given):
            last[shape[2:]] = number
    return sorted(last.values())


def _middle(trace: Trace, number: int, sides: Sequence[int]) -> list[range] | None:
    """What the middle unit of a map can see of the image."""
    units = trace.operations[number].outputs[0][2:]
    fields = [each.field for each in trace.fields[number]]
    if any(field is None for field in fields):
        return None
    known = zip(fields, units, sides, strict=True)
    return [field.clipped(extent // 2, side) for field, extent, side in known if field is not None]


def _field(subject: _Subject) -> Iterator[tuple[Shown, Figure | None, dict[str, Any]]]:
    title = "What a unit can see, and what it looks at"
    try:
        stages = _stages(subject.trace)
        last = stages[-1] if stages else None
        found = [("after training", influence(subject.network, subject.input_1CHW, last))]
        if subject.fresh is not None:
            found.insert(0, ("before training", influence(subject.fresh, subject.input_1CHW, last)))
    except UserError as error:
        yield Shown("field", title, None, str(error)), None, {}
        return
    figure = pictures.influence_figure(subject.pixels_HWC, found)
    text = "the frame is the theoretical receptive field of a middle unit of the last map, bright is what it looks at"
    facts = {"influence": {name: each.to_json() for name, each in found}}
    yield Shown("field", title, "field.png", text), figure, facts


def _residual(subject: _Subject) -> Iterator[tuple[Shown, Figure | None, dict[str, Any]]]:
    shares = residual_shares(subject.values, subject.target)
    title = "By the skip or by the branch"
    if not shares:
        yield Shown("residual", title, None, "this network adds no skip to a branch"), None, {"residual": []}
        return
    mean = sum(share.skip.projection or 0.0 for share in shares) / len(shares)
    text = f"{len(shares)} additions; on average {mean:.0%} of a sum came by the skip"
    facts = {"residual": [share.to_json() for share in shares]}
    yield Shown("residual", title, "residual.png", text), pictures.residual_figure(shares), facts


def _routing(subject: _Subject) -> Iterator[tuple[Shown, Figure | None, dict[str, Any]]]:
    found = routes(subject.values, subject.target)
    facts = {"routing": [route.to_json() for route in found]}
    winners = [route for route in found if route.kind == "max" and route.gradient_map.dim() == 2][:_MOST_POOLS]
    title = "Where the max pools sent the gradient"
    if not winners:
        yield Shown("routing", title, None, "this network has no max pool over a map"), None, facts
        return
    text = "all of a window's gradient goes to its largest number, the first of several; bright got the most"
    yield Shown("routing", title, "routing.png", text), pictures.routing_figure(subject.pixels_HWC, winners), facts


def _shifts(subject: _Subject) -> Iterator[tuple[Shown, Figure | None, dict[str, Any]]]:
    title = "When the image moves"
    try:
        found = shift_consistency(subject.network, subject.input_1CHW, border="edge")
    except UserError as error:
        yield Shown("shifts", title, None, str(error)), None, {}
        return
    changed = first_change(shifted_maps(subject.network, subject.input_1CHW, 0, 1))
    breaks = (
        "" if changed is None else f"; moved by one pixel, {changed.name} is the first map that does not move along"
    )
    steps = max(max(shift.down, shift.right) for shift in found.shifts)
    text = f"moved by 1 to {steps} px, the answer stays in {found.same.value:.0%} of the cases{breaks}"
    facts = {"shifts": found.to_json() | {"first_map_that_changes": None if changed is None else changed.name}}
    figure = pictures.consistency_figure(found, subject.target_name)
    yield Shown("shifts", title, "shifts.png", text), figure, facts


_PARTS: tuple[_Part, ...] = (_attribution, _maps, _field, _residual, _routing, _shifts)


# --- words and files --------------------------------------------------------------------------------------------------


def _believe(method: str | None) -> str:
    if method is None:
        return "believe none of the maps: hiding pixels in their order does no more than hiding them by chance"
    return f"believe {method} first: hiding and showing pixels in its order moves the answer most"


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DPI, metadata={"Software": None})
    return file.getvalue()


def _page(made: Explanation) -> str:
    """The page around the pictures; they lie beside it."""
    environment = Environment(
        loader=PackageLoader("vitreous.explanation"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html.jinja").render(made=made, believe=_believe(made.believed))

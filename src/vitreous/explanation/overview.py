"""One image through one network, explained: pictures, a page around them, and a document with the numbers.

attribution    which pixels speak for the answer, by three methods, and which of them to believe
maps           what the layers make of the image, one figure for each size of map; the first filters
field          what a unit can see, and what it looks at, before training and after
residual       how much of each sum came by the skip
routing        where the max pools sent the gradient
shifts         whether the answer stays when the image moves
"""

import base64
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from torch import Tensor, nn

from vitreous import storage
from vitreous.errors import UserError
from vitreous.explanation import pictures
from vitreous.explanation.attribution import (
    Attribution,
    channels_first,
    grad_cam,
    integrated_gradients,
    occlusion,
)
from vitreous.explanation.equivariance import first_change, shift_consistency, shifted_maps
from vitreous.explanation.faithfulness import Faithfulness, judge, most_faithful
from vitreous.explanation.features import filters, first_convolution, strongest
from vitreous.explanation.influence import influence
from vitreous.explanation.pictures import Pixels
from vitreous.explanation.residual import residual_shares
from vitreous.explanation.routing import routes
from vitreous.predictor import confidence_text
from vitreous.progress import SILENT, Progress
from vitreous.trace import SeenField, Trace
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
    text: str  # what was found, in a line
    reading: str = ""  # how to read the picture


_Found = tuple[Shown, Figure | None, dict[str, Any]]


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
        yield f"{self.image}: {self.label}, {confidence_text(self.confidence)} sure"
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
    answer_name: str  # may be another: a person can ask about any class
    values: Values
    trace: Trace
    fresh: nn.Module | None


@dataclass(frozen=True)
class _Part:
    """One of the chapters; where it cannot be made, its name and title stand beside the reason."""

    name: str
    title: str
    make: Callable[[_Subject], Iterator[_Found]]


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
    temperature: float = 1.0,
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
        temperature: divides the logits for the confidence that is told, as prediction does; the maps and curves are of
            the network's own probabilities.
        progress: where a bar goes.

    Raises:
        UserError: ``out`` exists, the network does not take the image, it does not give one logit for each of the
            classes, or there is no such class.
        MachineError: the folder cannot be written.
    """
    if out.exists():
        raise UserError(f"{out} exists; name a new folder with --out.")
    values = record_values(network, input_1CHW, with_gradients=True)
    logits_K = _logits(values, classes)
    answer = int(logits_K.argmax())
    chosen = answer if target is None else target
    if not 0 <= chosen < len(classes):
        raise UserError(f"there is no class {chosen}; the network's {len(classes)} are counted from 0.")
    traced = Trace(values.recording, receptive_fields(values.recording))
    subject = _Subject(network, input_1CHW, pixels_HWC, chosen, classes[chosen], classes[answer], values, traced, fresh)
    parts: list[Shown] = []
    files: dict[str, bytes] = {}
    numbers: dict[str, Any] = {}
    with progress.task("explaining", len(_PARTS), "parts") as task:
        for part in _PARTS:
            for shown, figure, found in _made(part, subject):
                if figure is not None and shown.file is not None:
                    files[shown.file] = _png(figure)
                parts.append(shown)
                numbers.update(found)
            task.advance()
    believed = numbers.get("attribution", {}).get("believe")
    confidence = float((logits_K.double() / temperature).softmax(0)[answer])
    made = Explanation(out, name, classes[answer], confidence, classes[chosen], believed, tuple(parts), numbers)
    _write(made, files)
    return made


def _logits(values: Values, classes: Sequence[str]) -> Tensor:
    """The logits of the image's classes, K, in double precision."""
    shape = tuple(values.result.shape)
    if shape != (1, len(classes)):
        raise UserError(f"the network gives {shape} for one image, not one logit for each of {len(classes)} classes.")
    return values.result.detach()[0].double().cpu()


def _made(part: _Part, subject: _Subject) -> Iterator[_Found]:
    """What a network lacks for a picture is said in its place; it costs no other picture."""
    try:
        yield from part.make(subject)
    except UserError as error:
        yield Shown(part.name, part.title, None, str(error)), None, {}


# --- parts ------------------------------------------------------------------------------------------------------------


def _attribution(subject: _Subject) -> Iterator[_Found]:
    network, image, target = subject.network, subject.input_1CHW, subject.target
    ways: dict[str, Callable[[], Attribution]] = {
        "Grad-CAM": lambda: grad_cam(network, image, target),
        "Integrated gradients": lambda: integrated_gradients(network, image, target),
        "Occlusion": lambda: occlusion(network, image, target).probability,
    }
    maps: list[Attribution] = []
    absent: dict[str, str] = {}
    for way, make in ways.items():
        try:
            maps.append(make())
        except UserError as error:
            absent[way] = str(error)
    steps, orders = _effort(subject.trace.macs)
    judged = judge(network, image, target, maps, steps=steps, orders=orders)
    best = most_faithful(judged)
    believed = None if best is None else best.attribution.method
    facts = {
        "attribution": {
            "believe": believed,
            "methods": [_judged_json(each) for each in judged],
            "absent": absent,
        }
    }
    notes = [f"{each.method} ({', '.join(filter(None, (each.layer, each.note)))})" for each in maps]
    text = "; ".join([*notes, *(f"{way} is not there: {why.rstrip('.')}" for way, why in absent.items())])
    reading = (
        "Red speaks for the class, blue against it, and where the image is grey the map says nothing. Each map has a "
        "scale of its own, which ends where its strongest hundredth of the pixels begins. Below its name stands "
        "whether hiding and showing pixels in its order does more than chance, and how much."
    )
    figure = pictures.attribution_figure(subject.pixels_HWC, judged, subject.target_name)
    yield Shown("attribution", _ATTRIBUTION, "attribution.png", text, reading), figure, facts
    curves = pictures.faithfulness_figure(judged, subject.target_name)
    text = "; ".join(f"{each.attribution.method} {each.score:+.2g}: {each.verdict}" for each in judged)
    reading = (
        "Pixels are hidden, or shown, in the order of each map. A map that names what the network goes by falls early "
        "when these pixels are hidden, and rises early when they are shown: the score is the area below minus the "
        "area above. The grey band is chance: squares as coarse as the map, in random order, twice their deviation."
    )
    yield Shown("faithfulness", "Which map to believe", "faithfulness.png", text, reading), curves, {}


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
        "grain": each.grain,
        "is_better_than_chance": each.is_better_than_chance,
        "completeness_error": each.attribution.completeness_error,
        "shares": each.curves.shares.tolist(),
        "deletion": each.curves.deletion.tolist(),
        "insertion": each.curves.insertion.tolist(),
    }


def _maps(subject: _Subject) -> Iterator[_Found]:
    stages = _stages(subject.trace)
    if not stages:
        yield Shown("maps", "Feature maps", None, "this network has no map whose units lie on the image"), None, {}
    names = subject.trace.recording.names
    rows = []
    for order, number in enumerate(stages, start=1):
        maps_CHW = channels_first(subject.trace, number, subject.values.outputs[number][0])
        fields = subject.trace.fields[number]
        channels = strongest(maps_CHW, _MAPS)
        boxes = _middle(subject.trace, number, subject.pixels_HWC.shape[:2])
        size = " x ".join(map(str, maps_CHW.shape))
        title = f"{names[number]}: {size}, a unit sees {_sees(fields)} px; the strongest channels"
        figure = pictures.maps_figure(maps_CHW, channels, title, subject.pixels_HWC, boxes)
        file = f"maps-{order}.png"
        rows.append({"layer": names[number], "shape": list(maps_CHW.shape), "channels": channels, "file": file})
        reading = (
            "The channels with the largest mean absolute value, all on one scale; the frame in the image is what the "
            "unit in the middle of each can see."
        )
        yield Shown(f"maps-{order}", f"Feature maps of {names[number]}", file, title, reading), figure, {}
    yield from _filters(subject, rows)


def _filters(subject: _Subject, rows: list[dict[str, Any]]) -> Iterator[_Found]:
    try:
        layer = first_convolution(subject.network, subject.input_1CHW)
    except UserError as error:
        yield Shown("filters", "Filters", None, str(error)), None, {"maps": rows}
        return
    figure = pictures.filters_figure(filters(subject.network, layer), layer)
    text = f"the weights of {layer}, all on one scale"
    reading = "What the network looks for first: a filter answers most where the image looks as it does."
    yield Shown("filters", "Filters of the first convolution", "filters.png", text, reading), figure, {"maps": rows}


def _stages(trace: Trace) -> list[int]:
    """The last operation of each size of map, in running order."""
    last: dict[tuple[int, ...], int] = {}
    for number in range(1, len(trace.operations)):
        units = _units(trace, number)
        if units and min(units) > 1:
            last[units] = number
    return sorted(last.values())


def _units(trace: Trace, number: int) -> tuple[int, ...]:
    """How many units an operation's map has down and across; none where they have no places."""
    shape = trace.operations[number].outputs[0]
    return tuple(shape[dim] for dim in trace.map_dims(number) or ())


def _middle(trace: Trace, number: int, sides: Sequence[int]) -> list[range]:
    """What the middle unit of a map can see of the image."""
    axes = zip(trace.fields[number], _units(trace, number), sides, strict=True)
    return [field.clipped(extent // 2, side) for field, extent, side in axes]


def _sees(fields: Sequence[SeenField]) -> str:
    return " x ".join("?" if field.size is None else f"{float(field.size):g}" for field in fields)


def _field(subject: _Subject) -> Iterator[_Found]:
    stages = _stages(subject.trace)
    last = stages[-1] if stages else None
    found = [("after training", influence(subject.network, subject.input_1CHW, last))]
    if subject.fresh is not None:
        found.insert(0, ("before training", influence(subject.fresh, subject.input_1CHW, last)))
    figure = pictures.influence_figure(subject.pixels_HWC, found)
    seen = found[-1][1]
    sees = f"a unit of {seen.layer} can see {_sees(subject.trace.fields[seen.operation])} px"
    looks = "; ".join(
        f"{name}, 95 % of its influence comes from {each.share_of_box:.0%} of what it sees of the image"
        for name, each in found
        if each.share_of_box is not None
    )
    reading = (
        "The frame is the theoretical receptive field of the last map's middle unit, cut where the image ends. Bright "
        "is what the unit looks at: the gradient towards each pixel, for this image. The dashed ellipse has two "
        "standard deviations of it."
    )
    facts = {"influence": {name: each.to_json() for name, each in found}}
    yield Shown("field", _FIELD, "field.png", "; ".join(filter(None, (sees, looks))), reading), figure, facts


def _residual(subject: _Subject) -> Iterator[_Found]:
    has_gradient = subject.values.result.requires_grad
    shares = residual_shares(subject.values, subject.target if has_gradient else None)
    if not shares:
        yield Shown("residual", _RESIDUAL, None, "this network adds no skip to a branch"), None, {"residual": []}
        return
    mean = sum(share.skip.projection or 0.0 for share in shares) / len(shares)
    text = (
        f"one addition; {mean:.0%} of its sum came by the skip"
        if len(shares) == 1
        else f"{len(shares)} additions; on average {mean:.0%} of a sum came by the skip"
    )
    reading = (
        "At each addition the shorter way from the common source is the skip, the longer one the branch. A way's share "
        "is its projection onto the sum, over all channels and places."
    )
    facts = {"residual": [share.to_json() for share in shares]}
    yield Shown("residual", _RESIDUAL, "residual.png", text, reading), pictures.residual_figure(shares), facts


def _routing(subject: _Subject) -> Iterator[_Found]:
    if not subject.values.result.requires_grad:
        raise UserError("the answer has no gradient towards the image, so none goes through a pool")
    found = routes(subject.values, subject.target)
    facts = {"routing": [route.to_json() for route in found]}
    winners = [route for route in found if route.kind == "max" and route.gradient_map.dim() == 2]
    if not winners:
        yield Shown("routing", _ROUTING, None, "this network has no max pool over a map"), None, facts
        return
    text = "; ".join(f"{each.layer}: {each.share_without_gradient:.0%} of its input got none" for each in winners)
    reading = (
        "All of a window's gradient goes to its largest number, the first of several. Each unit of a pool's input "
        "stands where the middle of what it sees lies on the image; bright got the most."
    )
    shown = [(route, subject.trace.fields[route.source_operation]) for route in winners[:_MOST_POOLS]]
    figure = pictures.routing_figure(subject.pixels_HWC, shown)
    yield Shown("routing", _ROUTING, "routing.png", text, reading), figure, facts


def _shifts(subject: _Subject) -> Iterator[_Found]:
    found = shift_consistency(subject.network, subject.input_1CHW, border="edge")
    changed = first_change(shifted_maps(subject.network, subject.input_1CHW, 0, 1))
    breaks = (
        "" if changed is None else f"; moved by one pixel, {changed.name} is the first map that does not move along"
    )
    steps = max(max(shift.down, shift.right) for shift in found.shifts)
    by = "1 px" if steps == 1 else f"1 to {steps} px"
    text = f"moved by {by}, the answer stays in {found.same.value:.0%} of the cases{breaks}"
    reading = "What moves in at the border repeats the image's edge. A level line is a network that does not mind."
    facts = {"shifts": found.to_json() | {"first_map_that_changes": None if changed is None else changed.name}}
    figure = pictures.consistency_figure(found, subject.answer_name)
    yield Shown("shifts", _SHIFTS, "shifts.png", text, reading), figure, facts


_ATTRIBUTION = "What speaks for the answer"
_FIELD = "What a unit can see, and what it looks at"
_RESIDUAL = "By the skip or by the branch"
_ROUTING = "Where the max pools sent the gradient"
_SHIFTS = "When the image moves"

_PARTS = (
    _Part("attribution", _ATTRIBUTION, _attribution),
    _Part("maps", "Feature maps", _maps),
    _Part("field", _FIELD, _field),
    _Part("residual", _RESIDUAL, _residual),
    _Part("routing", _ROUTING, _routing),
    _Part("shifts", _SHIFTS, _shifts),
)


# --- words and files --------------------------------------------------------------------------------------------------


def _believe(method: str | None) -> str:
    if method is None:
        return "believe none of the maps: hiding pixels in their order does no more than hiding them by chance"
    return f"believe {method} first: hiding and showing pixels in its order moves the answer most"


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DPI, bbox_inches="tight", metadata={"Software": None})
    return file.getvalue()


def _write(made: Explanation, files: Mapping[str, bytes]) -> None:
    """All at the end, under a temporary name: what is cut off leaves no folder behind."""
    temporary = made.out.with_name(f".{made.out.name}.{os.getpid()}.tmp")
    with storage.explained(made.out):
        temporary.mkdir(parents=True)
    try:
        for name, data in files.items():
            storage.write_atomic(temporary / name, data)
        storage.write_json(temporary / "explanation.json", made.to_json())
        storage.write_atomic(temporary / "index.html", _page(made, files).encode())
        storage.replace_directory(temporary, made.out)
    finally:
        storage.remove_directory(temporary)


def _page(made: Explanation, files: Mapping[str, bytes]) -> str:
    """One file that opens anywhere: the pictures are inside."""
    environment = Environment(
        loader=PackageLoader("vitreous.explanation"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    pictures = {name: f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}" for name, data in files.items()}
    page = environment.get_template("page.html.jinja")
    return page.render(
        made=made, sure=confidence_text(made.confidence), believe=_believe(made.believed), pictures=pictures
    )

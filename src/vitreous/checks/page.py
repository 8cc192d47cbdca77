"""The findings as one page that opens offline: pictures side by side, so that a reader can judge for themselves.

Names of files and classes come from strangers: every value is escaped, and the page forbids itself scripts and
requests (Content-Security-Policy).
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from vitreous import storage
from vitreous.checks import copies, shapes
from vitreous.checks.examined import Examined
from vitreous.checks.finding import Finding
from vitreous.data.decode import Pixels, decode
from vitreous.data.images import ArrayImages, BrokenImage, FileImages
from vitreous.data.preprocess import Preprocess
from vitreous.errors import DecodeError
from vitreous.evaluation.doubt import DoubtfulLabel

MAX_CLUSTERS = 24
MAX_COPIES = 6
MAX_SHAPES = 8
MAX_DOUBTFUL = 48
MAX_BLANK = 24
MAX_BROKEN = 200
MAX_NAMES = 200
_SIDE_PX = 160
_PIXELATED_UP_TO_PX = 64


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of the page with what stands below it; ``is_pixelated`` where its pixels should be seen as squares."""

    uri: str
    width: int
    height: int
    name: str
    label: str
    part: str
    is_pixelated: bool


@dataclass(frozen=True, slots=True)
class Cluster:
    """Images that are the same picture; ``more`` of them are not shown."""

    pictures: tuple[Picture, ...]
    kind: str
    is_equal: bool
    more: int


@dataclass(frozen=True, slots=True)
class Shape:
    """A picture of extreme shape and what the ways to fit it into the field make of it."""

    whole: Picture
    size: tuple[int, int]
    kept: float
    fitted: tuple[tuple[str, Picture], ...]


@dataclass(frozen=True, slots=True)
class Doubt:
    """A doubtful label with its picture."""

    picture: Picture
    likely: str
    label_probability: float
    likely_probability: float


@dataclass(frozen=True, slots=True)
class Group:
    """A section of clusters."""

    title: str
    text: str
    clusters: tuple[Cluster, ...]
    num: int


def write_page(data: Examined, findings: Sequence[Finding], doubtful: Sequence[DoubtfulLabel], path: Path) -> None:
    """Write the page of some findings.

    Args:
        doubtful: labels to be shown, the most doubtful first; their rows count in the source.

    Raises:
        MachineError: the disk is full or read-only; an older page is still whole.
    """
    storage.write_atomic(path, render(data, findings, doubtful).encode("utf-8", "backslashreplace"))


def render(data: Examined, findings: Sequence[Finding], doubtful: Sequence[DoubtfulLabel] = ()) -> str:
    """The page's text; the same data give the same text."""
    counts = np.bincount(data.source.labels, minlength=len(data.source.classes)).tolist()
    broken: tuple[BrokenImage, ...] = data.inspection.broken
    return (
        _environment()
        .get_template("data.html.jinja")
        .render(
            data=data,
            findings=findings,
            num={level: sum(each.severity == level for each in findings) for level in ("mend", "consider", "note")},
            most_names=MAX_NAMES,
            counts=sorted(zip(data.source.classes, counts, strict=True), key=lambda pair: -pair[1]),
            most_images=max(counts, default=0),
            groups=_groups(data),
            doubts=[_doubt(data, each) for each in doubtful[:MAX_DOUBTFUL]],
            num_doubts=len(doubtful),
            shapes=_shapes(data),
            blank=_blank(data, findings),
            broken=broken[:MAX_BROKEN],
            num_broken=len(broken),
        )
    )


def _groups(data: Examined) -> list[Group]:
    """Clusters by what is wrong with them; one that is wrong in two ways is shown under the graver."""
    equal, near = copies.conflicting(data)
    leaked = copies.leaked(data)
    shown: set[int] = set()
    sections = [
        (
            "One picture, two classes",
            "At least one of these labels is wrong, or the classes cannot be told apart by this picture. Where the "
            "copies only look alike, judge for yourself.",
            [*equal, *near],
        ),
        (
            "One picture, two parts",
            "What a network has seen in training says nothing about pictures that it has not seen.",
            leaked,
        ),
        (
            "One picture, more than once",
            "Copies within a class do no harm to the score, since all of them go to one part; they count more than "
            "others in training.",
            data.clusters,
        ),
    ]
    groups = []
    for title, text, clusters in sections:
        fresh = [each for each in clusters if int(each[0]) not in shown]
        shown |= {int(each[0]) for each in fresh}
        if fresh:
            groups.append(Group(title, text, tuple(_cluster(data, each) for each in fresh[:MAX_CLUSTERS]), len(fresh)))
    return groups


def _cluster(data: Examined, indices: copies.Cluster) -> Cluster:
    contents = {data.hashes[i] for i in indices}
    is_equal = len(contents) == 1
    kind = "byte for byte" if is_equal else "near duplicates" if len(contents) == len(indices) else "equal and near"
    return Cluster(
        tuple(_of_image(data, int(i)) for i in indices[:MAX_COPIES]), kind, is_equal, max(len(indices) - MAX_COPIES, 0)
    )


def _doubt(data: Examined, each: DoubtfulLabel) -> Doubt:
    likely = data.source.classes[each.likely]
    return Doubt(_of_image(data, each.row), likely, each.label_probability, each.likely_probability)


def _shapes(data: Examined) -> list[Shape]:
    """The most extreme pictures, one of each size, as the ways to fit them would show them."""
    if data.contract is None:
        return []
    kept = shapes.kept_by_crop(data)
    contract = data.contract
    scale = _SIDE_PX / max(contract.height, contract.width)
    field = round(contract.height * scale), round(contract.width * scale)
    found: dict[tuple[int, int], Shape] = {}
    for row in np.argsort(kept, kind="stable"):
        size = int(data.looks["height"][row]), int(data.looks["width"][row])
        if kept[row] > 0.95 or len(found) == MAX_SHAPES:
            break
        if size not in found:
            index = int(data.readable[row])
            pixels = _pixels(data, index)
            fitted = tuple(
                (fit, _picture(data, index, _fitted(pixels, field, fit))) for fit in ("crop", "pad", "squash")
            )
            found[size] = Shape(_of_image(data, index), size, float(kept[row]), fitted)
    return list(found.values())


def _fitted(pixels: Pixels, field: tuple[int, int], fit: str) -> Pixels:
    return Preprocess(height=field[0], width=field[1], channels=3, fit=fit).pixels(pixels)


def _blank(data: Examined, findings: Sequence[Finding]) -> list[Picture]:
    names = {name for each in findings if each.code == "nearly-constant" for name in each.files[:MAX_BLANK]}
    indices = [i for i in data.readable.tolist() if data.source.images.name(i) in names] if names else []
    return [_of_image(data, i) for i in indices[:MAX_BLANK]]


def _of_image(data: Examined, i: int) -> Picture:
    return _picture(data, i, _pixels(data, i))


def _pixels(data: Examined, i: int) -> Pixels:
    images = data.source.images
    if isinstance(images, ArrayImages):
        pixels: Pixels = images.array[i]
        return pixels
    assert isinstance(images, FileImages)
    try:
        return decode(images.paths[i], least=(_SIDE_PX, _SIDE_PX))
    except DecodeError:  # changed since it was examined
        return np.full((8, 8, 3), 128, np.uint8)


def _picture(data: Examined, i: int, pixels: Pixels) -> Picture:
    source = data.source
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    is_pixelated = max(image.size) <= _PIXELATED_UP_TO_PX
    image.thumbnail((_SIDE_PX, _SIDE_PX))
    file = io.BytesIO()
    if is_pixelated:
        image.save(file, "PNG", optimize=True)
    else:
        image.save(file, "JPEG", quality=82)
    kind = "png" if is_pixelated else "jpeg"
    scale = _SIDE_PX / max(image.size)
    return Picture(
        uri=f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}",
        width=max(round(image.width * scale), 1),
        height=max(round(image.height * scale), 1),
        name=source.images.name(i),
        label=source.classes[int(source.labels[i])],
        part="" if source.splits is None else str(source.splits[i]),
        is_pixelated=is_pixelated,
    )


def _visible(text: str) -> str:
    """Text in which a reader can see every character."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _finalize(value: Any) -> Any:
    return _visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache  # compiling the templates takes longer than filling them
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("vitreous.checks", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": "{:,}".format, "percent": "{:.0%}".format}
    return environment

"""``vitreous summary``."""

import csv
import math
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitreous.errors import UserError

if TYPE_CHECKING:
    from vitreous.trace.summary import Layer, Summary

EXAMPLE = "vitreous summary resnet50 --why layer1.0.conv2"
HEADER = ("layer", "does", "output", "parameters", "MACs", "map KiB", "sees", "jump", "on padding")
FOOT = """\
map KiB: what the layer's output takes in memory; empty where it is a view or is written in place.
sees: the receptive field of one unit in pixels, the border left aside (~: a bound, it may see less); jump: pixels from
  one unit to the next. on padding: the share of a kernel's taps that fall on it. --why LAYER shows the arithmetic."""


def command(
    model: Annotated[str, typer.Argument(help="A name, a pattern, timm:NAME, FILE.py:FACTORY or a run folder.")],
    input: Annotated[str | None, typer.Option(metavar="CxHxW", help="The image; by default the model's own.")] = None,
    classes: Annotated[int | None, typer.Option(min=1, help="How many; by default the model's own number.")] = None,
    depth: Annotated[int | None, typer.Option(min=1, help="Fold modules below this depth into one row.")] = None,
    why: Annotated[str | None, typer.Option(metavar="LAYER", help="The arithmetic behind this layer's row.")] = None,
    graph: Annotated[Path | None, typer.Option(metavar="FILE.svg", help="Draw the network into a new file.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print one row per layer, as CSV.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Tell what a network does, layer by layer: shapes, cost, memory, what a unit sees. Needs no weights, no data."""
    shape = None if input is None else shape_of(input)
    from vitreous.cli.console import print_json
    from vitreous.workflow.networks import summary

    found = summary(model, shape, num_classes=classes)
    if graph is not None:
        _draw(found, graph)
    if why is not None:
        _print_reasons(found, why)
    elif as_json:
        print_json(found.to_json(depth))
    elif as_csv:
        _print_csv(found, depth)
    else:
        _print(found, depth)


def shape_of(text: str) -> tuple[int, ...]:
    """An image's shape as it is typed.

    Raises:
        UserError: that is none.

    >>> shape_of("3x224x224"), shape_of("1,28,28")
    ((3, 224, 224), (1, 28, 28))
    """
    if not re.fullmatch(r"\d+[x,]\d+[x,]\d+", text.strip().lower()):
        raise UserError(f"--input {text!r} is no image's shape; channels, height and width are wanted: 3x224x224.")
    return tuple(map(int, re.split("[x,]", text.strip().lower())))


# --- the table --------------------------------------------------------------------------------------------------------


def _print(found: "Summary", depth: int | None) -> None:
    from vitreous.cli.console import print_table

    layers = found.layers if depth is None else found.folded(depth)
    print_table(HEADER, map(_cells, layers), right=(3, 4, 5, 6, 7, 8))
    print()
    for line in _totals(found):
        print(line)
    print()
    print(FOOT)


def _cells(layer: "Layer") -> Sequence[str]:
    sizes = [field.size for field in layer.fields]
    is_bound = any(field.status == "bound" for field in layer.fields)
    jumps = [field.jump for field in layer.fields if field.jump is not None]
    return (
        layer.path + (f" (run {layer.call + 1})" if layer.call else ""),
        layer.op,
        _times(layer.output_shape),
        f"{layer.params:,}" if layer.params else "",
        f"{layer.macs:,}" if layer.macs else "",
        f"{layer.map_bytes / 1024:,.1f}" if layer.map_bytes else "",
        "" if not sizes else "unknown" if None in sizes else "~" * is_bound + _sides([size or 0 for size in sizes]),
        _sides(jumps) if jumps and len(jumps) == len(sizes) else "",
        f"{layer.padding_share:.1%}" if layer.padding_share else "",
    )


def _totals(found: "Summary") -> Iterator[str]:
    trace, memory = found.trace, found.memory
    yield (
        f"{found.model} on {_times(found.input)}: {trace.parameters:,} parameters ({_mib(4 * trace.parameters)} in "
        f"fp32), {trace.macs:,} MACs = {2 * trace.macs:,} FLOPs for one image"
    )
    if trace.computed_macs != trace.macs:
        yield f"torch is given {trace.computed_macs:,} MACs to compute; the definition of some layers needs fewer"
    yield (
        f"memory of the maps, one image in fp32: {_mib(memory.peak)} at once when scoring, "
        f"{_mib(memory.for_training)} kept for the backward pass when training"
    )
    if trace.recording.is_one_path:
        yield "recorded on real zeros: the forward asks for values, and other values may take another path"
    yield from _last_field(found)
    dense = 1000 * math.prod(found.input)
    yield f"for comparison: one dense layer from this image to 1,000 units has {dense + 1000:,} parameters"


def _last_field(found: "Summary") -> Iterator[str]:
    if not found.last_fields:
        return
    sizes = [field.size for field in found.last_fields if field.size is not None]
    status = "exact" if all(field.status == "exact" for field in found.last_fields) else "a bound"
    seen = f"{_sides(sizes)} px" if len(sizes) == len(found.last_fields) else "unknown"
    jumps = [field.jump for field in found.last_fields if field.jump is not None]
    apart = [field.place.jump for field in found.last_fields if field.place is not None and field.field is None]
    steps = f", jump {_sides(jumps)}" if jumps else f", units {_sides(apart)} px apart" if apart else ""
    name = found.layers[(found.trace.last_map or 1) - 1].path
    yield f"receptive field of the last map, {name}: {seen}{steps}" + f" ({status})" * (seen != "unknown")
    if found.outgrown is not None:
        yield f"from {found.outgrown} on, a unit's field is wider than the image"


def _print_csv(found: "Summary", depth: int | None) -> None:
    from vitreous.trace.summary import COLUMNS, rows_of

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows_of(found.layers if depth is None else found.folded(depth)))


# --- one row ----------------------------------------------------------------------------------------------------------


def _print_reasons(found: "Summary", name: str) -> None:
    from vitreous.trace.formulas import reasons

    recording = found.trace.recording
    number = recording.find(name)
    if number is None:
        raise UserError(f"{found.model} has no layer {name!r}; {_near(name, recording.names[1:])}")
    operation = found.trace.operations[number]
    title = recording.names[number]
    print(f"{title}: {operation.function}" + ("" if title == name else f", which gives what {name} gives"))
    lines = reasons(found.trace, number)
    width = max(len(told) for told, _ in lines)
    for told, formula in lines:
        print(f"  {told:<{width}}  {formula}")


def _near(name: str, names: Sequence[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5) or list(names[:3])
    return f"there is {', '.join(near)}."


def _draw(found: "Summary", path: Path) -> None:
    from vitreous.storage import write_atomic
    from vitreous.trace.drawing import draw

    if path.exists():
        raise UserError(f"{path} exists; name a new file for --graph.")
    if path.suffix.lower() != ".svg":
        raise UserError(f"--graph writes an SVG, so the file's name ends in .svg, not {path.suffix or path.name!r}.")
    write_atomic(path, draw(found).encode())
    print(f"drawn: {path}", file=sys.stderr)


# --- words ------------------------------------------------------------------------------------------------------------


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _sides(sides: Sequence[object]) -> str:
    return str(sides[0]) if len(set(sides)) == 1 else "x".join(map(str, sides))


def _mib(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB" if count >= 2**18 else f"{count / 2**10:,.1f} KiB"

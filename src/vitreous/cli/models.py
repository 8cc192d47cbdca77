"""``vitreous models``."""

import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

EXAMPLE = "vitreous models resnet50"
COLUMNS = ("name", "year", "depth", "parameters", "MACs", "receptive field", "published", "key idea")
INDENT = " " * 17
FOOT = """
depth: layers with weights in a row, as the paper counts. Receptive field: one unit of the last map, before any border.
published: error of one network on ImageNet's validation images (MNIST's or CIFAR-10's test images) in its paper;
  * of the paper's network, of which this is a variant. `vitreous models NAME` tells table, crops and all other facts.
--model also takes a pattern, such as 'conv64 conv64 pool conv128 conv128 pool flatten fc256 fc'."""


def command(
    name: Annotated[str | None, typer.Argument(help="One of them, with all that is known of it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List the architectures that --model knows by name: what they cost, what they see, what was published of them."""
    from vitreous.cli.console import print_json, print_table
    from vitreous.workflow.networks import list_models

    rows = list_models(name)
    if as_json:
        print_json({"models": rows})
    elif name is not None:
        width = shutil.get_terminal_size((120, 24)).columns
        for line in _in_full(rows[0]):
            print("\n".join(textwrap.wrap(line, width, subsequent_indent=INDENT)) if line else "")
    else:
        print_table(COLUMNS, _wrapped([_cells(row) for row in rows]), right=(1, 2, 3, 4, 5, 6))
        print(FOOT)


# --- the table --------------------------------------------------------------------------------------------------------


def _cells(row: dict[str, Any]) -> list[str]:
    published = row["published"][0] if row["published"] else None
    return [
        row["name"],
        str(row["year"]),
        str(row["depth"]),
        f"{row['parameters']:,}",
        _short(row["macs"]),
        _receptive_field(row["receptive_field"]),
        "" if published is None else _error(published) + ("  " if published["is_this_form"] else " *"),
        row["idea"],
    ]


def _wrapped(rows: Sequence[Sequence[str]]) -> Iterator[Sequence[str]]:
    """The last column in as many lines as a terminal needs; one line each where the output is piped."""
    used = sum(max(map(len, column)) + 2 for column in zip(COLUMNS, *rows, strict=True)) - 2
    used -= max(map(len, (COLUMNS[-1], *(row[-1] for row in rows))))
    room = shutil.get_terminal_size().columns - used if sys.stdout.isatty() else 1000
    last = ""
    for *cells, idea in rows:
        first, *rest = ["as above"] if idea == last and len(idea) > room else textwrap.wrap(idea, max(room, 24))
        last = idea
        yield [*cells, first]
        for line in rest:
            yield [*("" for _ in cells), line]


def _short(count: int) -> str:
    """A count in thousands, millions or thousands of millions.

    >>> _short(416_520), _short(40_551_040), _short(4_089_184_256)
    ('417 k', '40.6 M', '4.09 G')
    """
    size, letter = next((size, letter) for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if count >= size)
    return f"{count / size:#.3g}".rstrip(".") + f" {letter}"


def _receptive_field(field: dict[str, Any]) -> str:
    if field["size"] is None:
        return "unknown"
    size = _sides(field["size"])
    return f"{size} px" if field["jump"] is None else f"{size} px, jump {_sides(field['jump'])}"


def _sides(sides: Sequence[int]) -> str:
    return str(sides[0]) if len(set(sides)) == 1 else "x".join(map(str, sides))


def _error(published: dict[str, Any]) -> str:
    is_imagenet = "ImageNet" in published["data"]
    error = published["error_percent"]
    return f"{error} % {published['measure']}" if is_imagenet else f"{error} % test "


# --- one network ------------------------------------------------------------------------------------------------------


def _in_full(row: dict[str, Any]) -> Iterator[str]:
    field = row["receptive_field"]
    yield f"{row['name']}, {row['year']}: {row['idea']}"
    yield ""
    facts = {
        "source": row["source"],
        "depth": f"{row['depth']} layers, as the paper counts",
        "input": f"{row['input']}, channels x height x width; the counts are for this size",
        "parameters": f"{row['parameters']:,}",
        "MACs": f"{row['macs']:,} for one image, biases not counted ({2 * row['macs']:,} FLOPs)",
        "receptive field": f"{_receptive_field(field)}, {field['status']}: one unit of the last map, before any border",
        "note": row["note"],
    }
    for title, fact in facts.items():
        if fact:
            yield f"{title:<{len(INDENT)}}{fact}"
    published = [_published(each) for each in row["published"]] or ["no error is known of"]
    for title, fact in zip(["published", *[""] * len(published)], published, strict=False):
        yield f"{title:<{len(INDENT)}}{fact}"


def _published(published: dict[str, Any]) -> str:
    number = published["num_networks"]
    facts = [
        f"{published['error_percent']} % {published['measure']} error on {published['data']}",
        "one network" if number == 1 else f"{number} networks together",
        published["how"],
        published["where"],
        published["note"],
        "" if published["is_this_form"] else "published for the paper's form",
    ]
    return "; ".join(fact for fact in facts if fact)

"""``vitreous explain``."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitreous.cli.options import AcceptChangedCode, Factory
from vitreous.errors import UserError

if TYPE_CHECKING:
    from vitreous.explanation.arithmetic import Sum, Term
    from vitreous.explanation.examples import Example
    from vitreous.workflow.explaining import LayerFacts

EXAMPLE = "vitreous explain runs/lamps lamp.jpg --layer conv1.conv --at 3,5,7"


def command(
    run: Annotated[str | None, typer.Argument(help="The run folder.")] = None,
    image: Annotated[str | None, typer.Argument(help="An image file.")] = None,
    layer: Annotated[str | None, typer.Option(help="One layer, as `vitreous summary` names it.")] = None,
    at: Annotated[str | None, typer.Option(metavar="C,Y,X", help="One number of the layer: the sum behind it.")] = None,
    call: Annotated[int, typer.Option(min=0, help="Which run of a layer that runs several times.")] = 0,
    top: Annotated[int, typer.Option(min=1, help="How many of a sum's terms are printed.")] = 12,
    target: Annotated[str | None, typer.Option("--class", help="Explain this class; by default the answer.")] = None,
    out: Annotated[Path | None, typer.Option(help="A new folder for the pictures.")] = None,
    example: Annotated[int | None, typer.Option(metavar="1|2|3", help="Work an example of the article.")] = None,
    model: Factory = None,
    accept_changed_code: AcceptChangedCode = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show what a run saw in an image: pictures; or, with --layer and --at, the sum behind one number."""
    place = None if at is None else _place(at)
    if example is not None:
        _print_example(example, as_json)
        return
    if run is None or image is None:
        raise UserError("explain wants a run folder and an image: vitreous explain runs/lamps lamp.jpg")
    if place is not None and layer is None:
        raise UserError(f"--at {at} is a place in a layer: name it with --layer; `vitreous summary {run}` lists them.")
    if layer is None and call:
        raise UserError(
            f"--call {call} is a run of a layer: name it with --layer; `vitreous summary {run}` lists them."
        )
    if layer is not None and (out is not None or target is not None):
        raise UserError("--out and --class are for the pictures of the whole network; with --layer leave them away.")
    asked = _typed(run, image, model, accept_changed_code)

    from vitreous.cli.console import console_progress, print_json
    from vitreous.workflow import explaining

    if layer is None:
        explanation = explaining.explain(
            run,
            image,
            out=out,
            target=target,
            model=model,
            accept_changed_code=accept_changed_code,
            progress=console_progress(quiet=as_json),
        )
        if as_json:
            print_json(explanation.to_json())
        else:
            print("\n".join(explanation.lines()))
    elif place is None:
        facts = explaining.describe_layer(
            run, image, layer, call=call, model=model, accept_changed_code=accept_changed_code
        )
        print_json(facts.to_json()) if as_json else _print_layer(facts, asked)
    else:
        found = explaining.explain_number(
            run, image, layer, place, call=call, model=model, accept_changed_code=accept_changed_code
        )
        if as_json:
            print_json(found.to_json())
        else:
            print("\n".join(sum_lines(found, top, asked)))


def _place(text: str) -> tuple[int, ...]:
    """Coordinates as they are typed; none where a layer gives a single number."""
    plain = text.replace(" ", "")
    if not re.fullmatch(r"(-?\d+(,-?\d+)*)?", plain, re.ASCII):
        raise UserError(f"--at {text!r} is no place; whole numbers are wanted, channel first: --at 3,5,7")
    return tuple(map(int, plain.split(","))) if plain else ()


def _typed(run: str, image: str, model: str | None, accept_changed_code: bool) -> str:
    """The command so far, as a shell takes it: the way on is printed behind it."""
    words = ["vitreous", "explain", run, image]
    words += ["--model", model] if model is not None else []
    return shlex.join(words + ["--accept-changed-code"] * accept_changed_code)


# --- one number -------------------------------------------------------------------------------------------------------


def sum_lines(found: "Sum", top: int, asked: str) -> Iterator[str]:
    """A sum as text: the value, the formula, subtotals, the largest terms, the total beside the network's own."""
    yield f"{found.address} = {_number(found.value)}"
    yield f"  {found.op}: {found.how}"
    yield from (f"  {step}" for step in found.steps or _formula(found))
    if found.op == "input":
        return
    yield ""
    if any(channel.num_terms > 1 for channel in found.channels):  # else they are the terms themselves
        yield from _channel_lines(found, top)
        yield ""
    yield from _term_lines(found, top)
    yield ""
    yield f"  bias                       {_aligned(found.bias)}"
    yield f"  total in float64           {_aligned(found.total)}"
    yield f"  computed by the network    {_aligned(found.value)}"
    verdict = f"rounding in {found.dtype} explains up to {found.bound:.2g}"
    verdict += "" if found.holds else ": MORE THAN THAT, please report it"
    yield f"  difference                 {_aligned(found.difference)}   ({verdict})"
    yield from _way_on(found, asked)


def _formula(found: "Sum") -> Iterator[str]:
    """The sum in one line: its largest terms written out, the others together."""
    shown = found.largest(3)
    if len(shown) < 2 or any(not term.weight for term in shown):  # one number decides, or nothing is multiplied
        return
    products = " + ".join(f"{_factor(term.weight or 0.0)}*{_factor(term.activation)}" for term in shown)
    left = found.num_terms - len(shown)
    rest = found.sum_of_products - sum(term.product for term in shown)
    others = f" + {_factor(rest)} (the other {left:,})" if left else ""
    yield f"{found.total:.6g} = {_factor(found.bias)} + {products}{others}"


def _factor(value: float) -> str:
    return f"({value:.4g})" if value < 0 else f"{value:.4g}"


def _channel_lines(found: "Sum", top: int) -> Iterator[str]:
    ordered = sorted(found.channels, key=lambda channel: -abs(channel.total))
    yield "  by input channel, the largest first"
    for channel in ordered[:top]:
        yield f"    channel {channel.channel:<5d} {channel.num_terms:>6,} terms   {_aligned(channel.total)}"
    if len(ordered) > top:
        rest = sum(channel.total for channel in ordered[top:])
        yield f"    ... and {len(ordered) - top:,} more channels, which make {_number(rest)} together"


def _term_lines(found: "Sum", top: int) -> Iterator[str]:
    shown = found.largest(top)
    beside = f", {found.num_padding:,} of them on padding, which are zeros" if found.num_padding else ""
    yield f"  terms, the largest first ({found.num_terms:,} in all{beside})"
    for term in shown:
        yield f"    {_term(term)}"
    if found.num_terms > len(shown):
        rest = found.sum_of_products - sum(term.product for term in shown)
        yield f"    ... and {found.num_terms - len(shown):,} more, which make {_number(rest)} together"


def _term(term: "Term") -> str:
    place = "padding" if term.padding else str(term.source)
    place += f"   (its weight: {term.weight_source})" if term.weight_source is not None else ""
    if term.weight is None:
        return f"{_aligned(term.product)}   from {_aligned(term.activation)}   {place}"
    return f"{_aligned(term.product)} = {_aligned(term.weight)} * {_aligned(term.activation)}   {place}"


def _way_on(found: "Sum", asked: str) -> Iterator[str]:
    from vitreous.explanation.arithmetic import address_text

    if found.way_on is not None:
        yield ""
        yield f"  the largest term comes from: {asked} {address_text(found.way_on.source)}"


def _aligned(value: float) -> str:
    return f"{_number(value):>14}"


def _number(value: float) -> str:
    return f"{value:.8g}"


# --- a layer, an example ----------------------------------------------------------------------------------------------


def _print_layer(facts: "LayerFacts", asked: str) -> None:
    from vitreous.explanation.arithmetic import address_text

    print(f"{facts.layer}: {facts.op}, {' x '.join(map(str, facts.shape))}, counted from 0")
    print(f"  lowest {_number(facts.lowest)}, mean {_number(facts.mean)}, highest {_number(facts.highest)}")
    print(f"  the sum behind the highest: {asked} {address_text(facts.highest_at)}")


def _print_example(number: int, as_json: bool) -> None:
    from vitreous.cli.console import print_json
    from vitreous.workflow.explaining import explain_example

    found: Example = explain_example(number)
    if as_json:
        print_json(found.to_json())
    else:
        print("\n".join(_example_lines(found)))


def _example_lines(found: "Example") -> Iterator[str]:
    yield f"Example {found.number}: {found.title}"
    yield from (f"  {step}" for step in found.steps)
    yield f"output: {found.output}"
    yield from (f"note: {remark}" for remark in found.remarks)

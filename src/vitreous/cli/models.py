"""``vitreous models``."""

from typing import Annotated

import typer

EXAMPLE = "vitreous models --json"


def command(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False) -> None:
    """List the architectures that --model knows by name."""
    from vitreous.cli.console import print_json, print_table
    from vitreous.workflow import list_models

    rows = list_models()
    if as_json:
        print_json({"models": rows})
        return
    columns = ("name", "year", "depth", "input", "parameters", "idea")
    print_table(
        columns,
        ([f"{row[key]:,}" if key == "parameters" else str(row[key]) for key in columns] for row in rows),
        right=(1, 2, 4),
    )
    print("\n--model also takes a pattern, such as 'conv64 conv64 pool conv128 conv128 pool flatten fc256 fc'.")

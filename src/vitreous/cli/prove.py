"""``vitreous prove``."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vitreous.proof.proving import Proof

EXAMPLE = "vitreous prove --full --json > proof.json"
BROKEN = 1  # the exit status: a promise did not hold
_MOST_SHOWN = 5


def command(
    run: Annotated[str | None, typer.Argument(help="A run folder that is to be read through as well.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Some of everything, in minutes: the default.")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="200 kills, every crash point, 10,000 power cuts and damages: an hour or so.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the moments and damages that are drawn.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> int:
    """Try on this machine what is promised: kills, power cuts, damaged files, hostile images; exit 1 if one breaks."""
    from vitreous.cli.console import console_progress, print_json
    from vitreous.errors import UserError
    from vitreous.proof.proving import prove

    if quick and full:
        raise UserError("--quick or --full, not both.")
    proof = prove(run, full=full, seed=seed, progress=console_progress(quiet=as_json))
    if as_json:
        print_json(proof.to_json())
    else:
        _print(proof)
    return 0 if proof.is_kept else BROKEN


def _print(proof: "Proof") -> None:
    from vitreous.cli.console import print_table

    rows = ((row.name, f"{row.tried:,}", f"{row.held:,}", f"{row.seconds:.0f}", row.sha256[:16]) for row in proof.rows)
    print_table(("promise", "tried", "held", "seconds", "verdicts, SHA-256"), rows, right=(1, 2, 3))
    print()
    for row in proof.rows:
        print(f"{row.name}: {row.promise}: {'kept' if row.is_kept else 'BROKEN'}")
        for fault in row.broken[:_MOST_SHOWN]:
            print(f"    {fault}")
        if len(row.broken) > _MOST_SHOWN:
            print(f"    ... and {len(row.broken) - _MOST_SHOWN:,} more")
    for name in proof.not_tried:
        print(f"{name}: not tried, this system does not let a process be watched so closely")
    print(f"{proof.machine}, {proof.started}")

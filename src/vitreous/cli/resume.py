"""``vitreous resume``."""

from typing import Annotated

import typer

from vitreous.cli.options import AcceptChangedCode, Factory

EXAMPLE = "vitreous resume runs/lamps"


def command(
    run: Annotated[str, typer.Argument(help="The run folder that was stopped.")],
    model: Factory = None,
    accept_changed_code: AcceptChangedCode = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the run and its scores as JSON.")] = False,
) -> None:
    """Go on with a run that was stopped, to the same bits."""
    from vitreous.cli.console import console_progress
    from vitreous.cli.signals import stop_on_signals
    from vitreous.cli.train import print_outcome
    from vitreous.workflow import training

    resumed = training.resume(
        run,
        model=model,
        accept_changed_code=accept_changed_code,
        progress=console_progress(),
        stop=stop_on_signals(),
    )
    print_outcome(resumed, as_json=as_json)

"""``vitreous resume``."""

from typing import Annotated

import typer

EXAMPLE = "vitreous resume runs/lamps"


def command(run: Annotated[str, typer.Argument(help="The run folder that was stopped.")]) -> None:
    """Go on with a run that was stopped, to the same bits."""
    from vitreous import workflow
    from vitreous.cli.console import console_progress
    from vitreous.cli.signals import stop_on_signals
    from vitreous.cli.train import print_outcome

    print_outcome(workflow.resume(run, progress=console_progress(), stop=stop_on_signals()))

"""``vitreous report``."""

from typing import Annotated

import typer

EXAMPLE = "vitreous report runs/lamps --no-images"


def command(
    run: Annotated[str, typer.Argument(help="The run folder.")],
    no_images: Annotated[
        bool, typer.Option("--no-images", help="Show none of the pictures, to share the page.")
    ] = False,
) -> None:
    """Write a run's report.html again."""
    from vitreous import workflow
    from vitreous.cli.console import console_progress

    print(workflow.write_report(run, with_images=not no_images, progress=console_progress()))

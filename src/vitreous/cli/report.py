"""``vitreous report``."""

from typing import Annotated

import typer

from vitreous.cli.options import AcceptChangedCode, Factory

EXAMPLE = "vitreous report runs/lamps --no-images"


def command(
    run: Annotated[str, typer.Argument(help="The run folder.")],
    no_images: Annotated[
        bool, typer.Option("--no-images", help="Show none of the pictures, to share the page.")
    ] = False,
    model: Factory = None,
    accept_changed_code: AcceptChangedCode = False,
) -> None:
    """Write a run's report.html again."""
    from vitreous.cli.console import console_progress
    from vitreous.workflow import finished

    page = finished.write_report(
        run,
        with_images=not no_images,
        model=model,
        accept_changed_code=accept_changed_code,
        progress=console_progress(),
    )
    print(page)

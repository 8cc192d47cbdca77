"""Options that several commands share: a run whose network came from a file needs that file named again."""

from typing import Annotated

import typer

Factory = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="FILE.py:FACTORY", help="For a run whose network came from a file: that file again."
    ),
]
AcceptChangedCode = Annotated[
    bool, typer.Option("--accept-changed-code", help="Take that file though it is not what it was in training.")
]

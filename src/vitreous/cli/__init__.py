"""The command line: it parses and prints; what is done stands in ``vitreous.workflow``.

Each command has a file of its own, light to import: torch comes when a command runs, never for help or completion.
"""

import io
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from vitreous.cli import (
    cache,
    check,
    compare,
    convert,
    evaluate,
    explain,
    export,
    models,
    predict,
    prove,
    report,
    resume,
    runs,
    summary,
    train,
)
from vitreous.cli.signals import Stopped, leave_on_signals, unmasked_signals
from vitreous.errors import EndedElsewhere, VitreousError

USAGE = 2
BUG = 70  # EX_SOFTWARE of sysexits.h

app = typer.Typer(
    name="vitreous",
    help="Convolutional networks you can see through: a folder of images in, a run folder out.",
    epilog="Example: vitreous train photos/ && vitreous predict runs/photos new.jpg",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
_COMMANDS = (
    *(train, resume, evaluate, predict, explain, compare, report),
    *(check, summary, models, export, runs, convert, cache, prove),
)
for module in _COMMANDS:
    app.command(name=module.__name__.rpartition(".")[2], epilog=f"Example: {module.EXAMPLE}")(module.command)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"vitreous {version('vitreous')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of any error.")] = False,
) -> None:
    pass  # both are read elsewhere: --version by its callback, --debug by main, which has to know it after a failure


def main() -> None:
    """The ``vitreous`` command."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no reason to stop
    # Before torch is loaded: threads that wait for each other by spinning keep a busy neighbour's core from each other,
    # and those that sleep at once wake up late.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    with leave_on_signals():
        sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit status of DESIGN: 0, 1, 2, 3, 70, 130 or 143."""
    debug = "--debug" in arguments
    try:
        with unmasked_signals():
            status = app(args=[each for each in arguments if each != "--debug"], standalone_mode=False)
    except VitreousError as error:
        if debug:
            raise
        from vitreous.cli.console import printable

        if not isinstance(error, EndedElsewhere):
            print(
                "vitreous: " + "\n".join(map(printable, str(error).split("\n"))), file=sys.stderr
            )  # paths hold anything
        return error.exit_code
    except TyperException as error:
        text = error.format_message()
        is_help = text.startswith("Usage")  # a bare `vitreous`
        print(text if is_help else f"vitreous: {text} `vitreous --help` shows the way.", file=sys.stderr)
        return USAGE
    except (KeyboardInterrupt, typer.Abort, Stopped) as error:
        print(
            "vitreous: stopped. A run that had begun is listed by `vitreous runs`; `vitreous resume` goes on with it.",
            file=sys.stderr,
        )
        return error.status if isinstance(error, Stopped) else 130
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError:
        print("vitreous: out of memory; a smaller --image-size or training.batch_size needs less.", file=sys.stderr)
        return 3
    except Exception as error:
        if debug:
            raise
        print(f"vitreous: this is a bug: {type(error).__name__}: {error}\n{_keep_traceback()}", file=sys.stderr)
        return BUG
    return status if isinstance(status, int) else 0


def _keep_traceback() -> str:
    try:
        with tempfile.NamedTemporaryFile("w", prefix="vitreous-", suffix=".txt", delete=False) as file:
            traceback.print_exc(file=file)
        return f"The traceback is in {Path(file.name)}; please send it with what you did."
    except OSError:
        return traceback.format_exc()

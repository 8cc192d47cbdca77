"""``vitreous check``."""

import shutil
import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vitreous.checks.finding import Finding
    from vitreous.workflow.checking import Checked

EXAMPLE = "vitreous check photos/ --model resnet18 --image-size 64"
FINDINGS = 1  # the exit status: something has to be mended


def command(
    data: Annotated[str, typer.Argument(help="Labelled images, as for train.")],
    model: Annotated[
        str | None, typer.Option(help="As for train; by default the network that train would choose.")
    ] = None,
    image_size: Annotated[str | None, typer.Option(metavar="PX or HxW", help="As for train.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> int:
    """Tell what is wrong with a network for these data before it is trained; exit 1 where something must be mended."""
    from vitreous.cli.console import console_progress, print_json
    from vitreous.config import Config
    from vitreous.workflow.checking import check

    asked = Config() if image_size is None else Config().override([f"data.image_size={image_size}"])
    checked = check(data, model=model, config=asked, progress=console_progress(quiet=as_json))
    if as_json:
        print_json(checked.to_json())
    else:
        _print(checked)
    return 0 if checked.is_good else FINDINGS


def _print(checked: "Checked") -> None:
    found = checked.summary
    print(
        f"{found.model} for {checked.num_images:,} images of {checked.num_classes} classes in {checked.data}, shown as "
        f"{' x '.join(map(str, found.input))}: {found.trace.parameters:,} parameters, {found.trace.macs:,} MACs"
    )
    for finding in checked.findings:
        print()
        _print_finding(finding)
    print()
    counts = {name: sum(each.severity == name for each in checked.findings) for name in ("mend", "consider")}
    print(f"{counts['mend']} to mend, {counts['consider']} to consider" if any(counts.values()) else "nothing to mend")


def _print_finding(finding: "Finding") -> None:
    width = min(shutil.get_terminal_size((120, 24)).columns, 120)
    first = f"[{finding.severity}] {finding.where}: {finding.seen} ({finding.code})"
    for mark, text in (("", first), ("    because ", finding.arithmetic), ("    edit    ", finding.edit)):
        if text:
            print(textwrap.fill(text, width, initial_indent=mark, subsequent_indent=" " * (len(mark) or 4)))

"""``vitreous check``."""

import shutil
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vitreous.checks.finding import Finding
    from vitreous.workflow.checking import Checked

EXAMPLE = "vitreous check photos/ --report findings.html --fix-list fixes.csv"
FINDINGS = 1  # the exit status: something has to be mended
_MOST_FILES = 5


def command(
    data: Annotated[str, typer.Argument(help="Labelled images, as for train.")],
    model: Annotated[
        str | None, typer.Option(help="Look also at this network for these data, as train would take it.")
    ] = None,
    image_size: Annotated[str | None, typer.Option(metavar="PX or HxW", help="Of that network, as for train.")] = None,
    run: Annotated[
        str | None, typer.Option(help="A run trained on these data: it tells which labels are doubtful.")
    ] = None,
    group_by: Annotated[
        str | None, typer.Option(metavar="COLUMN|PATTERN", help="What must not stand in two parts, as for train.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write a page of the findings, with pictures.")
    ] = None,
    fix_list: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Write what to leave out, for train --exclude.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> int:
    """Tell what is wrong with data, or with a network for them; exit 1 where something must be mended."""
    from vitreous.cli.console import console_progress, print_json
    from vitreous.config import Config
    from vitreous.errors import ConfigError
    from vitreous.workflow.checking import check

    if image_size is not None and model is None:
        raise ConfigError("--image-size is that of a network; name one with --model.")
    asked = Config() if image_size is None else Config().override([f"data.image_size={image_size}"])
    checked = check(
        data,
        model=model,
        run=run,
        group_by=group_by,
        report=report,
        fix_list=fix_list,
        config=asked,
        progress=console_progress(quiet=as_json),
    )
    if as_json:
        print_json(checked.to_json())
    else:
        _print(checked, report, fix_list)
    return 0 if checked.is_good else FINDINGS


def _print(checked: "Checked", report: Path | None, fix_list: Path | None) -> None:
    for line in checked.lines():
        print(line)
    for finding in checked.findings:
        print()
        _print_finding(finding)
    print()
    counts = {name: sum(each.severity == name for each in checked.findings) for name in ("mend", "consider")}
    print(f"{counts['mend']} to mend, {counts['consider']} to consider" if any(counts.values()) else "nothing to mend")
    if report is not None:
        print(f"Page:     {report}")
    if fix_list is not None:
        num = len({name for finding in checked.findings for name in finding.exclude})
        print(f"Fix list: {fix_list} (leaves {num:,} images out: vitreous train DATA --exclude {fix_list})")
    elif any(finding.files for finding in checked.findings):
        print("--report FILE.html shows the pictures, --fix-list FILE.csv names every file")


def _print_finding(finding: "Finding") -> None:
    from vitreous.cli.console import printable

    width = min(shutil.get_terminal_size((120, 24)).columns, 120)
    first = f"[{finding.severity}] {finding.where}: {finding.seen} ({finding.code})"
    names = ", ".join(finding.files[:_MOST_FILES])
    more = len(finding.files) - _MOST_FILES
    files = f"{names} and {more:,} more" if more > 0 else names
    rows = (("", first), ("    because ", finding.arithmetic), ("    edit    ", finding.edit), ("    files   ", files))
    for mark, text in rows:
        if text:
            print(textwrap.fill(printable(text), width, initial_indent=mark, subsequent_indent=" " * (len(mark) or 4)))

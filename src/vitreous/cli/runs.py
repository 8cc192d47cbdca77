"""``vitreous runs``."""

import sys
import textwrap
from pathlib import Path
from typing import Annotated, Any

import typer

EXAMPLE = "vitreous runs experiments/"


def command(
    folder: Annotated[Path, typer.Argument(help="Where the run folders lie.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List run folders with their status and score."""
    from vitreous.cli.console import print_json, print_table
    from vitreous.run import list_runs

    runs, problems = list_runs(folder)
    rows = [_facts(run.path, run.status, run.manifest) for run in runs]
    for problem in problems:
        print(f"vitreous: {problem}", file=sys.stderr)
    if as_json:
        print_json({"folder": str(folder), "runs": rows})
    elif not rows:
        print(f"no runs in {folder}/ yet; `vitreous train DATA` makes one.")
    else:
        print_table(
            ("run", "status", "data", "network", "parameters", "split", "accuracy"),
            [_cells(row) for row in rows],
            right=(4, 6),
        )


_COLUMNS = ("run", "status", "data", "model", "parameters", "split", "accuracy")


def _facts(path: Path, status: str, manifest: dict[str, Any]) -> dict[str, Any]:
    split, scores = next(iter(manifest.get("scores", {}).items()), (None, None))
    accuracy = scores["accuracy"]["value"] if scores else None
    model = manifest["model"]
    data = manifest["data"]["origin"]
    return dict(
        zip(_COLUMNS, (str(path), status, data, model["name"], model["parameters"], split, accuracy), strict=True)
    )


def _cells(row: dict[str, Any]) -> list[str]:
    model = textwrap.shorten(row["model"], 40, placeholder=" …")
    accuracy = "" if row["accuracy"] is None else f"{row['accuracy']:.2%}"
    return [row["run"], row["status"], row["data"], model, f"{row['parameters']:,}", row["split"] or "", accuracy]

"""``vitreous export``."""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "vitreous export runs/lamps --format timm --out lamps-timm"


def command(
    run: Annotated[str, typer.Argument(help="The run folder.")],
    format: Annotated[str, typer.Option(help="timm: a folder of config.json and model.safetensors.")],
    out: Annotated[Path | None, typer.Option(help="The new folder; by default exports/FORMAT in the run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Write a run's network for another program, verified to score the same before it is kept."""
    from vitreous.cli.console import print_json
    from vitreous.run import run_path
    from vitreous.workflow import finished

    written = finished.export(run, format=format, out=out)
    if as_json:
        print_json(
            {
                "run": str(run_path(run)),
                "format": format,
                "path": str(written.path),
                "architecture": written.architecture,
                "num_inputs": written.num_inputs,
                "largest_difference": written.largest_difference,
                "remarks": list(written.remarks),
            }
        )
        return
    print(
        f"{written.path}: {written.architecture}; on {written.num_inputs} golden inputs timm's logits differ from the "
        f"run's by at most {written.largest_difference:.2g}."
    )
    for remark in written.remarks:
        print(remark)
    print(f'timm.create_model("local-dir:{written.path}", pretrained=True)')

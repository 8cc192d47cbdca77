"""``vitreous convert``."""

from typing import Annotated

import typer

EXAMPLE = "vitreous convert resnet50-0676ba61.pth"


def command(
    source: Annotated[
        str, typer.Argument(metavar="FILE", help="A file that torch.save wrote: .pth, .pt, .bin, .ckpt.")
    ],
    out: Annotated[
        str | None, typer.Option(help="The new file; by default the same name in .safetensors, in this folder.")
    ] = None,
    seconds: Annotated[int, typer.Option(min=1, max=86_400, help="Give up after this time.")] = 300,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Make a .safetensors file of a pickle's weights, without running what the pickle may hold."""
    from vitreous.cli.console import print_json, printable
    from vitreous.workflow import finished

    made = finished.convert(source, out, seconds=seconds)
    if as_json:
        print_json(made.to_json())
        return
    print(printable(f"{made.path}: {made.num_tensors:,} tensors, {made.num_parameters:,} parameters"))
    print(f"looks like: {made.looks_like or 'no network that `vitreous models` lists'}")
    print(printable(f"preprocessing: {made.origin or 'unknown; training from it will ask'}"))
    for remark in made.remarks:
        print(printable(remark))
    print(f"SHA-256: {made.sha256}")

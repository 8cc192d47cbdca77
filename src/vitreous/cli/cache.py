"""``vitreous cache``."""

from typing import Annotated

import typer

EXAMPLE = "vitreous cache --clear"


def command(
    clear: Annotated[bool, typer.Option("--clear", help="Delete what no process uses.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Say where decoded images are kept. VITREOUS_CACHE names another place, VITREOUS_CACHE_LIMIT_MIB a size."""
    from vitreous.cli.console import print_json
    from vitreous.data import cache

    freed = cache.clear() if clear else 0
    usage = cache.usage()
    if as_json:
        print_json({"path": str(usage.path), "packs": usage.num_packs, "bytes": usage.num_bytes, "freed_bytes": freed})
        return
    if clear:
        print(f"freed {freed / 2**20:,.1f} MiB")
    print(f"{usage.path}: {usage.num_packs} packs, {usage.num_bytes / 2**20:,.1f} MiB")

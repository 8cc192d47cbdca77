"""``vitreous compare``."""

from typing import Annotated, Any

import typer

EXAMPLE = "vitreous compare runs/lamps runs/lamps-2"


def command(
    first: Annotated[str, typer.Argument(help="A run folder.")],
    second: Annotated[str, typer.Argument(help="Another run folder, trained on the same classes.")],
    split: Annotated[str | None, typer.Option(help="test or val; by default test where both have one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Say whether one run answers better than another, or only by chance."""
    from vitreous.cli.console import print_json
    from vitreous.workflow.comparing import compare

    compared = compare(first, second, split=split)
    if as_json:
        print_json(compared)
    else:
        print_comparison(compared)


def print_comparison(compared: dict[str, Any]) -> None:
    """The two runs, what sets them apart, and whether chance would do as much."""
    from vitreous.cli.console import print_table

    count = f"{compared['num_images']:,} {compared['split']} images"
    left_out = [f"{number:,} of {run}" for run, number in zip(compared["runs"], compared["num_left_out"], strict=True)]
    apart = (
        f" (left out, because only one run has them: {' and '.join(left_out)})" if any(compared["num_left_out"]) else ""
    )
    print(f"both runs on the same {count}{apart}")
    print()
    rows = (
        (run, f"{share['value']:.2%}", f"{share['low']:.2%} to {share['high']:.2%}", str(alone), f"{loss:.4f}")
        for run, share, alone, loss in zip(
            compared["runs"],
            compared["accuracies"],
            (compared["num_first"], compared["num_second"]),
            compared["log_losses"],
            strict=True,
        )
    )
    header = ("run", "accuracy", "95% interval", "right where the other is not", "log-loss")
    print_table(header, rows, right=(1, 2, 3, 4))
    print()
    print(
        f"difference of accuracy {_signed(compared['difference'], compared['difference_interval'])}; "
        f"of log-loss {_plain(compared['log_loss_difference'], compared['log_loss_difference_interval'])}"
    )
    print(_verdict(compared))


def _verdict(compared: dict[str, Any]) -> str:
    chance = f"McNemar's exact test, p = {compared['p_value']:.2g}"
    if not compared["is_real"]:
        return f"Not shown to be real: chance alone does as much often enough ({chance})."
    better = compared["runs"][compared["difference"] > 0]
    return (
        f"Real: {better} is better on such images ({chance}). That is of these two networks; another seed makes others."
    )


def _signed(value: float, interval: dict[str, float]) -> str:
    return f"{value:+.2%} (95% interval {interval['low']:+.2%} to {interval['high']:+.2%})"


def _plain(value: float, interval: dict[str, float]) -> str:
    return f"{value:+.4f} (95% interval {interval['low']:+.4f} to {interval['high']:+.4f})"

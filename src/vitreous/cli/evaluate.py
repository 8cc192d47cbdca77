"""``vitreous evaluate``."""

from typing import Annotated, Any

import typer

from vitreous.cli.options import AcceptChangedCode, Factory

EXAMPLE = "vitreous evaluate runs/lamps --split test"


def command(
    run: Annotated[str, typer.Argument(help="The run folder.")],
    data: Annotated[str | None, typer.Argument(help="Other data; its classes are matched by name.")] = None,
    split: Annotated[str | None, typer.Option(help="train, val or test; by default test where there is one.")] = None,
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="Leave unreadable images out.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N.")] = None,
    model: Factory = None,
    accept_changed_code: AcceptChangedCode = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Score a run, with confidence intervals."""
    from vitreous.cli.console import console_progress, print_json
    from vitreous.workflow import finished

    scores = finished.evaluate(
        run,
        data,
        split=split,
        skip_broken=skip_broken,
        device=device,
        model=model,
        accept_changed_code=accept_changed_code,
        progress=console_progress(),
    )
    if as_json:
        print_json(scores)
    else:
        print_scores(scores)


def print_scores(scores: dict[str, Any]) -> None:
    """The headline, then a row a class."""
    from vitreous.cli.console import print_table

    accuracy = scores["accuracy"]
    print(f"{scores['run']} on {scores['num_images']:,} {scores['split']} images of {scores['data']}")
    print(
        f"accuracy {accuracy['value']:.2%} (95% interval {accuracy['low']:.2%} to {accuracy['high']:.2%}), "
        f"balanced {scores['balanced_accuracy']:.2%}, "
        f"macro-F1 {scores['macro_f1']:.4f}, log-loss {scores['log_loss']:.4f}"
    )
    print()
    rows = (
        (name, f"{each['precision']:.2%}", _with_interval(each["recall"]), f"{each['f1']:.4f}", str(each["support"]))
        for name, each in scores["per_class"].items()
    )
    print_table(("class", "precision", "recall (95% interval)", "F1", "images"), rows, right=(1, 2, 3, 4))


def _with_interval(share: dict[str, float]) -> str:
    return f"{share['value']:.2%} ({share['low']:.1%}-{share['high']:.1%})"

"""``vitreous evaluate``."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from vitreous.cli.options import AcceptChangedCode, Factory

EXAMPLE = "vitreous evaluate runs/lamps --split test"


def command(
    run: Annotated[str, typer.Argument(help="The run folder.")],
    data: Annotated[str | None, typer.Argument(help="Other data; its classes are matched by name.")] = None,
    split: Annotated[str | None, typer.Option(help="train, val or test; by default test where there is one.")] = None,
    coverage: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Of the sets of candidates; by default 0.9 where possible.")
    ] = None,
    tta: Annotated[bool, typer.Option("--tta", help="Average over each image and its mirror image.")] = False,
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
        coverage=coverage,
        tta=tta,
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
    """The figures with their intervals, then how the calibration does, then a row a class."""
    from vitreous.cli.console import print_table

    print(f"{scores['run']} on {scores['num_images']:,} {scores['split']} images of {scores['data']}")
    if scores.get("tta"):
        print("Each answer is the mean over the image and its mirror image (--tta).")
    print()
    print_table(("score", "value", "95% interval"), list(_figures(scores)), right=(1, 2))
    print()
    if "num_leaked" in scores:
        print(_leaks(scores))
        print()
    for line in _calibration(scores):
        print(line)
    per_class, covered = scores["per_class"], scores.get("coverage", {}).get("per_class", {})
    header = ("class", "precision", "recall (95% interval)", "F1", *(("covered",) if covered else ()), "images")
    rows = (
        (
            name,
            f"{each['precision']:.2%}",
            _with_interval(each["recall"]),
            f"{each['f1']:.4f}",
            *((f"{covered[name]['value']:.1%}" if each["support"] else "",) if covered else ()),
            str(each["support"]),
        )
        for name, each in per_class.items()
    )
    print_table(header, rows, right=tuple(range(1, len(header))))


def _figures(scores: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    intervals = scores["intervals"]
    shares = {"accuracy": scores["accuracy"], f"top-{scores['k']} accuracy": scores["top_k"]}
    shares["balanced accuracy"] = {"value": scores["balanced_accuracy"], **intervals["balanced_accuracy"]}
    for name, share in shares.items():
        if share is not None:
            yield name, f"{share['value']:.2%}", f"{share['low']:.2%} to {share['high']:.2%}"
    names = {"macro_f1": "macro-F1", "log_loss": "log-loss", "brier": "Brier score"}
    for key, name in names.items():
        yield name, f"{scores[key]:.4f}", f"{intervals[key]['low']:.4f} to {intervals[key]['high']:.4f}"
    error, bounds = scores["calibration_error"], intervals["calibration_error"]
    yield "calibration error", f"{error:.2%}", f"{bounds['low']:.2%} to {bounds['high']:.2%}"


def _leaks(scores: dict[str, Any]) -> str:
    count = f"{scores['num_leaked']:,} of these images, or others of their picture or group, were in training"
    if scores["without_leaked"] is None:
        return f"{count}: all of them, so that this is no score of new images."
    rest = scores["without_leaked"]
    share = rest["accuracy"]
    return (
        f"{count}; without them, on {rest['num_images']:,} images: accuracy {share['value']:.2%} (95% interval "
        f"{share['low']:.2%} to {share['high']:.2%}), macro-F1 {rest['macro_f1']:.4f}, log-loss {rest['log_loss']:.4f}"
    )


def _calibration(scores: dict[str, Any]) -> Iterator[str]:
    lines = []
    if scores["temperature"] != 1:
        lines.append(
            f"confidence: logits over a temperature of {scores['temperature']:.3f}, fitted on validation images"
        )
    if "coverage" in scores:
        measured = scores["coverage"]
        seen, expected = measured["seen"]["value"], measured["expected"]
        verdict = "as promised" if seen <= expected["high"] else "more than promised"
        if not measured["is_kept"]:
            verdict = "LESS than promised: these images differ from those that were calibrated on"
        lines.append(
            f"sets for a coverage of {measured['asked']:.1%}: {seen:.2%} hold the true class, {verdict} (expected "
            f"{expected['low']:.2%} to {expected['high']:.2%}); {measured['mean_size']:.2f} classes a set, "
            f"{measured['num_single']:,} sets of one"
        )
    if "familiarity" in scores:
        num, expected_share = scores["familiarity"]["num_unfamiliar"], scores["familiarity"]["expected_share"]
        share = num / scores["num_images"]
        lines.append(
            f"called unfamiliar: {num:,} images ({share:.1%}; of ordinary ones about {expected_share:.0%} are)"
        )
    if lines:
        yield from (*lines, "")


def _with_interval(share: dict[str, float]) -> str:
    return f"{share['value']:.2%} ({share['low']:.1%}-{share['high']:.1%})"

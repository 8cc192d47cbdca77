"""``vitreous train``."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitreous.run import FollowedRun, Run

if TYPE_CHECKING:
    from vitreous.training.range_test import RangeTest

EXAMPLE = "vitreous train photos/ --model lenet5 --epochs 10 --run lamps"


def command(
    data: Annotated[
        str,
        typer.Argument(
            help="A folder of class folders (or of train/val/test folders of them), a CSV of path,label[,split], "
            "a folder of IDX files, an .npz, or fashion-mini, digits, fashion-mnist, mnist, cifar10."
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="A name from `vitreous models`, a pattern ('conv16 pool conv32 gap fc'), timm:NAME or file.py:factory."
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Start from these: a .safetensors file, a folder of timm or Hugging Face, or a run."),
    ] = None,
    freeze: Annotated[
        str | None,
        typer.Option(metavar="WHAT", help="Keep of them: backbone (all but the head), or all up to the layer named."),
    ] = None,
    run: Annotated[str | None, typer.Option(help="The run folder: a path, or a name below runs/.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="A TOML file of settings, e.g. another run's config.toml.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the training images; with --weights 0 fits the head alone.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Plan network, size and epochs so that all of it takes so long.")
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the network's input, in pixels.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of split, weights, order and augmentation; 0 by default.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N.")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32 or bf16; measured by default.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any setting, e.g. training.batch_size=64.")
    ] = None,
    find_lr: Annotated[
        bool, typer.Option("--find-lr", help="Only try which learning rates the network bears; no run is written.")
    ] = False,
    group_by: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help=r"Keep on one side what has the same: a column of the CSV, or a pattern in names, '(patient\d+)_'.",
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(metavar="K", help="Cross-validate, too: K more runs, each tested on what it never saw."),
    ] = None,
    exclude: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Leave out the images that a CSV lists, as `check --fix-list` writes it."),
    ] = None,
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="Leave unreadable images out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the run and its scores as JSON.")] = False,
) -> None:
    """Train a classifier on labelled images and write its run folder."""
    from vitreous.cli.console import console_progress
    from vitreous.cli.signals import stop_on_signals
    from vitreous.config import Config
    from vitreous.models.foreign import refuse_factory

    asked = Config.from_file(config) if config else Config()
    if model is None:
        refuse_factory(asked.model.name, config)
    asked = asked.override(settings or ())

    from vitreous.workflow import training

    wishes = {
        "model": model,
        "weights": weights,
        "freeze": freeze,
        "epochs": epochs,
        "minutes": minutes,
        "image_size": image_size,
        "seed": seed,
        "device": device,
        "precision": precision,
        "group_by": group_by,
        "folds": folds,
        "exclude": exclude,
        "skip_broken": skip_broken or None,
    }
    progress, stop = console_progress(), stop_on_signals()
    if find_lr:
        print_rates(training.find_learning_rate(data, config=asked, progress=progress, stop=stop, **wishes), as_json)
    else:
        trained = training.train(data, run=run, config=asked, progress=progress, stop=stop, **wishes)
        print_outcome(trained, as_json=as_json)


def print_rates(found: "RangeTest", as_json: bool) -> None:
    """The loss at a dozen of the rates that were tried, and what to make of it."""
    from vitreous.cli.console import print_json, print_table

    if as_json:
        print_json(
            {
                "rates": found.rates,
                "losses": found.losses,
                "diverged": found.diverged,
                "lowest_loss_rate": found.lowest_loss_rate,
                "steepest_rate": found.steepest_rate,
                "suggested": found.suggested,
            }
        )
        return
    most, step = max(found.losses), max(1, len(found.rates) // 12)
    rows = [
        (f"{rate:.2g}", f"{loss:.4f}", "#" * round(40 * loss / most))
        for rate, loss in list(zip(found.rates, found.losses, strict=True))[::step]
    ]
    print_table(("learning rate", "loss", ""), rows, right=(0, 1))
    end = f"diverged beyond {found.rates[-1]:.2g}" if found.diverged else "did not diverge"
    print(
        f"The loss fell fastest at {found.steepest_rate:.2g}, was lowest at {found.lowest_loss_rate:.2g} and {end}.\n"
        f"A cautious highest rate of a schedule: --set training.learning_rate={found.suggested:g}"
    )


def print_outcome(run: Run, *, as_json: bool) -> None:
    """What was learned, how good it is, and where it lies; of several processes the first one tells."""
    if isinstance(run, FollowedRun):
        return
    if as_json:
        from vitreous.cli.console import print_json

        said = {name: run.manifest[name] for name in ("scores", "folds") if name in run.manifest}
        print_json({"run": str(run.path), **said})
        return
    manifest = run.manifest
    split, scores = next(iter(manifest["scores"].items()))
    print(
        f"Learned to tell {len(run.classes)} classes apart from {sum(manifest['data']['counts']['train'].values()):,} "
        f"images in {manifest['seconds']:.0f} s ({manifest['model']['parameters']:,} parameters)."
    )
    _print_scores("Accuracy on ", scores, f"{split} images")
    if folds := manifest.get("folds"):
        lead = f"{folds['num_folds']} folds, each image answered by a network that was not trained on it: accuracy on "
        _print_scores(lead, folds["scores"], "images")
        print(f"By fold {min(folds['accuracies']):.2%} to {max(folds['accuracies']):.2%}.")
    if manifest["data"].get("num_groups"):
        print("The intervals take images for independent; those of one group are not, so they are too narrow.")
    print(f"Run folder: {run.path}")
    print(f"Report:     {run.path / 'report.html'}")


def _print_scores(lead: str, scores: Mapping[str, Any], images: str) -> None:
    print(lead + _accuracy_text(scores, images))
    if "num_leaked" in scores:
        rest = scores["without_leaked"]
        print(
            f"The network saw {scores['num_leaked']:,} of them in training (the picture, or its group); without these: "
            f"{_accuracy_text(rest, 'images') if rest else 'no image is left.'}"
        )


def _accuracy_text(scores: Mapping[str, Any], images: str) -> str:
    accuracy = scores["accuracy"]
    return (
        f"{scores['num_images']:,} {images}: {accuracy['value']:.2%} "
        f"(95% interval {accuracy['low']:.2%} to {accuracy['high']:.2%})."
    )

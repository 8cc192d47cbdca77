"""``vitreous predict``."""

import csv
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitreous.cli.options import AcceptChangedCode, Factory
from vitreous.errors import UserError

if TYPE_CHECKING:
    from vitreous.workflow.finished import PredictedImage

EXAMPLE = "vitreous predict runs/lamps new.jpg inbox/ --csv"


def command(
    run: Annotated[str, typer.Argument(help="The run folder.")],
    paths: Annotated[list[str] | None, typer.Argument(help="Images, folders of them, or - for one on stdin.")] = None,
    files_from: Annotated[
        str | None, typer.Option(metavar="FILE", help="A list of paths, one a line; - reads it from stdin.")
    ] = None,
    coverage: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Also the classes among which the true one is with this share, e.g. 0.9."),
    ] = None,
    tta: Annotated[bool, typer.Option("--tta", help="Average over each image and its mirror image.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N.")] = None,
    model: Factory = None,
    accept_changed_code: AcceptChangedCode = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print a CSV table.")] = False,
) -> int:
    """Say what images show. A broken one is an error row, the others are answered all the same (exit 1)."""
    if as_json and as_csv:
        raise UserError("--json and --csv exclude each other; choose one.")
    if not paths and files_from is None:
        raise UserError("nothing to predict: name images or folders, or - for stdin, or --files-from LIST.")
    listed = [*_expand(paths or []), *(_listed(files_from) if files_from is not None else [])]
    if not listed:
        raise UserError("there is no file in what was named, so there is nothing to predict.")

    from vitreous.run import Run
    from vitreous.workflow import finished

    if tta:
        finished.refuse_coverage_of_means(coverage)
    predictor = finished.load_run(run, device, model=model, accept_changed_code=accept_changed_code)
    predictor = predictor.mirror_averaged() if tta else predictor
    answers = finished.predict(predictor, ((path, _image(path)) for path in listed), coverage=coverage)
    if coverage is not None:
        predictor.calibration.threshold(coverage)  # refused before anything is printed
    if as_csv:
        return _print_csv(predictor.classes, answers, has_candidates=coverage is not None)
    if as_json:
        return _print_document(run, Run.open(_path_of(run)).manifest["weights"]["sha256"], predictor.classes, answers)
    return _print_rows(answers, has_candidates=coverage is not None)


def _path_of(run: str) -> Path:
    from vitreous.run import run_path

    return run_path(run)


def _expand(paths: Iterable[str]) -> Iterator[str]:
    """Files as named, folders as the visible files below them, in order of name.

    A path that is not there is kept: it becomes an error row, as a broken image does.
    """
    for path in paths:
        if path != "-" and os.path.isdir(path):  # noqa: PTH112, False for a name that is too long
            for folder, folders, files in os.walk(path):
                folders[:] = sorted(name for name in folders if not name.startswith("."))
                yield from (str(Path(folder) / name) for name in sorted(files) if not name.startswith("."))
        else:
            yield path


def _listed(source: str) -> list[str]:
    try:
        raw = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as error:
        raise UserError(f"--files-from {source} cannot be read: {error.strerror}.") from None
    separator = b"\0" if b"\0" in raw else b"\n"  # `find -print0` for names that hold newlines
    return [os.fsdecode(line) for line in raw.split(separator) if line]


def _image(path: str) -> Path | bytes:
    return sys.stdin.buffer.read() if path == "-" else Path(path)


def _print_document(run: str, sha256: str, classes: tuple[str, ...], answers: Iterable["PredictedImage"]) -> int:
    from vitreous.cli.console import print_json

    rows = [_document(answer, classes) for answer in answers]
    print_json({"run": str(_path_of(run)), "model_sha256": sha256, "classes": list(classes), "predictions": rows})
    return int(any("error" in row for row in rows))


def _document(answer: "PredictedImage", classes: tuple[str, ...]) -> dict[str, Any]:
    if answer.prediction is None:
        return {"path": answer.path, "error": answer.error}
    said = answer.prediction
    document: dict[str, Any] = {"path": answer.path, "label": said.label, "confidence": said.confidence}
    if said.familiarity is not None:
        document |= {"is_familiar": said.is_familiar, "familiarity": said.familiarity}
    if said.candidates:
        document["candidates"] = list(said.candidates)
    return {**document, "probabilities": dict(zip(classes, said.probabilities, strict=True))}


def _print_csv(classes: tuple[str, ...], answers: Iterable["PredictedImage"], *, has_candidates: bool) -> int:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    joined = ("familiarity", *(("candidates",) if has_candidates else ()))
    writer.writerow(("path", "label", "confidence", "error", *classes, *joined))
    num_errors = 0
    for answer in answers:
        path = answer.path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        if answer.prediction is None:
            num_errors += 1
            writer.writerow((path, "", "", answer.error, *("" for _ in (*classes, *joined))))
        else:
            said = answer.prediction
            familiarity = "" if said.familiarity is None else repr(said.familiarity)
            candidates = (json.dumps(said.candidates),) if has_candidates else ()
            row = (path, said.label, repr(said.confidence), "", *map(repr, said.probabilities), familiarity)
            writer.writerow((*row, *candidates))
    return int(num_errors > 0)


def _print_rows(answers: Iterable["PredictedImage"], *, has_candidates: bool) -> int:
    from vitreous.cli.console import print_table
    from vitreous.predictor import confidence_text

    rows, num_errors, num_unfamiliar = [], 0, 0
    for answer in answers:
        said = answer.prediction
        if said is None:
            num_errors += 1
            rows.append((answer.path, "error", answer.error or "", ""))
        elif said.is_familiar is False:
            num_unfamiliar += 1
            rows.append((answer.path, "-", f"unfamiliar (nearest: {said.label})", ", ".join(said.candidates)))
        else:
            rows.append((answer.path, confidence_text(said.confidence), said.label, ", ".join(said.candidates)))
    header = ("image", "confidence", "label", "candidates")
    num_columns = 4 if has_candidates else 3
    print_table(header[:num_columns], [row[:num_columns] for row in rows], right=(1,))
    if num_unfamiliar:
        print(
            f"vitreous: {num_unfamiliar} of {len(rows)} images are unlike those of the run, so that their label means "
            "little; of ordinary images one in twenty is called so.",
            file=sys.stderr,
        )
    if num_errors:
        print(f"vitreous: {num_errors} of {len(rows)} images could not be read.", file=sys.stderr)
    return int(num_errors > 0)

"""What is wrong with data, and with a network for them, before a minute is spent on training."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.checks.data import data_findings
from vitreous.checks.examined import Examined, examine
from vitreous.checks.finding import Finding, sorted_by_weight
from vitreous.checks.fix_list import write_fix_list
from vitreous.checks.labels import label_finding
from vitreous.config import Config
from vitreous.data.grouping import group_images
from vitreous.data.source import open_source
from vitreous.errors import RunError
from vitreous.evaluation.doubt import DoubtfulLabel, doubtful_labels
from vitreous.progress import SILENT, Progress

if TYPE_CHECKING:
    from vitreous.run import Run
    from vitreous.workflow.designing import Design


@dataclass(frozen=True)
class Checked:
    """What was found in some data and, where a network was named, in its design for them."""

    examined: Examined
    data_findings: tuple[Finding, ...]
    doubtful: tuple[DoubtfulLabel, ...] = ()  # their rows count in the examined source
    design: "Design | None" = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Of the data, then of the design."""
        return self.data_findings + (self.design.findings if self.design else ())

    @property
    def is_good(self) -> bool:
        """Whether nothing has to be mended."""
        return all(finding.severity != "mend" for finding in self.findings)

    def lines(self) -> list[str]:
        """What was looked at, for a reader."""
        source, looks = self.examined.source, self.examined.looks
        formats = Counter(self.examined.inspection.formats()).most_common()
        lines = [f"{source.origin}: {len(source.images):,} images of {len(source.classes)} classes"]
        if len(looks):
            areas = np.argsort(looks["height"].astype(np.int64) * looks["width"], kind="stable")
            sizes = [f"{looks['height'][i]} x {looks['width'][i]}" for i in areas[[0, len(areas) // 2, -1]]]
            spread = f"{sizes[0]} to {sizes[2]} (median {sizes[1]})" if sizes[0] != sizes[2] else sizes[0]
            lines.append(f"{', '.join(f'{count:,} {name}' for name, count in formats)}; {spread} px")
        if self.design:
            found = self.design.summary
            lines.append(
                f"{found.model} for them, shown as {' x '.join(map(str, found.input))}: "
                f"{found.trace.parameters:,} parameters, {found.trace.macs:,} MACs"
            )
        return lines

    def to_json(self) -> dict[str, Any]:
        """The document of ``vitreous check --json``."""
        source = self.examined.source
        counts = np.bincount(source.labels, minlength=len(source.classes)).tolist()
        document: dict[str, Any] = {
            "data": source.origin,
            "num_images": len(source.images),
            "num_classes": len(source.classes),
            "classes": dict(zip(source.classes, counts, strict=True)),
            "is_good": self.is_good,
            "findings": [finding.to_json() for finding in self.findings],
        }
        if self.design:
            summary = self.design.summary
            document |= {
                "model": summary.model,
                "input": list(summary.input),
                "params": summary.trace.parameters,
                "macs": summary.trace.macs,
                "epoch": self.design.cost.to_json(),
            }
        return document


def check(
    data: str | Path,
    *,
    model: str | None = None,
    run: str | Path | None = None,
    group_by: str | None = None,
    report: str | Path | None = None,
    fix_list: str | Path | None = None,
    config: Config | Path | str | None = None,
    progress: Progress = SILENT,
    **settings: Any,
) -> Checked:
    """Look at data, every image once, and at a network for them where one is named.

    Args:
        data: as for training.
        model: a network, to look also at its design for these data.
        run: a run that was trained on them: its answers on images that it was not trained on tell doubtful labels.
        group_by: as for training: what must not stand in two parts.
        report: where to write one HTML page of all that was found, with the pictures.
        fix_list: where to write a CSV of path, finding and action, which ``train`` takes as ``exclude``.
        config: settings of the design, or a TOML file of them, as for training.
        progress: where bars go.
        **settings: single settings of the design, as for training: ``image_size=64``.

    Raises:
        UserError: data, settings or the network are wrong, or do not fit each other.
        MachineError: no room for the cache, the page or the list.
    """
    source = open_source(data, for_training=False)
    if group_by is not None:
        source = group_images(source, group_by)
    examined = examine(source, progress)
    findings = data_findings(examined)
    doubtful: list[DoubtfulLabel] = []
    if run is not None:
        doubtful, finding = _doubtful(examined, run)
        findings = sorted_by_weight([*findings, *([finding] if finding else [])])
    design = None
    if model is not None:
        from vitreous.workflow.designing import check_design

        design = check_design(data, model=model, config=config, settings=settings, progress=progress)
    checked = Checked(examined, tuple(findings), tuple(doubtful), design)
    if report is not None:
        from vitreous.checks.page import write_page

        progress.say("writing the page")
        write_page(examined, checked.findings, checked.doubtful, Path(report))
    if fix_list is not None:
        write_fix_list(checked.findings, Path(fix_list))
    return checked


def _doubtful(examined: Examined, run: str | Path) -> tuple[list[DoubtfulLabel], Finding | None]:
    """Labels that a run doubts, with the rows of the examined source, and their finding."""
    from vitreous.run import Run, run_path

    opened = Run.open(run_path(str(run)))
    source = examined.source
    if unknown := sorted(set(source.classes) - set(opened.classes)):
        raise RunError(f"{opened.path} does not know the classes {', '.join(unknown[:5])}; name a run of these data.")
    row_of = {content: i for i, content in enumerate(examined.hashes)}
    answers = [(row_of[content], row) for content, row in _honest_answers(opened) if content in row_of]
    if not answers:
        raise RunError(f"{opened.path} has no answer for any of these images; name a run that was trained on them.")
    rows = [i for i, _ in answers]
    order = [opened.classes.index(name) for name in source.classes]
    probabilities = np.array([row for _, row in answers])[:, order]
    found = doubtful_labels(probabilities, source.labels[rows])
    agreement = float((probabilities.argmax(axis=1) == source.labels[rows]).mean())
    finding = label_finding(found, examined.names(rows), source.classes, agreement)
    return [_at_row(each, rows) for each in found], finding


def _at_row(doubtful: DoubtfulLabel, rows: Sequence[int]) -> DoubtfulLabel:
    return replace(doubtful, row=rows[doubtful.row])


def _honest_answers(run: "Run") -> list[tuple[str, Any]]:
    """Content hash and probabilities of images that the network, or the fold's network, was not trained on."""
    from vitreous.workflow.run_training import read_predictions

    kept = [part for part in ("folds", "val", "test") if (run.path / "predictions" / f"{part}.csv").is_file()]
    parts = kept[:1] if kept[:1] == ["folds"] else kept
    return [answer for part in parts for answer in zip(*read_predictions(run, part), strict=True)]

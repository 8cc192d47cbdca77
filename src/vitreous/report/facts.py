"""What was trained, in the reader's words, from the manifest of a run of any age: a key that is missing is left out."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitreous.data.preprocess import Preprocess
from vitreous.run import Run

_FITS = {
    "pad": "scaled to fit inside, the rest padded",
    "crop": "scaled to cover, the centre cut out",
    "squash": "each axis scaled alone",
    "centre": "never enlarged; shrunk if too large, then centred",
}
_MAX_LISTED = 20
_MAX_FILES = 6


@dataclass(frozen=True, slots=True)
class Fact:
    """One row of a table; ``is_code`` for hashes, patterns and paths."""

    label: str
    value: str
    is_code: bool = False


@dataclass(frozen=True, slots=True)
class CountRow:
    """How many images of one class lie in each split."""

    label: str
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        return sum(self.counts)


@dataclass(frozen=True, slots=True)
class Counts:
    """Images per class and split; ``totals`` per split."""

    splits: tuple[str, ...]
    rows: tuple[CountRow, ...]

    @property
    def totals(self) -> tuple[int, ...]:
        return tuple(sum(row.counts[s] for row in self.rows) for s in range(len(self.splits)))


@dataclass(frozen=True, slots=True)
class Command:
    """A line for a terminal, and what it does."""

    purpose: str
    line: str


def model_facts(run: Run) -> list[Fact]:
    """The network, and how its training went."""
    manifest = run.manifest
    model, weights = _section(manifest, "model"), _section(manifest, "weights")
    versions = _section(manifest, "versions")
    parameters = model.get("parameters")
    begun = _section(manifest, "initial_weights")
    facts = [
        Fact("network", str(model.get("name", "")), is_code=True),
        Fact("parameters", f"{parameters:,}" if isinstance(parameters, int) else ""),
        Fact("classes", str(len(run.classes))),
        Fact("started from", "; ".join(map(str, begun.get("said") or ()))),
        Fact("epochs", _epochs(run.metrics(), weights.get("epoch"))),
        Fact("training time", duration(manifest["seconds"]) if "seconds" in manifest else ""),
        Fact("seed", str(manifest.get("seed", ""))),
        Fact("device", str(manifest.get("device", ""))),
        Fact("made", str(manifest.get("created", ""))),
        Fact("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        Fact("weights, SHA-256", str(weights.get("sha256", "")), is_code=True),
    ]
    return [fact for fact in facts if fact.value]


def data_facts(run: Run, *, with_names: bool) -> list[Fact]:
    """Where the images came from; without names, not in which folder they lie."""
    data = _section(run.manifest, "data")
    facts = [
        Fact("source", str(data.get("origin", "")) if with_names else "", is_code=True),
        Fact("kind", str(data.get("kind", ""))),
        Fact("fingerprint", str(data.get("fingerprint", "")), is_code=True),
    ]
    return [fact for fact in facts if fact.value]


def preprocessing_facts(preprocess: Preprocess) -> list[Fact]:
    """What is done to an image before the network sees it."""
    facts = [
        Fact("height × width", f"{preprocess.height} × {preprocess.width} pixels"),
        Fact("channels", "1 (grey)" if preprocess.channels == 1 else "3 (red, green, blue)"),
        Fact("fit", f"{preprocess.fit}: {_FITS.get(preprocess.fit, '')}"),
        Fact("resampling", preprocess.interpolation),
    ]
    if preprocess.fit in ("pad", "centre"):
        facts.append(Fact("padded with", f"{preprocess.pad_value} of 255"))
    if preprocess.crop_fraction < 1:
        facts.append(Fact("crop", f"the middle {preprocess.crop_fraction:.1%} of each side"))
    return [
        *facts,
        Fact("mean (0 to 1 scale)", _numbers(preprocess.mean)),
        Fact("std (0 to 1 scale)", _numbers(preprocess.std)),
    ]


def counts(run: Run) -> Counts | None:
    """Images per class and split; None where the manifest does not tell."""
    per_split = _section(_section(run.manifest, "data"), "counts")
    if not per_split:
        return None
    rows = tuple(
        CountRow(label, tuple(int(split.get(label, 0)) for split in per_split.values())) for label in run.classes
    )
    return Counts(tuple(per_split), rows)


def remarks(run: Run, *, with_names: bool) -> list[str]:
    """What training had to say about the data; without names, skipped files are only counted."""
    data = _section(run.manifest, "data")
    said = [str(remark) for remark in data.get("remarks") or ()] if with_names else []
    skipped = data.get("skipped") or ()
    if not isinstance(skipped, list | tuple):
        skipped = [skipped]
    if skipped:
        listed = "; ".join(_skipped(entry) for entry in skipped[:_MAX_LISTED]) if with_names else ""
        more = "; …" if with_names and len(skipped) > _MAX_LISTED else ""
        said.append(f"{len(skipped):,} unreadable files were left out{': ' if listed else '.'}{listed}{more}")
    return said


def found(run: Run, *, with_names: bool) -> list[Mapping[str, Any]]:
    """What the look at the data found before training, the gravest first; without names, which kind and how many."""
    findings = [each for each in run.manifest.get("findings") or () if isinstance(each, Mapping)]
    return [
        {
            "severity": each.get("severity", ""),
            "code": each.get("code", ""),
            "seen": each.get("seen", "") if with_names else f"{each.get('count') or 'some'} images",
            "edit": each.get("edit", "") if with_names else "",
            "files": [str(name) for name in (each.get("files") or ())[:_MAX_FILES]] if with_names else [],
        }
        for each in findings
    ]


def commands(run: Run, *, with_names: bool) -> list[Command]:
    """How to get the same figures, answers for other images, and the same run again; without names, without paths."""
    folder = run.path if with_names else Path(run.name)
    path, config = shlex.quote(str(folder)), shlex.quote(str(folder / "config.toml"))
    name = str(_section(run.manifest, "model").get("name", ""))
    again = f" --model PATH/{shlex.quote(name)}" if _section(run.manifest, "model").get("source_sha256") else ""
    source = run.config.data.source or str(_section(run.manifest, "data").get("origin", "DATA"))
    source = shlex.quote(source) if with_names else "DATA"
    return [
        Command("score the saved run again; it gives the figures on this page", f"vitreous evaluate {path}{again}"),
        Command("ask it about your images", f"vitreous predict {path}{again} IMAGE_OR_FOLDER..."),
        Command("see why it says what it says of an image", f"vitreous explain {path} IMAGE{again}"),
        Command(
            f"train it again from nothing, under a new name, with the settings above; {_same_bits(run)}",
            f"vitreous train {source} --config {config}{again} --run NEW",
        ),
        Command("tell whether another run is really better", f"vitreous compare {path} OTHER_RUN"),
        Command(
            "go on with it, if it was stopped, or mend it, if a file of it is damaged", f"vitreous resume {path}{again}"
        ),
        Command("write this page without any picture of yours", f"vitreous report {path}{again} --no-images"),
    ]


def _same_bits(run: Run) -> str:
    """What may be expected of the weights when everything is done again."""
    if run.config.engine.device not in (None, "cpu"):
        return "a graphics processor adds in no fixed order, so its weights will differ in their last bits"
    return "the same machine, versions and number of threads give the same weights, to the last bit"


def duration(seconds: float) -> str:
    """A span of time as people say it.

    >>> duration(9.26), duration(252), duration(7380)
    ('9.3 s', '4 min 12 s', '2 h 3 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _epochs(metrics: Sequence[Mapping[str, Any]], best: Any) -> str:
    """Line 0, where there is one, is the head that was fitted on frozen features."""
    if not metrics:
        return ""
    last = int(metrics[-1].get("epoch", len(metrics)))
    if last == 0:
        return "none: the head was fitted on frozen features"
    if best is None:
        return str(last)
    return f"{last}, the best was {f'epoch {best}' if best else 'the head fitted before them'}"


def _skipped(entry: Any) -> str:
    if isinstance(entry, Mapping):
        return ": ".join(str(entry[key]) for key in ("name", "path", "reason") if key in entry)
    return ": ".join(str(part) for part in entry) if isinstance(entry, list | tuple) else str(entry)


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


def _section(mapping: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = mapping.get(key)
    return value if isinstance(value, Mapping) else {}

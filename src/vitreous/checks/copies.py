"""Findings about pictures that stand in the data more than once: within a class, across classes, across parts."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from vitreous.checks.examined import Examined
from vitreous.checks.finding import Finding
from vitreous.wording import counted, printable

_PARTS = ("test", "val", "train")  # of two copies, the one that stands earlier here is kept
_SHOWN = 3

Cluster = NDArray[np.int64]  # indices of images that are the same picture


def leaks(data: Examined) -> Iterator[Finding]:
    """Pictures that stand in two parts of a split that the user gave."""
    found = leaked(data)
    if not found:
        return
    splits = data.source.splits
    assert splits is not None
    present = [part for part in _PARTS if part in splits]
    shared = {
        part: sum(int((splits[each] == part).sum()) for each in found if "train" in splits[each])
        for part in present
        if part != "train"
    }
    counts = {part: int((splits == part).sum()) for part in present}
    kept = {id(each): next(part for part in _PARTS if part in splits[each]) for each in found}
    yield Finding(
        code="leak",
        severity="mend",
        where="the parts",
        seen=f"{counted(len(found), 'picture')} in more than one part: part of the score is for what was seen before",
        arithmetic=", ".join(
            f"{number:,} of {counts[part]:,} {part} images ({number / counts[part]:.1%}) show a picture of train"
            for part, number in shared.items()
        )
        + f"; e.g. {_examples(data, found)}",
        edit="leave the copies outside of test out (--fix-list), or train as it is: the score is then given with and "
        "without them",
        files=_names(data, found),
        count=len(found),
        exclude=data.names([i for each in found for i in each if splits[i] != kept[id(each)]]),
    )


def in_two_parts(data: Examined) -> Iterator[Finding]:
    """One file under two parts, by a link or a path given twice."""
    pairs = data.source.files_in_two_parts()
    if pairs:
        yield Finding(
            code="file-in-two-parts",
            severity="mend",
            where="the parts",
            seen=f"{counted(len(pairs), 'file')} in two parts, as links or by their path; training refuses that",
            arithmetic="; ".join(f"{printable(a)} = {printable(b)}" for a, b in pairs[:_SHOWN]),
            edit="remove them from one part",
            files=tuple(name for pair in pairs for name in pair),
            count=len(pairs),
        )


def shared_groups(data: Examined) -> Iterator[Finding]:
    """Groups (patients, cameras) that stand in two parts of a split that the user gave."""
    groups, splits = data.source.groups, data.source.splits
    if groups is None or splits is None:
        return
    parts_of: dict[str, set[str]] = {}
    for group, part in zip(groups, splits, strict=True):
        parts_of.setdefault(group, set()).add(str(part))
    shared = [group for group, parts in parts_of.items() if group and len(parts) > 1]
    if shared:
        members = set(shared)
        indices = [i for i, group in enumerate(groups) if group in members]
        yield Finding(
            code="group-in-two-parts",
            severity="mend",
            where="the parts",
            seen=f"{counted(len(shared), 'group')} in more than one part: part of the score is for known ones",
            arithmetic=f"{len(indices):,} images; e.g. {', '.join(map(printable, shared[:_SHOWN]))}",
            edit="give each group to one part, or give no parts: training then keeps groups together",
            files=data.names(indices),
            count=len(shared),
        )


def label_conflicts(data: Examined) -> Iterator[Finding]:
    """The same picture under two classes: equal bytes must be mended, near duplicates looked at."""
    equal, near = conflicting(data)
    if equal:
        names = _names(data, equal)
        yield Finding(
            code="label-conflict",
            severity="mend",
            where="the classes",
            seen=f"{counted(len(equal), 'picture')} in two classes, byte for byte: one of the labels must be wrong",
            arithmetic=f"{counted(len(names), 'file')}; e.g. {_examples(data, equal)}",
            edit="keep each in the class that is right; --fix-list leaves all of them out",
            files=names,
            count=len(equal),
            exclude=names,
        )
    if near:
        yield Finding(
            code="near-label-conflict",
            severity="consider",
            where="the classes",
            seen=f"{counted(len(near), 'picture')} in two classes, in slightly different form",
            arithmetic=f"{sum(map(len, near)):,} files; e.g. {_examples(data, near)}",
            edit="look at them side by side (--report): where they show the same, one of the labels is wrong",
            files=_names(data, near),
            count=len(near),
        )


def within_a_class(data: Examined) -> Iterator[Finding]:
    """Copies that add nothing: of the same class, and where parts are given of the same part.

    Only those with equal bytes are left out by the list: of two that look alike, a person knows which adds something.
    """
    extra: list[int] = []
    equal: list[int] = []
    clusters = []
    for cluster in data.clusters:
        kept: dict[tuple[int, str], set[str]] = {}
        before = len(extra)
        for i in cluster:
            seen = kept.setdefault(_place(data, int(i)), set())
            if seen:
                extra.append(int(i))
                equal += [int(i)] if data.hashes[i] in seen else []
            seen.add(data.hashes[i])
        if len(extra) > before:
            clusters.append(cluster)
    if not extra:
        return
    share = len(extra) / len(data.hashes)
    yield Finding(
        code="duplicates",
        severity="consider" if share >= 0.005 else "note",
        where="the classes",
        seen=f"{counted(len(extra), 'copy', 'copies')} ({share:.1%} of all images) of what the class has already",
        arithmetic=f"{len(equal):,} byte for byte, {len(extra) - len(equal):,} scaled, compressed or brightened anew; "
        "e.g. " + _examples(data, clusters),
        edit="nothing must be done: all copies of a picture go to one part; --fix-list leaves out those that are "
        "equal byte for byte, so that none counts more than others",
        files=_names(data, clusters),
        count=len(extra),
        exclude=data.names(equal),
    )


def leaked(data: Examined) -> list[Cluster]:
    """The clusters that stand in more than one given part."""
    splits = data.source.splits
    return [] if splits is None else [each for each in data.clusters if len(set(splits[each])) > 1]


def conflicting(data: Examined) -> tuple[list[Cluster], list[Cluster]]:
    """The clusters of more than one class: those in which equal bytes have two labels, and the others."""
    labels = data.source.labels
    mixed = [each for each in data.clusters if len(set(labels[each])) > 1]
    is_equal = [
        len({(data.hashes[i], labels[i]) for i in each}) > len({data.hashes[i] for i in each}) for each in mixed
    ]
    return (
        [each for each, equal in zip(mixed, is_equal, strict=True) if equal],
        [each for each, equal in zip(mixed, is_equal, strict=True) if not equal],
    )


def _place(data: Examined, i: int) -> tuple[int, str]:
    """Class and given part of an image."""
    return int(data.source.labels[i]), "" if data.source.splits is None else str(data.source.splits[i])


def _names(data: Examined, clusters: Sequence[Cluster]) -> tuple[str, ...]:
    return data.names([int(i) for each in clusters for i in each])


def _examples(data: Examined, clusters: Sequence[Cluster]) -> str:
    texts = [" = ".join(map(printable, data.names(each[:_SHOWN]))) for each in clusters[:_SHOWN]]
    return "; ".join(text + " ..." * (len(each) > _SHOWN) for text, each in zip(texts, clusters, strict=False))

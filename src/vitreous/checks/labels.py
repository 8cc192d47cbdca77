"""Doubtful labels in the voice of a check."""

from collections.abc import Sequence

from vitreous.checks.finding import Finding
from vitreous.evaluation.doubt import DoubtfulLabel

_SHOWN = 3


def label_finding(
    doubtful: Sequence[DoubtfulLabel], names: Sequence[str], classes: Sequence[str], agreement: float
) -> Finding | None:
    """What is to be said of doubtful labels; None where there are none.

    Args:
        names: of all the images that were answered, by the rows that ``doubtful`` counts in.
        agreement: the share of these images that the network takes for what their label says.
    """
    if not doubtful:
        return None
    examples = "; ".join(
        f"{names[each.row]}: {classes[each.label]} {each.label_probability:.1%}, "
        f"{classes[each.likely]} {each.likely_probability:.1%}"
        for each in doubtful[:_SHOWN]
    )
    return Finding(
        code="doubtful-label",
        severity="consider",
        where="the labels",
        seen=f"{len(doubtful):,} of {len(names):,} labels are doubtful: a network that was not trained on these images "
        "takes them for another class",
        arithmetic=f"each is as likely of that class as its own images are on average; the network agrees with "
        f"{agreement:.0%} of all labels, and the fewer these are, the more of its doubts are its own mistakes; "
        f"e.g. {examples}",
        edit="look at them, the most doubtful first (--report); correct the label, or leave them out (--fix-list says "
        "look: set exclude yourself)",
        files=tuple(names[each.row] for each in doubtful),
        count=len(doubtful),
    )

"""Findings about labelled images, before any network is thought of."""

from vitreous.checks import classes, copies, files, shapes
from vitreous.checks.examined import Examined
from vitreous.checks.finding import Finding, sorted_by_weight


def data_findings(data: Examined) -> list[Finding]:
    """Everything that is found, the gravest first."""
    return sorted_by_weight(
        [
            *files.remarks(data),
            *files.unreadable(data),
            *classes.absent(data),
            *copies.in_two_parts(data),
            *copies.leaks(data),
            *copies.shared_groups(data),
            *copies.label_conflicts(data),
            *copies.within_a_class(data),
            *classes.few(data),
            *classes.unbalanced(data),
            *classes.shortcuts(data),
            *files.blank(data),
            *files.misnamed(data),
            *files.animated(data),
            *files.grey_among_colour(data),
            *shapes.extreme(data),
            *shapes.small(data),
            *files.converted(data),
        ]
    )

"""Findings about a network for images of one size, all read from its trace; none knows an architecture by name."""

from torch import nn

from vitreous.checks import fields, waste
from vitreous.checks.finding import Finding, sorted_by_weight
from vitreous.trace.summary import Summary


def design_findings(network: nn.Module, summary: Summary, num_classes: int) -> list[Finding]:
    """Everything that is found, the gravest first.

    Args:
        network: the one that was traced; it is traced again at other sizes, and left as it was.
        summary: of this network at the size in question.
        num_classes: that it tells apart.
    """
    return sorted_by_weight(
        [
            *waste.padding(summary),
            *waste.unread_parameters(summary),
            *waste.dead_widths(summary),
            *waste.narrow(summary, num_classes),
            *waste.cancelled_biases(summary),
            *waste.dense(summary),
            *fields.shrunk(summary),
            *fields.unseen(network, summary),
            *fields.misaligned(summary),
            *fields.outgrown(summary),
        ]
    )

"""What is wrong with a network for some data, from its trace and a few measured steps."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from vitreous.checks.cost import EpochCost, epoch_cost
from vitreous.checks.design import design_findings
from vitreous.checks.finding import Finding
from vitreous.config import Config, settled
from vitreous.data.source import open_source
from vitreous.models import build_network
from vitreous.progress import Progress
from vitreous.trace import trace
from vitreous.trace.summary import Summary
from vitreous.training.recipe import Facts, choose_recipe
from vitreous.workflow.asked import asked_contract, asked_settings


@dataclass(frozen=True)
class Design:
    """A network for the data: its summary, what was found in it, and what an epoch will cost."""

    summary: Summary
    findings: tuple[Finding, ...]
    cost: EpochCost


def check_design(
    data: str | Path,
    *,
    model: str,
    config: Config | Path | str | None,
    settings: Mapping[str, Any],
    progress: Progress,
) -> Design:
    """Look at a network for these data; only the headers of the images are read.

    Raises:
        UserError: data, settings or the network are wrong, or do not fit each other.
    """
    asked = asked_settings(config, data, {**settings, "model": model})
    source = open_source(data, for_training=False)
    contract = asked_contract(source, asked, progress)
    size = (contract.height, contract.width)
    num_classes, shape = len(source.classes), (contract.channels, *size)
    network = build_network(
        model, num_classes=num_classes, in_channels=contract.channels, image_size=size, classes=source.classes
    )
    found = Summary(model, shape, trace(network, shape))
    num_train = round(len(source.images) * (1 - asked.data.val_fraction - asked.data.test_fraction))
    facts = Facts(
        class_counts=(max(1, num_train // num_classes),) * num_classes,
        image_size=size,
        num_parameters=found.trace.parameters,
        has_norm=any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in network.modules()),
    )
    chosen, _ = choose_recipe(asked, facts)
    progress.say(f"measuring some steps of {model}")
    findings = design_findings(network, found, num_classes)
    cost = epoch_cost(
        network,
        found,
        num_classes=num_classes,
        num_images=num_train,
        batch_size=settled(chosen.training.batch_size),
    )
    return Design(found, (*findings, cost.finding), cost)

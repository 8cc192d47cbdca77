"""What is wrong with a network for these data, before a minute is spent on training it."""

import dataclasses
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
from vitreous.progress import SILENT, Progress
from vitreous.trace import trace
from vitreous.trace.summary import Summary
from vitreous.training.recipe import Facts, choose_recipe, default_pattern
from vitreous.workflow.training import asked_contract, asked_settings


@dataclass(frozen=True)
class Checked:
    """A network for some data: what was found, and what an epoch will cost."""

    data: str
    num_images: int
    num_classes: int
    summary: Summary
    findings: list[Finding]
    cost: EpochCost

    @property
    def is_good(self) -> bool:
        """Whether nothing has to be mended."""
        return all(finding.severity != "mend" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """The document of ``vitreous check --json``."""
        return {
            "data": self.data,
            "num_images": self.num_images,
            "num_classes": self.num_classes,
            "model": self.summary.model,
            "input": list(self.summary.input),
            "params": self.summary.trace.parameters,
            "macs": self.summary.trace.macs,
            "is_good": self.is_good,
            "findings": [finding.to_json() for finding in self.findings],
            "epoch": self.cost.to_json(),
        }


def check(
    data: str | Path,
    *,
    model: str | None = None,
    config: Config | Path | str | None = None,
    progress: Progress = SILENT,
    **settings: Any,
) -> Checked:
    """Look at a design for these data; only the headers of the images are read.

    Args:
        data: as for training.
        model: the network; by default the one that training would choose.
        config: settings, or a TOML file of them, as for training.
        progress: where bars go.
        **settings: single settings, as for training: ``image_size=64``.

    Raises:
        UserError: data, settings or the network are wrong, or do not fit each other.
    """
    asked = asked_settings(config, data, {**settings, "model": model})
    source = open_source(data)
    contract = asked_contract(source, asked, progress)
    size = (contract.height, contract.width)
    name = asked.model.name or default_pattern(size)
    asked = dataclasses.replace(asked, model=dataclasses.replace(asked.model, name=name))
    num_classes, shape = len(source.classes), (contract.channels, *size)
    network = build_network(
        name, num_classes=num_classes, in_channels=contract.channels, image_size=size, classes=source.classes
    )
    found = Summary(name, shape, trace(network, shape))
    num_train = round(len(source.images) * (1 - asked.data.val_fraction - asked.data.test_fraction))
    facts = Facts(
        class_counts=(max(1, num_train // num_classes),) * num_classes,
        image_size=size,
        num_parameters=found.trace.parameters,
        has_norm=any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in network.modules()),
    )
    chosen, _ = choose_recipe(asked, facts)
    progress.say(f"measuring some steps of {name}")
    findings = design_findings(network, found, num_classes)
    cost = epoch_cost(
        network,
        found,
        num_classes=num_classes,
        num_images=num_train,
        batch_size=settled(chosen.training.batch_size),
    )
    return Checked(str(source.origin), len(source.images), num_classes, found, [*findings, cost.finding], cost)

"""Write docs/architectures.md from what the built networks cost and see: python scripts/make_architectures_page.py."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vitreous.workflow.networks import list_models

PAGE = Path(__file__).parent.parent / "docs" / "architectures.md"
ARTICLE = ("lenet5-1998", "lenet5", "alexnet", "vgg16", "resnet50", "resnet101", "resnet152")
HEAD = """# Architectures

The networks that `--model` knows by name, compared. The figures are not copied from anywhere: each network is built,
and traced on one image of its own size (`vitreous.trace`). The errors are the papers' own, with their tables. This page
is written by `scripts/make_architectures_page.py`; `vitreous models` prints the table, `vitreous models NAME` all that
is known of one network, and `--json` everything.

## The milestones

"""
CORRECTIONS = """
Where these rows differ from what one often reads:

- **ResNet-50's top-5 error is 5.25 %, not 3.57 %**: 3.57 % is that of six ResNets together, of different depths, on the
  test images (He et al. 2015, table 5); one ResNet-152 makes 4.49 %.
- **AlexNet's is 18.2 %, not 15.3 %**, which is that of seven networks together on the test images; and VGG's 7.3 % is
  of seven as well, where one VGG-16 makes 7.2 % on the validation images and one VGG-19 7.1 %.
- **LeNet-5's "60K" are exactly 60,000** trainable parameters in the network of 1998, with its sparse C3 and its
  trainable subsampling; the form that is built today, with a dense C3 and a linear output, has 61,706.
- **AlexNet's "61M" are 61,100,840** in the one-column form of today's libraries; the two-column network of 2012 had
  60,965,224.
- **A 2x2 pool behind a 7x7 receptive field makes it 8x8, not 14x14**: size + (kernel - 1) x jump = 7 + 1 x 1; what
  doubles is the jump, the distance in pixels between neighbouring units, so that later layers grow twice as fast.
- **The ResNet-50 of the paper sees 483 pixels, today's 427**: the paper's has its stride on a block's first 1x1
  convolution, libraries have it on the 3x3. The published errors are of the paper's form, here `resnet50-paper`.

## All of them

"""
READING = """
- **depth**: layers with weights, one behind the other, as the paper counts them.
- **parameters**: trainable numbers, for the classes of the data that the network was published for (1000, or ten).
- **MACs**: multiply-accumulates of convolutions and dense layers for one image of the size under *input*, biases not
  counted; a FLOP count is twice as much. They equal half of what torch's `FlopCounterMode` finds, but for one row:
  `lenet5-1998` is given by its definition, 326,520, of which 150,000 are the 60 kernels of C3 that exist and 840 the
  squared distances of the output; the code computes C3 densely, with zeros in place of the missing kernels, and torch
  counts 415,680, without the distances.
- **receptive field**: the side of the square of pixels that a unit of the last map depends on, before pooling to 1x1 or
  a dense layer, and before the image's border cuts it off; *jump* is the distance between neighbouring units (none
  where the map is 1x1). All are exact: the rules behind them are tested against the gradients of random networks.
- **published error**: of one network unless said; *paper's form* where the row is a variant of the network that was
  published. Empty where the paper states none. Top-5 errors of different years are not of the same protocol: how the
  images were shown stands beside each in `vitreous models NAME`.

## Sources

"""


def architectures_page() -> str:
    """The whole page."""
    rows = {row["name"]: row for row in list_models()}
    sources = {re.sub(", (table|section) .*", "", each) for row in rows.values() for each in row["source"].split("; ")}
    return "".join(
        (
            HEAD,
            *_table(rows[name] for name in ARTICLE),
            CORRECTIONS,
            *_table(rows.values()),
            READING,
            *(f"- {source}\n" for source in sorted(sources, key=str.lower)),
        )
    )


def _table(rows: Iterable[dict[str, Any]]) -> list[str]:
    header = "| name | year | depth | input | parameters | MACs | receptive field | published error | key idea |\n"
    rule = "|---|---|---|---|--:|--:|---|---|---|\n"
    return [header, rule, *(_line(row) for row in rows)]


def _line(row: dict[str, Any]) -> str:
    field = row["receptive_field"]
    assert field["status"] == "exact", row["name"]
    side, jump = field["size"][0], "" if field["jump"] is None else f", jump {field['jump'][0]}"
    cells = (
        f"`{row['name']}`",
        row["year"],
        row["depth"],
        row["input"],
        f"{row['parameters']:,}",
        f"{row['macs']:,}",
        f"{side} px{jump}",
        _error(row["published"][0]) if row["published"] else "",
        row["idea"],
    )
    return f"| {' | '.join(str(cell) for cell in cells)} |\n"


def _error(published: dict[str, Any]) -> str:
    form = "" if published["is_this_form"] else "; paper's form"
    return f"{published['error_percent']} % {published['measure']}, {published['data']} ({published['where']}{form})"


if __name__ == "__main__":
    PAGE.write_text(architectures_page(), encoding="utf-8")

"""Findings about sizes and aspect ratios: what a crop would cut off, what would be enlarged."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vitreous.checks.examined import Examined
from vitreous.checks.finding import Finding
from vitreous.wording import counted

_LOST = 0.5  # of a picture, from which on a crop is worth a thought; photographs of 3 : 2 lose a third
_SHARE = 0.02  # of all pictures
_BLURRED = 2.0  # enlargement


def extreme(data: Examined) -> Iterator[Finding]:
    """Pictures far from the shape of the network's field."""
    if data.contract is None:
        return
    kept = kept_by_crop(data)
    order = np.argsort(kept, kind="stable")
    lost = order[kept[order] < 1 - _LOST]
    if not len(lost):
        return
    looks, worst = data.looks, order[0]
    names = data.names(data.readable[lost])
    yield Finding(
        code="extreme-shapes",
        severity="consider" if len(lost) >= _SHARE * len(kept) else "note",
        where="the shapes",
        seen=f"{counted(len(lost), 'picture')} so long that a centre crop would lose half and more",
        arithmetic=f"of {names[0]} ({looks['height'][worst]} x {looks['width'][worst]} px) it would keep "
        f"{kept[worst]:.0%}, of the median picture {np.median(kept):.0%}",
        edit="look at what is left of them (--report): fit pad keeps all and wastes pixels, crop cuts, squash distorts "
        "(--set data.fit=pad)",
        files=names,
        count=len(names),
    )


def small(data: Examined) -> Iterator[Finding]:
    """Pictures that must be enlarged a lot to be shown to the network."""
    contract = data.contract
    if contract is None or contract.fit == "centre":
        return
    enlarged = np.minimum(contract.height / data.looks["height"], contract.width / data.looks["width"])
    order = np.argsort(-enlarged, kind="stable")
    chosen = order[enlarged[order] > _BLURRED]
    if len(chosen):
        names = data.names(data.readable[chosen])
        smallest = data.looks[chosen[0]]
        yield Finding(
            code="enlarged",
            severity="consider",
            where="the shapes",
            seen=f"{counted(len(names), 'picture')} less than half as large as the network's field: enlarging blurs",
            arithmetic=f"the smallest is {smallest['height']} x {smallest['width']} px, the field that training would "
            f"choose {contract.height} x {contract.width} px",
            edit="leave thumbnails out, or train at a smaller --image-size",
            files=names,
            count=len(names),
        )


def kept_by_crop(data: Examined) -> NDArray[np.float64]:
    """The share (M) of each picture that a centre crop of the field's shape keeps."""
    contract = data.contract
    assert contract is not None
    ratio = (data.looks["width"] / data.looks["height"]) / (contract.width / contract.height)
    kept: NDArray[np.float64] = np.minimum(ratio, 1 / ratio)
    return kept

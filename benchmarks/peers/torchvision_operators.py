"""Lets PyPI's torchvision, built for CUDA's torch, be imported beside the processor's: two operators lack a name."""

import torch


def define() -> None:
    """Before the first ``import torchvision``; neither operator is ever called here."""
    if torch.version.cuda is None and not hasattr(torch.ops.torchvision, "nms"):
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

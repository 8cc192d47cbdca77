"""Boxes in images, drawn by their centre and cut off at the edge: what cutout hides and CutMix fills."""

import torch
from torch import Tensor


def drawn_box(length: int, side_N: Tensor, centre_N: Tensor) -> tuple[Tensor, Tensor]:
    """First and last-but-one pixel along an axis of boxes of ``side`` pixels (whole) about a pixel drawn in [0, 1).

    >>> drawn_box(10, torch.tensor([4, 4, 0]), torch.tensor([0.0, 0.55, 0.9]))
    (tensor([0, 3, 9]), tensor([2, 7, 9]))
    """
    first_N = (centre_N * length).long() - side_N // 2
    return first_N.clamp(0, length), (first_N + side_N).clamp(0, length)


def filled(
    images_NHWC: Tensor, others_NHWC: Tensor, rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor]
) -> Tensor:
    """The images with the pixels of ``others`` (which may be broadcast) in each one's box.

    Bits are chosen by a mask of bytes, which processors do several times faster than ``torch.where``.
    """
    _, height, width, channels = images_NHWC.shape
    in_rows_NH, in_columns_NW = (
        _between(length, *bounds, images_NHWC.device) for length, bounds in ((height, rows), (width, columns))
    )
    in_columns_NL = in_columns_NW[:, :, None].expand(-1, -1, channels).reshape(len(images_NHWC), 1, -1)
    mask_NHWC = (in_rows_NH[:, :, None] & in_columns_NL).view(images_NHWC.shape)
    return (others_NHWC ^ images_NHWC).bitwise_and_(mask_NHWC).bitwise_xor_(images_NHWC)


def _between(length: int, first_N: Tensor, end_N: Tensor, device: torch.device) -> Tensor:
    """255 from ``first`` to before ``end``, else 0: N,L, uint8."""
    places_L = torch.arange(length)
    is_inside = (places_L >= first_N[:, None]) & (places_L < end_N[:, None])
    return is_inside.to(torch.uint8).mul_(255).to(device)

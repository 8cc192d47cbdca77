"""Where each pixel of a varied image comes from, and how it is fetched.

Whole steps and mirrors copy runs of bytes. Everything else is one affine map an image and one resampling, however many
turns and shears it is made of. What is computed for an image rounds alike wherever it lies in a batch.
"""

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from vitreous.augmentation.rounding import HALF, cos_sin, to_bytes


def reflect(places: Tensor, length: int) -> Tensor:
    """Fold places outside 0 .. length-1 back inside, the edge not repeated, as ``torch.nn.ReflectionPad2d`` does.

    >>> reflect(torch.tensor([-2, -1, 0, 4, 5, 6]), 5).tolist()
    [2, 1, 0, 4, 3, 2]
    """
    if length == 1:
        return torch.zeros_like(places)
    period = 2 * (length - 1)
    folded = places.remainder(period)
    return torch.minimum(folded, period - folded)


def shifted(images_NHWC: Tensor, down_N: Tensor, right_N: Tensor, most: int) -> Tensor:
    """Each output pixel (y, x) is the input's (y + down, x + right), both at most ``most`` off; the edge is reflected.

    The rows are padded once; then each output row is one run of bytes, wherever it begins.
    """
    num, height, width, channels = images_NHWC.shape
    device, padded_width = images_NHWC.device, width + 2 * most
    padded = images_NHWC.new_empty((num, height, padded_width, channels))
    padded[:, :, most : most + width] = images_NHWC
    for start in (0, most + width):
        columns = reflect(torch.arange(start - most, start, device=device), width)
        padded[:, :, start : start + most] = images_NHWC.index_select(2, columns)
    down_N, right_N = down_N.to(device), right_N.to(device)
    rows_NH = reflect(torch.arange(height, device=device) + down_N[:, None], height)
    rows_NH = rows_NH + torch.arange(num, device=device)[:, None] * height
    starts_NH = (rows_NH * padded_width + right_N[:, None] + most) * channels
    run = width * channels
    runs = padded.view(-1).as_strided((padded.numel() - run + 1, run), (1, 1))
    return runs.index_select(0, starts_NH.view(-1)).view(images_NHWC.shape)


def mirrored(images_NHWC: Tensor, is_mirrored_N: Tensor) -> Tensor:
    """Left and right changed about in the images that are named."""
    numbers = is_mirrored_N.nonzero()[:, 0].to(images_NHWC.device)
    return replaced(images_NHWC, numbers, images_NHWC.index_select(0, numbers).flip(2))


def replaced(images_NHWC: Tensor, numbers_K: Tensor, others_KHWC: Tensor) -> Tensor:
    """The images with those numbered ``numbers_K`` replaced by ``others_KHWC``.

    Whole images are copied twice, which is several times faster than ``index_copy_`` once on bytes.
    """
    num = len(images_NHWC)
    places_N = torch.arange(num, device=images_NHWC.device)
    places_N[numbers_K] = torch.arange(num, num + len(numbers_K), device=images_NHWC.device)
    return torch.cat((images_NHWC, others_KHWC)).index_select(0, places_N)


def affine(
    *, right_N: Tensor, down_N: Tensor, degrees_N: Tensor, slope_right_N: Tensor, slope_down_N: Tensor, factor_N: Tensor
) -> Tensor:
    """Where the points of a varied image come from: N,2,3, to be multiplied with (x, y, 1) about the centre, in pixels.

    The image was moved by ``right`` and ``down``, then turned clockwise, then sheared, so that (x, y) went to
    (x + slope_right y, y + slope_down x), then enlarged by ``factor``; x is to the right and y down.
    """
    cos_N, sin_N = cos_sin(degrees_N)
    shrink_N = 1 / (factor_N * (1 - slope_right_N * slope_down_N))
    entries = (
        (cos_N - sin_N * slope_down_N) * shrink_N,
        (sin_N - cos_N * slope_right_N) * shrink_N,
        -right_N,
        -(sin_N + cos_N * slope_down_N) * shrink_N,
        (cos_N + sin_N * slope_right_N) * shrink_N,
        -down_N,
    )
    return torch.stack(entries, dim=1).view(-1, 2, 3)


def product(first_N23: Tensor, second_N23: Tensor) -> Tensor:
    """Where the points come from in an image that met ``first`` and then ``second``: the matrices' product, as sums."""
    product_N23 = first_N23[:, :, :1] * second_N23[:, :1] + first_N23[:, :, 1:2] * second_N23[:, 1:]
    product_N23[:, :, 2] += first_N23[:, :, 2]
    return product_N23


def resampled(images_NHWC: Tensor, rows_NH: Tensor, columns_NW: Tensor, maps_N23: Tensor) -> Tensor:
    """The pixels that the maps fetch for the points (columns, rows): bilinear, edges reflected, whole grey levels."""
    height, width = images_NHWC.shape[1:3]
    centre_y, centre_x = (height - 1) / 2, (width - 1) / 2
    y_NH, x_NW = rows_NH - centre_y, columns_NW - centre_x
    grid_NHW2 = images_NHWC.new_empty((*images_NHWC.shape[:3], 2), dtype=torch.float32)
    for axis, (length, centre) in enumerate(((width, centre_x), (height, centre_y))):
        scale = 2 / max(length - 1, 1)  # on grid_sample's scale -1 and 1 are the centres of the first and last pixel
        of_x_N, of_y_N, offset_N = maps_N23[:, axis, :, None].unbind(1)
        along_NW = (of_x_N * x_NW * scale).float().to(images_NHWC.device)
        along_NH = ((of_y_N * y_NH + offset_N + centre) * scale - 1).float().to(images_NHWC.device)
        torch.add(along_NW[:, None], along_NH[:, :, None], out=grid_NHW2[..., axis])
    images_NCHW = images_NHWC.permute(0, 3, 1, 2).float()
    sampled_NCHW = grid_sample(images_NCHW, grid_NHW2, padding_mode="reflection", align_corners=True)
    return to_bytes(sampled_NCHW.add_(HALF)).permute(0, 2, 3, 1).contiguous()

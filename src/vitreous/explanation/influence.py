"""How much of what a unit could see it really looks at: the effective receptive field beside the theoretical one.

The unit is the one in the middle of a map, all its channels together. A gradient of 1 in each of them goes back to the
image: where the gradient's absolute value is large, a pixel has influence. It has the shape of a bell, whose width
grows with the root of the depth while the theoretical field grows with the depth itself.
Source: Luo, Li, Urtasun, Zemel 2016, "Understanding the Effective Receptive Field in Deep Convolutional Neural
Networks", section 2.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vitreous.errors import UserError
from vitreous.trace import Trace, trace
from vitreous.trace.borrowing import borrowed
from vitreous.trace.recording import Recorder

HELD = 0.95  # of the influence


@dataclass(frozen=True)
class Influence:
    """Of one map's middle unit over the image, or over a volume or a signal, which have three axes or one."""

    operation: int  # the map's, in the recording
    layer: str
    call: int
    unit: tuple[int, ...]  # the middle one's place on the map, y before x
    num_images: int
    influence_HW: Tensor  # mean over images and input channels of |d (sum over the unit's channels) / d pixel|, doubles
    box: tuple[range, ...]  # what the unit can see: the theoretical field, clipped to the image, one range per axis
    is_exact: bool  # False: the unit may see less than the box

    @property
    def sigma(self) -> tuple[float, ...] | None:
        """The influence's standard deviation along each axis, in pixels; None where no pixel has any."""
        if not self.influence_HW.any():
            return None
        return tuple(deviation for _, deviation in map(_moments, self._along_axes()))

    @property
    def centre(self) -> tuple[float, ...] | None:
        """The influence's centre of mass, in pixels; None where no pixel has any."""
        if not self.influence_HW.any():
            return None
        return tuple(mean for mean, _ in map(_moments, self._along_axes()))

    @property
    def share_of_box(self) -> float | None:
        """Of the box: the pixels that hold 95 % of the influence, the strongest first; None where none has any."""
        if not self.influence_HW.any():
            return None
        held = self.influence_HW.flatten().sort(descending=True).values.cumsum(0)
        return (int((held < HELD * held[-1]).sum()) + 1) / math.prod(map(len, self.box))

    def _along_axes(self) -> list[Tensor]:
        """The influence of each row, of each column, and so on."""
        sizes = enumerate(self.influence_HW.shape)
        return [self.influence_HW.movedim(axis, -1).reshape(-1, size).sum(dim=0) for axis, size in sizes]

    def to_json(self) -> dict[str, Any]:
        """In brief: without the map."""
        return {
            "layer": self.layer,
            "call": self.call,
            "unit": list(self.unit),
            "num_images": self.num_images,
            "box": [[pixels.start, pixels.stop] for pixels in self.box],
            "is_exact": self.is_exact,
            "centre": None if self.centre is None else list(self.centre),
            "sigma": None if self.sigma is None else list(self.sigma),
            "held": HELD,
            "share_of_box": self.share_of_box,
        }


def influence(network: nn.Module, images_NCHW: Tensor, operation: int | str | None = None) -> Influence:
    """The mean influence of the images' pixels on the middle unit of a map.

    To see what training made of it, compare with the same network at its initialization.

    Args:
        network: any; it is run in evaluation mode and left as it was found.
        images_NCHW: as the network takes them.
        operation: whose first output is the map: its number in the recording, or its name; the last map by default.

    Raises:
        UserError: there are no images, or no such map.
        ShapeError: the network does not take the images.

    >>> mean_filter = nn.Conv2d(1, 1, 3, bias=False)
    >>> _ = nn.init.constant_(mean_filter.weight, 1 / 9)
    >>> found = influence(mean_filter, torch.zeros(1, 1, 5, 5))
    >>> found.box, found.share_of_box, round(found.sigma[0] ** 2, 6)  # a uniform k x k: (k^2 - 1) / 12
    ((range(1, 4), range(1, 4)), 1.0, 0.666667)
    """
    if len(images_NCHW) == 0:
        raise UserError("there are no images to take gradients of; give at least one.")
    seen = trace(network, images_NCHW.shape[1:])
    number = _chosen(seen, operation)
    name, shape, fields = seen.recording.names[number], seen.operations[number].outputs[0], seen.fields[number]
    sides = images_NCHW.shape[2:]
    dims = seen.map_dims(number)
    if dims is None:
        raise UserError(f"the units of {name} {shape} have no places on the image; name a layer that gives a map.")
    unit = tuple(shape[dim] // 2 for dim in dims)
    index = tuple(unit[dims.index(dim)] if dim in dims else slice(None) for dim in range(len(shape)))
    with borrowed(network) as bare:
        total = torch.stack([_gradient(bare, image[None], number, index) for image in images_NCHW]).sum(dim=0)
    return Influence(
        operation=number,
        layer=name,
        call=seen.operations[number].call,
        unit=unit,
        num_images=len(images_NCHW),
        influence_HW=total / len(images_NCHW),
        box=tuple(field.clipped(at, side) for field, at, side in zip(fields, unit, sides, strict=True)),
        is_exact=all(field.status == "exact" for field in fields),
    )


def _chosen(seen: Trace, operation: int | str | None) -> int:
    if isinstance(operation, int) and 0 <= operation < len(seen.operations):
        return operation
    number = seen.recording.find(operation) if isinstance(operation, str) else None
    if operation is None:
        number = seen.last_map or None  # operation 0 is the image itself
    if number is None:
        what = "layer whose units have places on the image" if operation is None else f"operation {operation!r}"
        raise UserError(f"the network has no {what}; there is {', '.join(seen.recording.names[1:6])}.")
    return number


def _gradient(network: nn.Module, image_1CHW: Tensor, number: int, index: Any) -> Tensor:
    """Of the sum over the unit's channels, towards the image: absolute values, their mean over the input's channels."""
    scores: list[Tensor] = []

    def keep(operation: int, output: int, tensor: Tensor) -> None:
        if (operation, output) == (number, 0):
            scores.append(tensor[index].sum())  # now: an in-place layer may come next

    recorder = Recorder({}, {}, keep)
    leaf = image_1CHW.detach().clone().requires_grad_()
    with torch.enable_grad(), torch.random.fork_rng(devices=[]):
        image = leaf.clone()  # a network may write into what it is given, and a leaf must not be written into
        recorder.add("input", ((), {}), [image])
        with recorder:
            network(image)
        if not scores:
            raise UserError("the network takes another way for one of the images; give images that it treats alike.")
        found = torch.autograd.grad(scores[0] + 0 * leaf.sum(), leaf)  # a map may have no gradient at all
    return found[0][0].abs().double().mean(dim=0)


def _moments(weights: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of places 0, 1, 2 ... that have these weights."""
    share = weights / weights.sum()
    places = torch.arange(len(share), dtype=share.dtype, device=share.device)
    mean = (share * places).sum()
    return float(mean), float((share * (places - mean) ** 2).sum().sqrt())

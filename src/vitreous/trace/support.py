"""The set of pixels behind one unit, and the set of units that a pixel reaches: not windows around them, the sets.

True and false are carried through the recorded graph, layer by layer, along the links of each operation (``linking``).
Nothing is counted, so that nothing overflows in a deep network, and no weight is asked: a weight counts as not nought,
and sums as not cancelling out. Channels are followed one by one: of grouped convolutions, of concatenations taken apart
again, of shuffled channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from vitreous.errors import ShapeError
from vitreous.trace.arguments import replaced
from vitreous.trace.linking import links_of
from vitreous.trace.links import Everything
from vitreous.trace.recording import Operation, Recording, Ref
from vitreous.trace.rules import FRESH, plain
from vitreous.trace.shapes import Shape


@dataclass(frozen=True)
class Support:
    """True where a pixel is seen, or a unit reached. "bound": not more than these, for some layers are not followed."""

    mask: Tensor
    status: Literal["exact", "bound"]
    not_followed: tuple[int, ...]  # operations of which everything was taken


def support(recording: Recording, operation: int, at: Sequence[int], output: int = 0) -> Support:
    """The pixels that one unit depends on, whichever of their channels: booleans H,W.

    Args:
        at: (c, y, x) for one unit, (y, x) for all channels of a place; (c,) after flattening.

    Raises:
        ShapeError: there is no such operation or unit.
    """
    wanted = _unit(recording, operation, output, at)
    image = recording.operations[0].outputs[0]
    if recording.left_torch_at is not None and operation >= recording.left_torch_at:
        return Support(torch.ones(image[2:], dtype=torch.bool), "bound", (recording.left_torch_at,))
    masks: dict[tuple[int, int], Tensor] = {(operation, output): wanted}
    not_followed = []
    of_image = _of_image(recording)
    for number in range(operation, 0, -1):
        step = _without_constants(recording.operations[number], of_image)
        asked = {
            out: mask for out, _ in enumerate(step.outputs) if (mask := masks.pop((number, out), None)) is not None
        }
        for out, mask in asked.items():
            for ref, link in links_of(step, out):
                if isinstance(link, Everything):
                    not_followed.append(number)
                _add(masks, ref, link.back(mask))
    seen = masks.get((0, 0), torch.zeros(image, dtype=torch.bool)).expand(image)[0].any(0)
    return Support(seen.clone(), "bound" if not_followed else "exact", tuple(dict.fromkeys(not_followed)))


def reach(recording: Recording, pixel: Sequence[int], operation: int, output: int = 0) -> Support:
    """The units of an operation that depend on a pixel (y, x), on whichever of its channels: booleans C,H,W.

    Raises:
        ShapeError: there is no such operation or pixel.
    """
    masks = {(0, 0): _unit(recording, 0, 0, pixel)}
    shape = _shape(recording, operation, output)
    if recording.left_torch_at is not None and operation >= recording.left_torch_at:
        return Support(torch.ones(shape[1:], dtype=torch.bool), "bound", (recording.left_torch_at,))
    needed = _needed(recording, operation)
    not_followed = []
    of_image = _of_image(recording)
    for number in sorted(needed & of_image - {0}):
        step = _without_constants(recording.operations[number], of_image)
        for out, _ in enumerate(step.outputs):
            for ref, link in links_of(step, out):
                if (given := masks.get((ref.operation or 0, ref.output))) is not None:
                    if isinstance(link, Everything):
                        not_followed.append(number)
                    _add(masks, Ref(step.outputs[out], number, out), link.forth(given))
    reached = masks.get((operation, output), torch.zeros(shape, dtype=torch.bool)).expand(shape)[0]
    return Support(reached.clone(), "bound" if not_followed else "exact", tuple(dict.fromkeys(not_followed)))


def _add(masks: dict[tuple[int, int], Tensor], ref: Ref, mask: Tensor) -> None:
    """Masks have the extent 1 along dimensions along which they are all the same."""
    if not mask.any():
        return
    key = ref.operation or 0, ref.output
    masks[key] = masks[key] | mask if key in masks else mask


def _of_image(recording: Recording) -> set[int]:
    """The operations in which the image has a part; others make a weight out of weights, say."""
    found_so_far = {0}
    for number, operation in enumerate(recording.operations):
        if plain(operation.name) not in FRESH and any(ref.operation in found_so_far for ref in operation.inputs):
            found_so_far.add(number)
    return found_so_far


def _without_constants(operation: Operation, of_image: set[int]) -> Operation:
    """The operation with every tensor in which the image has no part marked as one that was there before."""
    if all(ref.operation in of_image for ref in operation.inputs):
        return operation

    def marked(ref: Ref) -> Ref:
        return ref if ref.operation in of_image else Ref(ref.shape)

    args, kwargs = replaced(Ref, marked, (operation.args, dict(operation.kwargs)))
    return replace(operation, args=args, kwargs=kwargs)


def _needed(recording: Recording, operation: int) -> set[int]:
    needed, ahead = set(), [operation]
    while ahead:
        number = ahead.pop()
        if number not in needed:
            needed.add(number)
            ahead += [ref.operation for ref in recording.operations[number].inputs if ref.operation is not None]
    return needed


def _shape(recording: Recording, operation: int, output: int) -> Shape:
    if not 0 <= operation < len(recording.operations) or not 0 <= output < len(recording.operations[operation].outputs):
        raise ShapeError(f"there is no operation {operation}; the forward has {len(recording.operations)}, from 0 on.")
    return recording.operations[operation].outputs[output]


def _unit(recording: Recording, operation: int, output: int, at: Sequence[int]) -> Tensor:
    shape = _shape(recording, operation, output)
    extents = shape[1:]
    is_of_all_channels = len(at) == len(extents) - 1
    places = (0, *at) if is_of_all_channels else tuple(at)
    if len(places) != len(extents) or any(
        not 0 <= place < extent for place, extent in zip(places, extents, strict=True)
    ):
        name = recording.names[operation]
        raise ShapeError(f"{name} has no unit at {tuple(at)}: its output is {'x'.join(map(str, extents))}, from 0 on.")
    mask = torch.zeros(shape, dtype=torch.bool)
    for channel in range(extents[0]) if is_of_all_channels else at[:1]:
        mask[(0, channel, *places[1:])] = True
    return mask

"""What a network makes of a picture that is moved: whether the answer stays, and which layer's map does not move along.

A convolution of stride 1 gives the same map, moved; a layer of stride s does so for multiples of s only, and between
them gives another map. What follows may or may not make the same answer of it: that is measured, image by image.
Sources: Azulay, Weiss 2019, "Why do deep convolutional networks generalize so poorly to small image transformations?";
Zhang 2019, "Making Convolutional Networks Shift-Invariant Again", section 4.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import product, takewhile
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from vitreous.errors import UserError
from vitreous.evaluation.intervals import Proportion, wilson
from vitreous.explanation.attribution import PIXELS_AT_ONCE
from vitreous.explanation.features import evaluating
from vitreous.geometry import Pixels, ReceptiveField
from vitreous.trace import Recording, Trace, trace
from vitreous.trace.receptive_field import receptive_fields
from vitreous.trace.values import Values, record_values

Border = Literal["circular", "edge", "crop"]
BATCH_SIZE = 64  # images at once
DIRECTIONS = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))  # down, right
TOLERANCE = 1e-3  # rounding differs from place to place, through a hundred layers by 1e-5


# --- answers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ShiftedAnswers:
    """What one shift does to the answers, beside the images as they are."""

    down: int  # pixels
    right: int
    same: Proportion  # of the images: the most likely class is the same
    confidence_change: float  # of the class that was the most likely: by how much its probability differs, the mean
    logit_change: float  # length of the difference over length of the logits, both less their mean; the mean


@dataclass(frozen=True)
class Consistency:
    """Answers to images and to the same images, shifted."""

    border: Border
    shifts: tuple[ShiftedAnswers, ...]
    same: Proportion  # mean over images and shifts; its interval is that of as many trials as images, rather too wide
    always: Proportion  # of the images: the same class at every shift
    answers_SN: Tensor  # the most likely class; the first row is that of the images as they are
    confidences_SN: Tensor  # the probability of the first row's class

    def to_json(self) -> dict[str, Any]:
        """Everything but the single answers, as plain values."""
        return {
            "border": self.border,
            "num_images": self.answers_SN.shape[1],
            "same": asdict(self.same),
            "always": asdict(self.always),
            "shifts": [asdict(each) for each in self.shifts],
        }


def shift_consistency(
    network: nn.Module, images_NCHW: Tensor, max_shift: int | None = None, *, border: Border = "circular"
) -> Consistency:
    """Whether the answer stays when the images are moved by 1 to ``max_shift`` pixels down, right, and both.

    Args:
        network: any; it is run in evaluation mode and left as it was found.
        images_NCHW: as the network takes them; with border "crop" larger by ``max_shift`` pixels on either axis.
        max_shift: by default the network's total stride, after which a shift is one of whole units again.
        border: what comes in at the edge: what went out at the other ("circular"), the outermost pixels repeated
            ("edge"), or the pixels of the larger picture ("crop").

    Raises:
        UserError: there are no images, or they are too small to be shifted so far.
    """
    reach = total_stride(network, images_NCHW.shape[1:]) if max_shift is None else max_shift
    _require_images(images_NCHW, reach, border)
    moves = [(0, 0), *((down * n, right * n) for n in range(1, reach + 1) for down, right in ((0, 1), (1, 0), (1, 1)))]
    logits_SNK = torch.stack([_logits(network, images_NCHW, move, reach, border) for move in moves])
    answers_SN = logits_SNK.argmax(dim=2)
    first_N = answers_SN[0]
    confidences_SN = logits_SNK.softmax(dim=2).gather(2, first_N.expand(len(moves), -1)[..., None])[..., 0]
    same_SN = answers_SN[1:] == first_N
    changes_S = _logit_changes(logits_SNK)
    shifts = [
        ShiftedAnswers(
            *move,
            same=wilson(int(same_SN[n].sum()), len(first_N)),
            confidence_change=float((confidences_SN[n + 1] - confidences_SN[0]).abs().mean()),
            logit_change=float(changes_S[n + 1]),
        )
        for n, move in enumerate(moves[1:])
    ]
    share_N = same_SN.double().mean(dim=0)
    always = wilson(int(same_SN.all(dim=0).sum()), len(first_N))
    return Consistency(border, tuple(shifts), _mean_share(share_N), always, answers_SN, confidences_SN)


def answers_kept(
    network: nn.Module, images_NCHW: Tensor, answers_N: Tensor, distances: Sequence[int]
) -> tuple[Proportion, ...]:
    """Of how many images the answer stays when each is moved by so many pixels, for each of the distances.

    An image is moved in one direction, the first right, the second right and down, and so on through all eight, so
    that images are trials that do not depend on each other. What comes in repeats the edge.

    Args:
        network: any; it is run in evaluation mode and left as it was found.
        images_NCHW: as the network takes them.
        answers_N: to the images as they are: the number of the largest logit.
        distances: in pixels, on either axis.

    Raises:
        UserError: there are no images, or they are too small to be shifted so far.
    """
    for distance in distances:
        _require_images(images_NCHW, distance, "edge")
    moves_N = [DIRECTIONS[n % len(DIRECTIONS)] for n in range(len(images_NCHW))]
    counts = [0] * len(distances)
    device = next(network.parameters(), images_NCHW).device
    at_once = min(BATCH_SIZE, max(1, PIXELS_AT_ONCE // images_NCHW[0, 0].numel()))
    with evaluating(network), torch.no_grad():
        for part in torch.split(torch.arange(len(images_NCHW)), at_once):
            for order, px in enumerate(distances):
                each_moved = [
                    shifted(images_NCHW[n : n + 1], px * moves_N[n][0], px * moves_N[n][1], "edge")
                    for n in part.tolist()
                ]
                logits_NK = network(torch.cat(each_moved).to(device))
                counts[order] += int((logits_NK.argmax(dim=1).cpu() == answers_N[part]).sum())
    return tuple(wilson(count, len(moves_N)) for count in counts)


def total_stride(network: nn.Module, input_shape: Sequence[int]) -> int:
    """Pixels from a unit to the next in the coarsest map, (C, H, W) going in; 1 where nothing has places.

    >>> total_stride(nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.MaxPool2d(2), nn.Flatten()), (3, 16, 16))
    4
    """
    jumps = (field.jump for fields in trace(network, input_shape).fields for field in fields if field.has_places)
    return max((math.ceil(jump) for jump in jumps if jump is not None), default=1)


def shifted(images_NCHW: Tensor, down: int, right: int, border: Literal["circular", "edge"] = "circular") -> Tensor:
    """The same images, moved (up and left where below 0); what they leave free is filled as ``border`` says.

    >>> shifted(torch.arange(4.0).reshape(1, 1, 1, 4), 0, 1, "edge").flatten().tolist()
    [0.0, 0.0, 1.0, 2.0]
    """
    if border == "circular":
        return images_NCHW.roll((down, right), dims=(2, 3))
    rows, columns = (
        (torch.arange(side, device=images_NCHW.device) - move).clamp(0, side - 1)
        for side, move in zip(images_NCHW.shape[2:], (down, right), strict=True)
    )
    return images_NCHW[:, :, rows[:, None], columns]


def _require_images(images_NCHW: Tensor, reach: int, border: Border) -> None:
    if len(images_NCHW) == 0:
        raise UserError("there are no images to shift; give at least one.")
    sides = tuple(images_NCHW.shape[2:])
    if reach < 1 or reach >= min(sides):
        extra = " and crops are smaller than their pictures" if border == "crop" else ""
        raise UserError(f"images of {sides[0]}x{sides[1]} cannot be shifted by {reach} px{extra}; use 1 or more, less.")


def _logits(network: nn.Module, images_NCHW: Tensor, move: tuple[int, int], reach: int, border: Border) -> Tensor:
    """What the network says of the images, moved, in double precision."""
    device = next(network.parameters(), images_NCHW).device
    batches = (images_NCHW[n : n + BATCH_SIZE] for n in range(0, len(images_NCHW), BATCH_SIZE))
    with evaluating(network), torch.no_grad():
        return torch.cat([network(_moved(each, *move, reach, border).to(device)).double().cpu() for each in batches])


def _moved(images_NCHW: Tensor, down: int, right: int, reach: int, border: Border) -> Tensor:
    if border != "crop":
        return shifted(images_NCHW, down, right, border)
    height, width = images_NCHW.shape[2:]
    return images_NCHW[:, :, reach - down : height - down, reach - right : width - right].clone()


def _logit_changes(logits_SNK: Tensor) -> Tensor:
    centred = logits_SNK - logits_SNK.mean(dim=2, keepdim=True)  # a softmax does not see a constant
    lengths_N = centred[0].norm(dim=1).clamp_min(torch.finfo(centred.dtype).tiny)
    changes_S: Tensor = ((centred - centred[0]).norm(dim=2) / lengths_N).mean(dim=1)
    return changes_S


def _mean_share(share_N: Tensor) -> Proportion:
    """Of shares of trials that depend on each other: no more certain than one trial for each image."""
    total = float(share_N.sum())
    low, high = wilson(math.floor(total), len(share_N)).low, wilson(math.ceil(total), len(share_N)).high
    return Proportion(total / len(share_N), low, high)


# --- maps -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ShiftedMap:
    """One layer's map of the shifted image beside its map of the image, moved by as many units."""

    operation: int  # its number in the recording
    name: str
    jump: tuple[Pixels, Pixels]  # between units
    units: tuple[Fraction, Fraction]  # that the map should move, down and right; the nearest whole ones are compared
    num_compared: int  # places that see neither the border nor what came in over it, in both images
    difference: float | None  # root mean square of the difference over that of the map; None if no place is compared

    @property
    def is_whole(self) -> bool:
        """The shift is a multiple of the jump: the map can move along, unless a coarser one before it cannot."""
        return all(each.denominator == 1 for each in self.units)


def shifted_maps(network: nn.Module, image_1CHW: Tensor, down: int, right: int) -> tuple[ShiftedMap, ...]:
    """For every layer whose units lie on the image: whether its map moves along when the image moves.

    Compared are the units whose receptive field lies inside both images, so that padding has no part in it; deep in a
    network there may be none, unless the picture is larger.

    Raises:
        UserError: the shift is negative, or as large as the image.
        ShapeError: the network does not take the image.
    """
    if not (0 <= down < image_1CHW.shape[2] and 0 <= right < image_1CHW.shape[3]):
        raise UserError(f"a shift of {down} and {right} px does not fit an image of {tuple(image_1CHW.shape[2:])}.")
    before = record_values(network, image_1CHW)
    after = record_values(network, shifted(image_1CHW, down, right))
    alike = takewhile(lambda pair: pair[0] == pair[1], zip(before.recording.names, after.recording.names, strict=False))
    num_alike = sum(1 for _ in alike)  # what a network does may depend on what it sees
    return tuple(
        _compared(before, after, number, places, (down, right))
        for number, places in _on_the_image(before.recording, num_alike)
    )


def first_change(maps: Sequence[ShiftedMap], tolerance: float = TOLERANCE) -> ShiftedMap | None:
    """The first layer whose map did not move along: a stride, or one that knows where it is."""
    return next((each for each in maps if each.difference is not None and each.difference > tolerance), None)


class _Places(NamedTuple):
    """Where the units of a map lie on the image."""

    name: str
    dims: tuple[int, int]  # of the tensor, along which they lie down and across
    fields: tuple[ReceptiveField, ReceptiveField]


def _on_the_image(recording: Recording, num_operations: int) -> Iterator[tuple[int, _Places]]:
    """The operations whose first output is a map, and where its units lie."""
    traced = Trace(recording, receptive_fields(recording))
    for number, fields in enumerate(traced.fields[:num_operations]):
        known = [each.field for each in fields if each.field is not None and each.status == "exact"]
        dims = traced.map_dims(number)
        if dims is not None and len(known) == 2:
            yield number, _Places(recording.names[number], (dims[0], dims[1]), (known[0], known[1]))


def _compared(before: Values, after: Values, number: int, places: _Places, shift: tuple[int, int]) -> ShiftedMap:
    image, old, new = before.outputs[0][0], before.outputs[number][0], after.outputs[number][0]
    units = tuple(Fraction(px, field.jump) for px, field in zip(shift, places.fields, strict=True))
    clear = tuple(
        _clear_units(field, old.shape[dim], side, math.ceil(moved))
        for field, dim, side, moved in zip(places.fields, places.dims, image.shape[2:], units, strict=True)
    )
    difference = None
    if all(clear):
        found = _part(new, places.dims, clear, (0, 0))
        nearest = product(*(sorted({math.floor(each), math.ceil(each)}) for each in units))
        difference = min(_difference(_part(old, places.dims, clear, steps), found) for steps in nearest)
    jumps = places.fields[0].jump, places.fields[1].jump
    return ShiftedMap(number, places.name, jumps, (units[0], units[1]), math.prod(map(len, clear)), difference)


def _clear_units(field: ReceptiveField, extent: int, side: int, steps: int) -> range:
    """Units of the moved map, of which neither they nor those so many steps before them see over the border."""
    first = steps + max(0, math.ceil(Fraction(-field.start, field.jump)))
    end = (side - field.size - field.start) // field.jump + 1
    return range(first, max(first, min(end, extent)))


def _part(values: Tensor, dims: tuple[int, int], units: Sequence[range], steps: Sequence[int]) -> Tensor:
    """The values of these units, or of those so many steps before them."""
    for dim, chosen, step in zip(dims, units, steps, strict=True):
        values = values.narrow(dim, chosen.start - step, len(chosen))
    return values


def _difference(expected: Tensor, found: Tensor) -> float:
    """Root mean square of the difference over that of what was expected."""
    apart = float((found.double() - expected.double()).norm())
    return apart / max(float(expected.double().norm()), torch.finfo(torch.double).tiny) if apart else 0.0

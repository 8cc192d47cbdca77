"""Which parts of the image speak for a class: three maps of one image, for any network that gives logits.

    grad_cam              what the units of one layer say, each drawn where it stands on the image
    integrated_gradients  the gradient, gathered on the way from a blank image; says how far its sum is off
    occlusion             how far the class falls when a square of the image is hidden

None of them is true because it looks right: ``faithfulness.py`` puts them to the test.

The methods are written out here. captum's integrated gradients and occlusion give the same numbers, and are held
against these in the tests; they are short, and it would cost a dependency that takes seconds to import.
"""

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vitreous.errors import UserError
from vitreous.trace import SeenField, Trace
from vitreous.trace.borrowing import borrowed
from vitreous.trace.receptive_field import receptive_fields
from vitreous.trace.values import Values, record_values

PIXELS_AT_ONCE = 8 * 224 * 224  # in a batch: eight images of the usual size, many small ones


@dataclass(frozen=True)
class Attribution:
    """How much each pixel speaks for a class, by one method."""

    method: str
    map_HW: Tensor  # at the image's resolution, in the method's own unit, on the processor
    layer: str | None  # whose units were asked; None where the pixels themselves were
    note: str  # what to know when looking at this one; "" if nothing
    is_signed: bool  # below 0: speaks against the class
    grain: int = 1  # pixels from one value of the map to the next before it was enlarged: it knows nothing finer
    completeness_error: float | None = None  # integrated gradients: sum of the map less the change of the logit


class Occlusion(NamedTuple):
    """The same squares hidden, two ways to measure what that does."""

    logit: Attribution
    probability: Attribution


# --- Grad-CAM ---------------------------------------------------------------------------------------------------------


def grad_cam(network: nn.Module, image_1CHW: Tensor, target: int, layer: int | str | None = None) -> Attribution:
    """The channels of a layer, each as much as the class's logit grows with it; what speaks against it is cut off.

    ReLU(sum over k of mean(dy/dA_k) A_k), drawn where the units stand: at the centres of their receptive fields, gates
    that look at the whole image left aside.

    Source: Selvaraju et al. 2017, "Grad-CAM", equations 1 and 2.

    Args:
        network: any; it is run in evaluation mode and left as it was found. Parameters may be frozen.
        image_1CHW: as the network takes it.
        target: the class, as the number of its logit.
        layer: its name or number in the recording; by default the last one whose units lie on the image.

    Raises:
        UserError: there is no such layer or class, the layer has no map or one of a single unit, or has no part in the
            logit.
    """
    values = record_values(network, image_1CHW, with_gradients=True)
    seen = _Maps(values, Trace(values.recording, receptive_fields(values.recording)))
    number = seen.number(layer)
    _require_class(values.result, 1, target)
    score = values.result[0, target]
    gradient = values.gradients(score).get((number, 0)) if score.requires_grad else None
    name = values.recording.names[number]
    if gradient is None:
        raise UserError(f"{name} has no part in the logit of class {target}, or its gradient is cut; name another.")
    map_CHW = channels_first(seen.trace, number, values.outputs[number][0])
    gradient_CHW = channels_first(seen.trace, number, gradient)
    cam_HW = torch.einsum("c,chw->hw", gradient_CHW.mean(dim=(1, 2)), map_CHW).relu()
    fields = seen.trace.fields[number]
    notes = []
    if not cam_HW.any():
        notes.append("no unit of this layer speaks for the class: the map is empty")
    if layer is None and seen.is_early(number):
        notes.append("layers with maps come after this one, but their units have no places on the image")
    grain = max(math.ceil(field.place.jump) for field in fields if field.place is not None)
    drawn_HW = placed(cam_HW, fields, image_1CHW.shape[2:])
    return Attribution("Grad-CAM", drawn_HW.cpu(), name, "; ".join(notes), is_signed=False, grain=grain)


def placed(map_HW: Tensor, fields: Sequence[SeenField], image_size: Sequence[int]) -> Tensor:
    """A layer's map on the image, H,W: each unit in its place, straight lines between, flat outside.

    The units of ResNet-50's last layer are centred at 0, 32, ... 192 of 224 pixels: a 7x7 map that is merely enlarged
    lies 16 pixels off.

    Raises:
        UserError: the units have no places on the image.

    >>> from vitreous.geometry import ReceptiveField
    >>> every_second_pixel = SeenField(1, 2, 1, "exact", place=ReceptiveField(1, 2, 1))
    >>> placed(torch.tensor([[0.0, 4.0]]), [every_second_pixel] * 2, (1, 6)).tolist()
    [[0.0, 0.0, 2.0, 4.0, 4.0, 4.0]]
    """
    rows_YH, columns_XW = (
        _weights(units, field, side) for units, field, side in zip(map_HW.shape, fields, image_size, strict=True)
    )
    drawn: Tensor = rows_YH.to(map_HW.device) @ map_HW.double() @ columns_XW.T.to(map_HW.device)
    return drawn.to(map_HW.dtype)


def _weights(units: int, field: SeenField, side: int) -> Tensor:
    """The share that each unit has in each pixel of an axis, pixels x units."""
    if units == 1:
        return torch.ones(side, 1, dtype=torch.double)
    if field.place is None:
        raise UserError(f"the {units} units of this layer have no places on the image; take an earlier layer.")
    first, jump = field.place.centre(0), Fraction(field.place.jump)
    places = torch.tensor([float((pixel - first) / jump) for pixel in range(side)], dtype=torch.double)
    return (1 - (places.clamp(0, units - 1)[:, None] - torch.arange(units)).abs()).clamp_min(0)


def channels_first(trace: Trace, number: int, map_1: Tensor) -> Tensor:
    """An operation's map of one image, or a tensor of its shape, as C,H,W."""
    dims = trace.map_dims(number)
    assert dims is not None, "the units have places"
    return map_1.movedim(dims, (2, 3))[0]


class _Maps(NamedTuple):
    """A recorded forward, and which of its layers can be drawn on the image."""

    values: Values
    trace: Trace

    def number(self, layer: int | str | None) -> int:
        """The operation that a layer stands for, if it has a map of several units."""
        recording = self.trace.recording
        number = self._named(layer) if isinstance(layer, str) else self.trace.last_map if layer is None else layer
        if number is not None and not 0 <= number < len(recording.operations):
            raise UserError(f"there is no operation {number}; this network runs {len(recording.operations)} of them.")
        if not number and layer is None:
            raise UserError(f"the network has no layer whose units lie on the image; {_WITHOUT_A_MAP}")
        assert number is not None, "a name is found or refused"
        if not self._is_map(number):
            raise UserError(self._refusal(number))
        return number

    def is_early(self, number: int) -> bool:
        """Layers with weights and more than one unit come after it."""
        later = self.trace.operations[number + 1 :]
        return any(operation.macs and math.prod(operation.outputs[0][2:]) > 1 for operation in later)

    def _named(self, layer: str) -> int:
        number = self.trace.recording.find(layer)
        if number is None:
            near = difflib.get_close_matches(layer, self.trace.recording.names, n=1, cutoff=0)
            raise UserError(f"the network has no layer {layer!r}; did you mean {near[0]!r}?")
        return number

    def _is_map(self, number: int) -> bool:
        return math.prod(self._units(number)) > 1  # 1 where there are none

    def _units(self, number: int) -> tuple[int, ...]:
        """How many of them there are down and across; none where they have no places."""
        shape, dims = self.trace.operations[number].outputs[0], self.trace.map_dims(number) or ()
        return tuple(shape[dim] for dim in dims) if len(dims) == 2 else ()

    def _refusal(self, number: int) -> str:
        name, is_one = self.trace.recording.names[number], bool(self._units(number))
        what = "has a single unit, which says nothing of where" if is_one else "has no units that lie on the image"
        earlier = next((n for n in range(number - 1, 0, -1) if self._is_map(n)), None)
        if earlier is None:
            return f"{name} {what}; {_WITHOUT_A_MAP}"
        offer, units = self.trace.recording.names[earlier], "x".join(map(str, self._units(earlier)))
        return f"{name} {what}; give layer={offer!r}, which has {units}."


_WITHOUT_A_MAP = "use integrated_gradients or occlusion, which need no map."


# --- integrated gradients ---------------------------------------------------------------------------------------------


def integrated_gradients(
    network: nn.Module, image_1CHW: Tensor, target: int, steps: int = 32, baseline: float | Tensor = 0
) -> Attribution:
    """Each pixel's share in the change of the logit from the baseline to the image, summed over the channels.

    (x - x') times the mean gradient on the straight line from x' to x, by Gauss-Legendre's rule. The shares should add
    up to f(x) - f(x'); by how much they do not is the ``completeness_error``: with kinks (ReLU) take more steps.

    Source: Sundararajan, Taly, Yan 2017, "Axiomatic Attribution for Deep Networks", equations 1 to 3.

    Args:
        network: any; it is run in evaluation mode and left as it was found.
        image_1CHW: as the network takes it.
        target: the class, as the number of its logit.
        steps: how many images on the line.
        baseline: what stands for nothing, in the network's own units: a number, or a tensor of the image's shape.

    Raises:
        UserError: no such class, or less than one step.
    """
    if steps < 1:
        raise UserError(f"steps={steps} must be 1 or more.")
    blank = torch.as_tensor(baseline, dtype=image_1CHW.dtype, device=image_1CHW.device)
    change_1CHW = image_1CHW.detach() - blank
    places, shares = np.polynomial.legendre.leggauss(steps)
    places_S, shares_S = (torch.tensor(each, dtype=image_1CHW.dtype) / 2 for each in (places + 1, shares))
    mean_CHW = torch.zeros_like(image_1CHW[0])
    with borrowed(network) as bare, torch.random.fork_rng(devices=[]):
        for part in torch.split(torch.arange(steps), _batch_size(image_1CHW)):
            on_the_line = blank + change_1CHW * places_S[part].to(change_1CHW).reshape(-1, 1, 1, 1)
            gradients = _input_gradients(bare, on_the_line, target)
            mean_CHW += torch.einsum("n,nchw->chw", shares_S[part].to(gradients), gradients)
        with torch.no_grad():
            ends = torch.cat([image_1CHW.detach(), blank.expand_as(image_1CHW)])
            full, empty = _run(bare, ends, target)[:, target].double()
    map_HW = (change_1CHW[0] * mean_CHW).sum(dim=0)
    error = float(map_HW.double().sum() - (full - empty))
    note = f"adds up to {float(map_HW.double().sum()):.4g}; the logit changes by {float(full - empty):.4g}"
    return Attribution("integrated gradients", map_HW.cpu(), None, note, is_signed=True, completeness_error=error)


def _input_gradients(network: nn.Module, images_NCHW: Tensor, target: int) -> Tensor:
    leaf = images_NCHW.requires_grad_()
    with torch.enable_grad():
        logits_NK = _run(network, leaf, target)
        if not logits_NK.requires_grad:
            raise UserError("the network's logits have no gradient towards the image; use occlusion, which needs none.")
        (gradients,) = torch.autograd.grad(logits_NK[:, target].sum(), leaf)
    return gradients


# --- occlusion --------------------------------------------------------------------------------------------------------


def occlusion(
    network: nn.Module,
    image_1CHW: Tensor,
    target: int,
    window: int | None = None,
    stride: int | None = None,
    baseline: float | Tensor = 0,
) -> Occlusion:
    """How far the logit of a class, and its probability, fall when a square is hidden.

    A pixel has the mean of the falls of all squares that cover it; every pixel is covered.

    Source: Zeiler, Fergus 2014, "Visualizing and Understanding Convolutional Networks", section 4.2.

    Args:
        network: any; it is run in evaluation mode and left as it was found.
        image_1CHW: as the network takes it.
        target: the class, as the number of its logit.
        window: side of the square in pixels, by default a seventh of the image's shorter side.
        stride: pixels from one square to the next, by default half a window.
        baseline: what a square is replaced by, in the network's own units: a number, or a tensor of the image's shape.

    Raises:
        UserError: no such class, a window larger than the image, or a stride that leaves pixels out.
    """
    height, width = image_1CHW.shape[2:]
    side = max(1, round(min(height, width) / 7)) if window is None else window
    step = max(1, side // 2) if stride is None else stride
    if not 1 <= side <= min(height, width) or not 1 <= step <= side:
        raise UserError(
            f"squares of {side} px, {step} px apart, do not cover an image of {height}x{width}; "
            "the window must fit into the image and the stride must not exceed the window."
        )
    rows_YH, columns_XW = _intervals(height, side, step), _intervals(width, side, step)
    hidden_NHW = (rows_YH[:, None, :, None] & columns_XW[None, :, None, :]).flatten(0, 1)
    nothing_1HW = torch.zeros(1, height, width, dtype=torch.bool)
    logits_NK = answers_without(network, image_1CHW, torch.cat([nothing_1HW, hidden_NHW]), target, baseline)
    counts_HW = torch.outer(rows_YH.sum(dim=0), columns_XW.sum(dim=0))

    def fall(scores_N: Tensor) -> Tensor:
        falls_YX = (scores_N[0] - scores_N[1:]).reshape(len(rows_YH), len(columns_XW))
        return (rows_YH.double().T @ falls_YX @ columns_XW.double() / counts_HW).to(image_1CHW.dtype)

    note = f"{side}x{side} px hidden, {step} px apart"
    return Occlusion(
        Attribution("occlusion (logit)", fall(logits_NK[:, target]), None, note, is_signed=True, grain=step),
        Attribution(
            "occlusion",
            fall(probabilities(logits_NK)[:, target]),
            None,
            note,
            is_signed=True,
            grain=step,
        ),
    )


def _intervals(length: int, window: int, stride: int) -> Tensor:
    """Which pixels of an axis each window covers; the last window ends with the image."""
    starts = sorted({*range(0, length - window + 1, stride), length - window})
    pixels = torch.arange(length)
    return torch.stack([(pixels >= start) & (pixels < start + window) for start in starts])


# --- answers ----------------------------------------------------------------------------------------------------------


def answers_without(
    network: nn.Module, image_1CHW: Tensor, hidden_NHW: Tensor, target: int, baseline: float | Tensor = 0
) -> Tensor:
    """The logits, N,K, in double precision, of N copies of the image in which the hidden pixels are the baseline's.

    Raises:
        UserError: the network gives no logits for each image, or none of this number.
    """
    blank = torch.as_tensor(baseline, dtype=image_1CHW.dtype, device=image_1CHW.device)
    logits = []
    with borrowed(network) as bare, torch.no_grad(), torch.random.fork_rng(devices=[]):
        for hidden in torch.split(hidden_NHW, _batch_size(image_1CHW)):
            images = torch.where(hidden[:, None].to(image_1CHW.device), blank, image_1CHW)
            logits.append(_run(bare, images, target).double().cpu())
    return torch.cat(logits)


def probabilities(logits_NK: Tensor) -> Tensor:
    """Of each class: softmax, or the logistic function where there is one logit only."""
    return logits_NK.sigmoid() if logits_NK.shape[1] == 1 else logits_NK.softmax(dim=1)


def _batch_size(image_1CHW: Tensor) -> int:
    return max(1, PIXELS_AT_ONCE // image_1CHW[0, 0].numel())


def _run(network: nn.Module, images_NCHW: Tensor, target: int) -> Tensor:
    logits_NK = network(images_NCHW.clone())  # a network may write into what it is given
    _require_class(logits_NK, len(images_NCHW), target)
    return logits_NK  # type: ignore[no-any-return]


def _require_class(logits: object, num_images: int, target: int) -> None:
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != num_images:
        what = f"a tensor of {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise UserError(f"for {num_images} images the network gives {what}; a map needs one row of logits for each.")
    if not 0 <= target < logits.shape[1]:
        raise UserError(f"there is no class {target}; the network's {logits.shape[1]} logits are counted from 0.")

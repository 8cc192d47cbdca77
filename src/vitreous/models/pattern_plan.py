"""From a pattern to its layers: shapes, parameters and MACs of every one, worked out without torch.

``plan`` gives the layers as a tree (a residual group holds its branch and its shortcut), which ``pattern`` builds one
to one; ``walk`` lists the same layers flat, for tables and checks. A shape is (channels, height, width) for a map and
(features,) for a vector; batches are left out.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from vitreous.errors import ShapeError
from vitreous.geometry import (
    POOLING_COST,
    Cost,
    batch_norm_cost,
    conv_cost,
    conv_output_size,
    kernel_span,
    linear_cost,
    pool_output_size,
    smallest_input_size,
)
from vitreous.models.pattern_language import (
    Activation,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalPool,
    Leaf,
    Node,
    Pattern,
    Pool,
    Repeat,
    Residual,
    Unshuffle,
    num_words,
    parse,
    point_at,
    unrolled,
)

MAX_PARAMS = 2**31
BLUR_SIDE = 3  # of the filter, in units
NO_COST = Cost(0, 0)

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Layer:
    """One module of the network: where it is, the word that asked for it, and what it does to one image."""

    path: str  # as in the network's state_dict: "conv1", "res1.branch.conv2", "head"
    word: int
    text: str
    node: Leaf | Residual
    input_shape: Shape
    output_shape: Shape
    params: int
    macs: int
    branch: tuple["Layer", ...] = ()  # of a residual group
    shortcut: "Layer | None" = None  # of a residual group; None is the identity


def walk(
    pattern: Pattern | str, *, in_channels: int, image_size: tuple[int, int], num_classes: int
) -> tuple[Layer, ...]:
    """The layers that compute, in order; of a residual group those of its branch, then its shortcut's convolution.

    Raises:
        PatternError: see plan.

    >>> line = "conv64 pool conv128 pool gap fc"
    >>> for layer in walk(line, in_channels=3, image_size=(224, 224), num_classes=10)[:3]:
    ...     print(layer.text, layer.output_shape, layer.params)
    conv64 (64, 224, 224) 1792
    pool (64, 112, 112) 0
    conv128 (128, 112, 112) 73856
    """
    pattern = parse(pattern) if isinstance(pattern, str) else pattern
    return tuple(_flat(plan(pattern, in_channels=in_channels, image_size=image_size, num_classes=num_classes)))


def plan(pattern: Pattern, *, in_channels: int, image_size: tuple[int, int], num_classes: int) -> tuple[Layer, ...]:
    """Every layer of the network, the head last, before anything is built.

    Raises:
        PatternError: a layer does not fit what it gets, the head does not fit the classes, or there are more than
            2**31 parameters. The message points at the word.
    """
    try:
        layers = _plan_all(pattern, (in_channels, *image_size), num_classes)
    except _TooSmall as refused:
        raise point_at(str(pattern), refused.word, f"{refused} {_advice(pattern, in_channels, num_classes)}") from None
    except _Refused as refused:
        raise point_at(str(pattern), refused.word, str(refused)) from None
    _check_params(pattern, layers)
    return layers


class _Refused(Exception):
    """A word does not fit what it gets; the text says why. It never leaves this module."""

    def __init__(self, word: int, reason: str) -> None:
        super().__init__(reason)
        self.word = word


class _TooSmall(_Refused):
    """A window is larger than its map: a larger image would do."""


class _Step(NamedTuple):
    """A layer to be planned: the number and the text of its word, and what is to be built for it."""

    word: int
    text: str
    node: Leaf | Residual


def _plan_all(pattern: Pattern, shape: Shape, num_classes: int) -> tuple[Layer, ...]:
    head_word = num_words(pattern.body) + 1
    if pattern.head not in (None, num_classes):
        seen = f"fc{pattern.head} at word {head_word} gives {pattern.head} outputs"
        raise _Refused(head_word, f"{seen} but the data has {num_classes} classes; write fc")
    head_text = "fc" if pattern.head is None else f"fc{pattern.head}"
    head = _Step(head_word, head_text, Dense(num_classes, activation="lin"))
    *layers, last = _plan_sequence([*_steps(pattern.body, 1), head], shape)
    return (*layers, replace(last, path="head"))


def _steps(nodes: Sequence[Node], first_word: int) -> list[_Step]:
    return [_Step(word, str(node), node) for word, node in unrolled(nodes, first_word)]


def _plan_sequence(steps: Sequence[_Step], shape: Shape, path: str = "") -> tuple[Layer, ...]:
    """Layers one behind the other, named by their kind and a number: conv1, conv2, pool1."""
    layers: list[Layer] = []
    counts: Counter[str] = Counter()
    for step in steps:
        is_pixel = isinstance(step.node, Dense) and shape[1:] == (1, 1)  # which needs no word to become a vector
        for part in [_Step(step.word, "flatten", Flatten()), step] if is_pixel else [step]:
            counts[part.node.kind] += 1
            layers.append(_plan_one(part, shape, f"{path}{part.node.kind}{counts[part.node.kind]}"))
            shape = layers[-1].output_shape
    return tuple(layers)


def _plan_one(step: _Step, shape: Shape, path: str) -> Layer:
    if isinstance(step.node, Residual):
        return _plan_residual(step, step.node, shape, path)
    _check_input(step, shape)
    try:
        output_shape, cost = _through(step.node, shape)
    except ShapeError:
        raise _TooSmall(step.word, _misfit(step, shape)) from None
    return Layer(path, step.word, step.text, step.node, shape, output_shape, cost.params, cost.macs)


def _check_input(step: _Step, shape: Shape) -> None:
    """Refuse a vector where a map is needed, a map where a vector is, and channels that do not divide."""
    place = f"{step.text} at word {step.word}"
    is_map = len(shape) == 3
    match step.node:
        case Conv() | Pool() | GlobalPool() | Unshuffle() if not is_map:
            reason = f"{place} needs a map but gets a vector of {shape[0]:,} numbers; put it before flatten, gap or gmp"
        case Dense() if is_map:
            reason = f"{place} needs a vector but gets a {_sides(shape)} map; put flatten, gap or gmp before it"
        case Conv(groups=groups) if shape[0] % groups:
            reason = f"{place} has {groups} groups, which do not divide the {shape[0]} channels it gets; change g"
        case Unshuffle(factor=factor) if shape[1] % factor or shape[2] % factor:
            reason = (
                f"{place} gets a {_sides(shape)} map, which does not divide into {factor}x{factor} blocks; "
                "scale the image to sides that do"
            )
        case _:
            return
    raise _Refused(step.word, reason)


def _through(node: Leaf, shape: Shape) -> tuple[Shape, Cost]:
    """The shape behind one layer, and what the layer costs."""
    match node, shape:
        case Conv(), (channels, *sides):
            stride = 1 if node.is_blurred else node.stride
            size = [
                conv_output_size(side, kernel, stride, padding, node.dilation)
                for side, kernel, padding in zip(sides, node.kernel, node.paddings, strict=True)
            ]
            cost = conv_cost(channels, node.filters, node.kernel, size, groups=node.groups, bias=not node.has_norm)
            return _blurred(node, (node.filters, *size), _with_norm(cost, node))
        case Pool(kernel=kernel, padding=padding), (channels, *sides):
            stride = 1 if node.is_blurred else node.stride
            size = [pool_output_size(side, kernel, stride, padding) for side in sides]
            return _blurred(node, (channels, *size), POOLING_COST)
        case GlobalPool(), (channels, *_):
            return (channels,), POOLING_COST
        case Unshuffle(factor=factor), (channels, height, width):
            return (channels * factor**2, height // factor, width // factor), NO_COST
        case Flatten(), _:
            return (math.prod(shape),), NO_COST
        case Dense(), (features,):
            return (node.units,), _with_norm(linear_cost(features, node.units, bias=not node.has_norm), node)
        case BatchNorm(), (channels, *_):
            return shape, batch_norm_cost(channels)
        case Activation() | Dropout(), _:
            return shape, NO_COST
    raise AssertionError(f"{node} does not take {shape}")


def _blurred(node: Conv | Pool, shape: Shape, cost: Cost) -> tuple[Shape, Cost]:
    """Through the blur, if there is one; it has weights, but none to train."""
    if not node.is_blurred:
        return shape, cost
    channels, *sides = shape
    if min(sides) < 2:
        raise ShapeError("a blur mirrors its map at the border, which needs two rows and two columns")
    size = [conv_output_size(side, BLUR_SIDE, node.stride, BLUR_SIDE // 2) for side in sides]
    blur = conv_cost(channels, channels, (BLUR_SIDE, BLUR_SIDE), size, groups=channels, bias=False)
    return (channels, *size), Cost(cost.params, cost.macs + blur.macs)


def _with_norm(cost: Cost, node: Conv | Dense) -> Cost:
    channels = node.filters if isinstance(node, Conv) else node.units
    norm = batch_norm_cost(channels) if node.has_norm else NO_COST
    return Cost(cost.params + norm.params, cost.macs + norm.macs)


# --- residual groups --------------------------------------------------------------------------------------------------


def _plan_residual(step: _Step, group: Residual, shape: Shape, path: str) -> Layer:
    *steps, last = _steps(group.body, step.word)
    assert isinstance(last.node, Conv | Dense)  # the parser sees to it
    last = last._replace(node=replace(last.node, activation="lin"))  # its activation comes after the sum
    branch = _plan_sequence([*steps, last], shape, f"{path}.branch.")
    output_shape = branch[-1].output_shape
    shortcut = None if output_shape == shape else _plan_shortcut(step.word, branch, f"{path}.shortcut")
    parts = [*branch, *([shortcut] if shortcut else [])]
    params, macs = sum(part.params for part in parts), sum(part.macs for part in parts)
    return Layer(path, step.word, "res", group, shape, output_shape, params, macs, branch, shortcut)


def _plan_shortcut(word: int, branch: tuple[Layer, ...], path: str) -> Layer:
    """The 1x1 convolution, or the linear map, that gives the input of the branch the shape of its output."""
    shape, target, last = branch[0].input_shape, branch[-1].output_shape, branch[-1].node
    assert isinstance(last, Conv | Dense)
    if len(shape) != len(target):
        reason = f"the res group at word {word} turns a map into a vector, and its shortcut cannot follow"
        raise _Refused(word, f"{reason}; keep flatten, gap and gmp outside the group")
    node: Conv | Dense
    if isinstance(last, Conv):
        stride = _total_stride(branch)
        is_blurred = stride > 1 and any(_is_blurred(layer) for layer in _flat(branch))
        node = Conv(last.filters, (1, 1), stride, has_norm=last.has_norm, activation="lin", is_blurred=is_blurred)
    else:
        node = Dense(last.units, has_norm=last.has_norm, activation="lin")
    shortcut = _plan_one(_Step(word, str(node), node), shape, path)
    if shortcut.output_shape != target:
        seen = f"gives a {_sides(target)} map but its shortcut a {_sides(shortcut.output_shape)} map"
        raise _Refused(word, f"the res group at word {word} {seen}; inside, use convs with same padding (no p)")
    return shortcut


def _total_stride(layers: Sequence[Layer]) -> int:
    strides = []
    for layer in layers:
        match layer.node:
            case Conv(stride=stride) | Pool(stride=stride) | Unshuffle(factor=stride):
                strides.append(stride)
            case Residual():
                strides.append(_total_stride(layer.branch))
    return math.prod(strides)


def _is_blurred(layer: Layer) -> bool:
    return isinstance(layer.node, Conv | Pool) and layer.node.is_blurred


def _flat(layers: Sequence[Layer]) -> Iterator[Layer]:
    for layer in layers:
        if layer.branch:
            yield from _flat(layer.branch)
            yield from _flat([layer.shortcut] if layer.shortcut else [])
        else:
            yield layer


# --- what is wrong, and the way out -----------------------------------------------------------------------------------


def _sides(shape: Sequence[int]) -> str:
    """(64, 7, 9) -> '7x9'."""
    return "x".join(str(side) for side in shape[-2:])


def _misfit(step: _Step, shape: Shape) -> str:
    node = step.node
    assert isinstance(node, Conv | Pool)  # nothing else has a window
    kernel = (node.kernel, node.kernel) if isinstance(node, Pool) else node.kernel
    span = [kernel_span(side, node.dilation if isinstance(node, Conv) else 1) for side in kernel]
    if node.is_blurred and _fits(replace(node, is_blurred=False), shape):
        return f"{step.text} at word {step.word} gets a {_sides(shape)} map, which leaves its blur less than 2x2 units."
    return f"{step.text} at word {step.word} gets a {_sides(shape)} map; its {_sides(span)} window does not fit."


def _fits(node: Leaf, shape: Shape) -> bool:
    try:
        _through(node, shape)
    except ShapeError:
        return False
    return True


def _advice(pattern: Pattern, in_channels: int, num_classes: int) -> str:
    """The smallest image that goes through, if it is of a sensible size."""
    height, width = (_smallest_side(pattern.body, 1, axis) for axis in (0, 1))
    try:
        if max(height, width) <= 4096:
            _plan_all(pattern, (in_channels, height, width), num_classes)
            return f"Start from a larger image (at least {height}x{width}) or drop a pool."
    except _Refused:
        pass
    return "Drop a pool or a stride before it."


def _smallest_side(nodes: Sequence[Node], needed: int, axis: int) -> int:
    """Pixels along an axis that must go in so that ``needed`` come out: the nodes are walked from the last back."""
    for node in reversed(nodes):
        match node:
            case Conv():
                kernel, padding = node.kernel[axis], node.paddings[axis]
                needed, stride = _before_blur(node, needed)
                needed = smallest_input_size(needed, kernel, stride, padding, node.dilation)
            case Pool():
                needed, stride = _before_blur(node, needed)
                needed = smallest_input_size(needed, node.kernel, stride, node.padding)
            case Unshuffle(factor=factor):
                needed *= factor
            case Residual(body=body):
                needed = _smallest_side(body, needed, axis)
            case Repeat(body=body, times=times):
                for _ in range(times):
                    needed = _smallest_side(body, needed, axis)
    return needed


def _before_blur(node: Conv | Pool, needed: int) -> tuple[int, int]:
    """Units that the layer itself must give so that ``needed`` are left, and the stride with which it gives them."""
    if not node.is_blurred:
        return needed, node.stride
    return max(2, smallest_input_size(needed, BLUR_SIDE, node.stride, BLUR_SIDE // 2)), 1


def _check_params(pattern: Pattern, layers: tuple[Layer, ...]) -> None:
    total = sum(layer.params for layer in layers)
    if total > MAX_PARAMS:
        heaviest = max(_flat(layers), key=lambda layer: layer.params)
        reason = f"the network would have {total:,} parameters, more than 2**31 = {MAX_PARAMS:,}"
        seen = f"{heaviest.text} at word {heaviest.word} alone has {heaviest.params:,}"
        raise point_at(str(pattern), heaviest.word, f"{reason}; {seen}")

"""What a skip connection brings to a sum, beside the branch that it goes past.

At an addition of two tensors that both come of the image, the ways are followed back to their nearest common source.
The skip is the shorter one: nothing at all, or a projection; the branch is the longer one. Their projections onto the
sum add up to 1, so they are shares of it, of which one may be negative.
Source: He et al. 2015, "Deep Residual Learning for Image Recognition", equations 1 and 2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vitreous.explanation.routing import class_score
from vitreous.trace.recording import Operation, Recording, Ref
from vitreous.trace.values import Values


@dataclass(frozen=True, slots=True)
class Way:
    """From the common source to one of the two that are added."""

    operation: int  # the one that made what is added
    layer: str
    call: int
    num_operations: int  # on it, whichever turns it takes; 0 where the source itself is added
    norm: float  # of what is added
    projection: float | None  # of it onto the sum: <way, sum> / <sum, sum>; None where the sum is 0
    gradient_norm: float | None  # of the class's score towards the source, what came back by this way


@dataclass(frozen=True, slots=True)
class ResidualShare:
    """One addition."""

    operation: int  # its number in the recording
    layer: str
    call: int
    source: str  # the last layer that both come of
    source_call: int
    skip: Way
    branch: Way
    norm: float  # of the sum
    cosine: float | None  # between skip and branch; None where one of them is 0
    gradient_norm: float | None  # of the class's score towards the sum, and so towards what either way gives

    @property
    def skip_share(self) -> float | None:
        """Of the norms: |skip| / (|skip| + |branch|); None where both are 0."""
        return _ratio(self.skip.norm, self.skip.norm + self.branch.norm)

    @property
    def skip_gradient_share(self) -> float | None:
        """Of the norms of what came back to the source by the two ways; None where that is not known."""
        if self.skip.gradient_norm is None or self.branch.gradient_norm is None:
            return None
        return _ratio(self.skip.gradient_norm, self.skip.gradient_norm + self.branch.gradient_norm)

    @property
    def is_even(self) -> bool:
        """Both ways are equally long: neither is a skip, and the first one given stands for it."""
        return self.skip.num_operations == self.branch.num_operations

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "layer": self.layer,
            "call": self.call,
            "source": {"layer": self.source, "call": self.source_call},
            "is_even": self.is_even,
            "skip": _way_json(self.skip),
            "branch": _way_json(self.branch),
            "norm": self.norm,
            "skip_share": self.skip_share,
            "cosine": self.cosine,
            "gradient_norm": self.gradient_norm,
            "skip_gradient_share": self.skip_gradient_share,
        }


def residual_shares(values: Values, target: int | None = None) -> list[ResidualShare]:
    """The additions of two tensors of the same shape that both come of the image, in running order.

    Args:
        values: of one image; of a batch, the norms are those of all its images together.
        target: the class of whose score the gradients are asked for; the values must have been recorded with them.

    What came back to the source by either way is known where the source itself is added, and all else that it is used
    for leads into this sum: the skip gives it the sum's gradient, the branch the rest.

    Raises:
        UserError: there is no such class, or the values were recorded without gradients.
    """
    gradients = {} if target is None else values.gradients(class_score(values.result, target))
    graph = _Graph(values.recording)
    found = []
    for number, operation in enumerate(values.recording.operations):
        pair = _operands(operation)
        if pair is not None and pair[0].shape == pair[1].shape and all(map(graph.is_of_image, pair)):
            found.append(_measured(values, graph, number, pair, gradients))
    return found


def _operands(operation: Operation) -> tuple[Ref, Ref] | None:
    given = {**dict(zip(("input", "other"), operation.args, strict=False)), **operation.kwargs}
    first, second = given.get("input"), given.get("other")
    if operation.function == "add" and isinstance(first, Ref) and isinstance(second, Ref):
        return first, second
    return None


@dataclass(frozen=True, slots=True)
class _Part:
    """One of the two that are added."""

    ref: Ref
    value: Tensor
    factor: float  # alpha of torch.add
    num_operations: int


def _measured(
    values: Values, graph: "_Graph", number: int, pair: tuple[Ref, Ref], gradients: Mapping[tuple[int, int], Tensor]
) -> ResidualShare:
    names, operations = values.recording.names, values.recording.operations
    source = graph.common_source(*pair)
    factors = 1, operations[number].kwargs.get("alpha", 1)
    parts = [
        _Part(ref, values.of(ref).double() * factor, factor, graph.num_between(source, ref))
        for ref, factor in zip(pair, factors, strict=True)
    ]
    skip, branch = sorted(parts, key=lambda part: part.num_operations)  # the first of equals stays the first
    total = skip.value + branch.value
    towards_sum = gradients.get((number, 0))
    by_skip = by_branch = None
    towards_source = gradients.get((source, skip.ref.output))  # none where the source was detached
    if towards_sum is not None and towards_source is not None and graph.ends_in(number, source, skip.ref):
        by_skip = towards_sum.double() * skip.factor
        by_branch = towards_source.double() - by_skip

    def way(part: _Part, gradient: Tensor | None) -> Way:
        made = _maker(part.ref)
        return Way(
            operation=made,
            layer=names[made],
            call=operations[made].call,
            num_operations=part.num_operations,
            norm=float(part.value.norm()),
            projection=_ratio(_inner(part.value, total), _inner(total, total)),
            gradient_norm=_norm(gradient),
        )

    return ResidualShare(
        operation=number,
        layer=names[number],
        call=operations[number].call,
        source=names[source],
        source_call=operations[source].call,
        skip=way(skip, by_skip),
        branch=way(branch, by_branch),
        norm=float(total.norm()),
        cosine=_ratio(_inner(skip.value, branch.value), float(skip.value.norm() * branch.value.norm())),
        gradient_norm=_norm(towards_sum),
    )


# --- ways -------------------------------------------------------------------------------------------------------------


class _Graph:
    """Which operations lead to which. A set of operations is a number, of which each has a bit."""

    def __init__(self, recording: Recording) -> None:
        self._inputs = [[_maker(ref) for ref in each.inputs] for each in recording.operations]
        self._result = recording.modules[-1].outputs[0].operation  # the network's own forward is the last to end
        self._num_outputs = [len(each.outputs) for each in recording.operations]
        self._before: list[int] = []  # each operation with all that lead to it
        for number, inputs in enumerate(self._inputs):
            leading = 1 << number
            for each in inputs:
                leading |= self._before[each]
            self._before.append(leading)

    def is_of_image(self, ref: Ref) -> bool:
        return ref.operation is not None and bool(self._before[ref.operation] & 1)

    def common_source(self, first: Ref, second: Ref) -> int:
        """The last operation that both come of."""
        shared = self._before[_maker(first)] & self._before[_maker(second)]
        return next(n for n in range(shared.bit_length() - 1, -1, -1) if shared >> n & 1 and self._before[n] & 1)

    def num_between(self, source: int, ref: Ref) -> int:
        """Operations on any way from the source to this tensor, without the source."""
        leading = self._before[_maker(ref)]
        return sum(bool(leading >> n & 1 and self._before[n] >> source & 1) for n in range(source + 1, _maker(ref) + 1))

    def ends_in(self, addition: int, source: int, skip: Ref) -> bool:
        """The source itself is added, and the network's result has it by way of this addition only."""
        if _maker(skip) != source or self._num_outputs[source] > 1:
            return False
        reached = 1 << source
        for number in range(source + 1, len(self._inputs)):
            if number != addition and any(reached >> each & 1 for each in self._inputs[number]):
                reached |= 1 << number
        return self._result is not None and not reached >> self._result & 1


def _maker(ref: Ref) -> int:
    assert ref.operation is not None, "a constant has no maker"
    return ref.operation


# --- numbers ----------------------------------------------------------------------------------------------------------


def _inner(first: Tensor, second: Tensor) -> float:
    return float((first * second).sum())


def _norm(tensor: Tensor | None) -> float | None:
    return None if tensor is None else float(tensor.norm())


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _way_json(way: Way) -> dict[str, Any]:
    return {
        "layer": way.layer,
        "call": way.call,
        "num_operations": way.num_operations,
        "norm": way.norm,
        "projection": way.projection,
        "gradient_norm": way.gradient_norm,
    }

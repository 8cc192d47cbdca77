"""The article's three worked examples, made by the engine that explains any network: numbers, steps, results."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vitreous.errors import UserError
from vitreous.explanation.arithmetic import Sum, explain_number
from vitreous.trace import trace
from vitreous.trace.formulas import reasons
from vitreous.trace.values import record_values

_DIGITS = 12  # what doubles of such small sums are good for


@dataclass(frozen=True, slots=True)
class Example:
    """One worked example: what comes out, and the steps that lead there, a line each."""

    number: int
    title: str
    output: Any
    steps: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The document of ``vitreous explain --example N --json``."""
        return {
            "example": self.number,
            "title": self.title,
            "output": self.output,
            "steps": list(self.steps),
            "remarks": list(self.remarks),
        }


def example(number: int) -> Example:
    """Work one of the article's examples.

    Raises:
        UserError: there is no such example.

    >>> example(1).output
    [[6.0, 1.0, 4.0], [1.0, 4.0, 2.0], [3.0, 2.0, 3.0]]
    >>> example(3).output
    [1.045, 0.0]
    """
    if number not in _EXAMPLES:
        raise UserError(f"the article has worked examples 1 to {len(_EXAMPLES)}, not {number}.")
    return _EXAMPLES[number]()


# --- 1: a convolution by hand -----------------------------------------------------------------------------------------

_IMAGE = ((1, 0, 2, 1, 0), (0, 1, 0, 1, 1), (1, 0, 1, 0, 0), (0, 0, 1, 1, 0), (1, 1, 0, 0, 1))
_FILTER = ((1, 0, 1), (0, 1, 0), (1, 0, 1))


def _convolution() -> Example:
    network = nn.Conv2d(1, 1, 3, bias=False).double()
    with torch.no_grad():
        network.weight.copy_(torch.tensor(_FILTER))
    values = record_values(network, torch.tensor(_IMAGE).double()[None, None])
    result = values.result[0, 0]
    size = dict(reasons(trace(network, (1, 5, 5)), 1))["height and width"]
    steps = [f"output size: {size}"]
    for y in range(result.shape[0]):
        for x in range(result.shape[1]):
            found = explain_number(values, "conv2d", (0, y, x))
            patch = f"rows {y}-{y + 2}, columns {x}-{x + 2}"
            steps.append(f"position ({y},{x}), {patch}: {_products(found)} = {_number(found.total)}")
    return Example(
        1,
        "a 3x3 filter slides over a 5x5 input, stride 1, no padding",
        _rounded(result),
        tuple(steps),
        ("The filter's ones lie on the diagonals: it answers to an X, not to an upright cross.",),
    )


# --- 2: sizes and parameters ------------------------------------------------------------------------------------------


def _dimensions() -> Example:
    network = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(64, 128, 3, padding=1))
    traced = trace(network, (3, 224, 224))
    steps, output = [], []
    names = ("layer 1, 64 filters of 3x3", "layer 2, max pool 2x2", "layer 3, 128 filters of 3x3")
    for number, name in enumerate(names, start=1):
        lines = dict(reasons(traced, number))
        operation = traced.operations[number]
        shape = list(operation.outputs[0][1:])
        steps.append(f"{name}: {lines['height and width']}; output {' x '.join(map(str, shape))}")
        steps.append(f"{name}: parameters {lines.get('parameters', '0: a pool has none')}")
        output.append({"layer": name, "shape": shape, "params": operation.parameters})
    return Example(2, "a 224x224x3 image through convolution, pool, convolution", output, tuple(steps))


# --- 3: a residual block ----------------------------------------------------------------------------------------------


class _Block(nn.Module):
    """relu(W2 relu(W1 x) + x)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1, self.layer2 = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu2(self.layer2(self.relu1(self.layer1(x))) + x)
        return y


def _residual() -> Example:
    network = _Block().double()
    with torch.no_grad():
        network.layer1.weight.copy_(torch.tensor([[0.2, 0.1], [-0.1, 0.3]], dtype=torch.float64))
        network.layer2.weight.copy_(torch.tensor([[0.3, -0.2], [0.1, 0.4]], dtype=torch.float64))
    values = record_values(network, torch.tensor([[1.0, -0.5]], dtype=torch.float64))
    told = {
        "layer1": "z1 = W1 x",
        "relu1": "a1 = relu(z1)",
        "layer2": "F(x) = W2 a1",
        "add": "F(x) + x",
        "relu2": "output = relu(F(x) + x)",
    }
    steps = []
    for name, title in told.items():
        for unit in range(2):
            found = explain_number(values, name, (unit,))
            steps.append(f"{title}, number {unit}: {_products(found)} = {_number(found.total)}")
    return Example(
        3,
        "a residual block on x = [1.0, -0.5]",
        _rounded(values.result[0]),
        tuple(steps),
        (
            "Without the skip the block would give relu(F(x)) = [0.045, 0.015].",
            "That skips help against vanishing gradients is the article's word; He et al. (2015) argue that with batch "
            "norm it is not that, but that plain networks are harder to optimize.",
        ),
    )


# --- words ------------------------------------------------------------------------------------------------------------


def _products(found: Sum) -> str:
    """1*1 + 0*0 + 2*1 ..."""
    return " + ".join(f"{_number(term.activation)}*{_number(term.weight or 0.0)}" for term in found.terms)


def _number(value: float) -> str:
    """As people write it: no trailing zeros, negative numbers in brackets."""
    text = f"{round(value, _DIGITS) + 0.0:.10g}"
    return f"({text})" if value < 0 else text


def _rounded(tensor: Tensor) -> Any:
    return tensor.detach().round(decimals=_DIGITS).tolist()


_EXAMPLES: dict[int, Callable[[], Example]] = {1: _convolution, 2: _dimensions, 3: _residual}

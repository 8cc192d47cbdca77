"""What torchinfo, fvcore and TorchLens say of the same networks, what is true, and how long each takes.

    python -m venv PEERS && PEERS/bin/pip install torch==2.13.0
    PEERS/bin/pip install --no-deps -r benchmarks/peers/seethrough_requirements.txt
    python -m benchmarks.seethrough --peers-python PEERS/bin/python              some minutes on one core
    python -m benchmarks.seethrough --peers-python PEERS/bin/python --only mixed --rounds 1 --out try.jsonl

Every tool, ours too, runs in that environment, on one thread, in a process of its own. Warm: the tools take turns,
round after round, each in its process that has imported everything and answered once; the median counts. Cold: from the
start of a process to its end, import and building of the network included. One line a network and tool goes to
benchmarks/results/seethrough.jsonl; ``python -m benchmarks.tables`` writes the table of docs/seethrough.md from them.

What is true is found without any of the tools: parameters are counted; multiply-accumulates are half of what torch's
FlopCounterMode sees; functions and their shapes are those of torch.fx; receptive fields are the span of the pixels with
a gradient, on a picture large enough, with weights that are all positive, so that nothing cancels, and max pools that
average, as any pixel of a window may be the largest.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.accuracy import machine, sources_version
from benchmarks.lines import RESULTS
from benchmarks.peers.seethrough_networks import NAMES, network_named

ROOT = Path(__file__).parent.parent
SCRIPT = Path(__file__).parent / "peers" / "seethrough_tool.py"
TOOLS = ("vitreous", "torchinfo", "fvcore", "torchlens")
PACKAGES = ("torch", "torchinfo", "fvcore", "torchlens")
FUNCTION_OF = {  # what a module of torch's calls
    "Conv2d": "conv2d",
    "ConvTranspose2d": "conv_transpose2d",
    "MaxPool2d": "max_pool2d",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers-python", type=Path, required=True, help="the interpreter that has the other tools")
    parser.add_argument("--only", choices=NAMES)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--out", type=Path, default=RESULTS / "seethrough.jsonl", help="to which lines are added")
    arguments = parser.parse_args()
    python = arguments.peers_python.absolute()
    names = (arguments.only,) if arguments.only else NAMES
    about = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "rounds": arguments.rounds,
        "command": f"python -m benchmarks.seethrough --rounds {arguments.rounds}",
        "sources": sources_version(),
        "machine": machine(),
        "versions": versions(python),
    }
    with ExitStack() as processes:
        tools = {tool: processes.enter_context(Tool(python, tool)) for tool in TOOLS}
        for name in names:
            truth = truth_of(name)
            facts = {tool: tools[tool].ask("facts", name) for tool in TOOLS}
            times = rounds_of(tools, python, name, arguments.rounds)
            for tool in TOOLS:
                verdict = judged(facts[tool], truth)
                line = {"network": name, "tool": tool, **verdict, **times[tool], "truth": truth.told, **about}
                print(json.dumps({"network": name, "tool": tool, **verdict, **times[tool]}), flush=True)
                with arguments.out.open("a") as file:
                    file.write(json.dumps(line) + "\n")


# --- the tools --------------------------------------------------------------------------------------------------------


class Tool:
    """A process that answers about networks."""

    def __init__(self, python: Path, name: str) -> None:
        self.process = subprocess.Popen(
            [str(python), str(SCRIPT), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )

    def __enter__(self) -> "Tool":
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def ask(self, what: str, network: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": what, "network": network}) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"{self.process.args} ended without an answer about {network}")
        return json.loads(answer)


def rounds_of(tools: dict[str, Tool], python: Path, network: str, rounds: int) -> dict[str, dict[str, Any]]:
    """Seconds of every round, warm and cold, and their medians; empty for a tool that fails."""
    warm: dict[str, list[float]] = {tool: [] for tool in tools}
    cold: dict[str, list[float]] = {tool: [] for tool in tools}
    for number in range(rounds):
        order = list(tools)[number % len(tools) :] + list(tools)[: number % len(tools)]  # no tool is always the first
        for tool in order:
            answer = tools[tool].ask("time", network)
            if "error" not in answer:
                warm[tool].append(answer["seconds"])
        for tool in order:
            if warm[tool]:
                cold[tool].append(seconds_of([str(python), str(SCRIPT), tool, "--once", network]))
    return {
        tool: {
            "warm_seconds": statistics.median(warm[tool]) if warm[tool] else None,
            "cold_seconds": statistics.median(cold[tool]) if cold[tool] else None,
            "warm_rounds": [round(each, 5) for each in warm[tool]],
            "cold_rounds": [round(each, 4) for each in cold[tool]],
        }
        for tool in tools
    }


def seconds_of(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, env=environment(), stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}


def versions(python: Path) -> dict[str, str]:
    """What the peers' environment holds, told by itself."""
    code = f"import importlib.metadata as m, json; print(json.dumps({{n: m.version(n) for n in {PACKAGES}}}))"
    return json.loads(subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True).stdout)


# --- what is true -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Truth:
    """Of one network."""

    parameters: int
    macs: int
    functions: Counter  # (function, shape) of what no module stands for
    fields: dict[str, list[int]]  # "conv2d#2" or "last map" -> receptive field down and across

    @property
    def told(self) -> dict[str, Any]:
        return {"parameters": self.parameters, "macs": self.macs, "fields": self.fields}


def truth_of(name: str) -> Truth:
    network, shape = network_named(name)
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        network(torch.zeros(1, *shape))
    graph = fx.symbolic_trace(network)
    ShapeProp(graph).propagate(torch.zeros(1, *shape))
    functions = Counter(
        (function_of(node, network), tuple(node.meta["tensor_meta"].shape[1:]))
        for node in graph.graph.nodes
        if node.op in ("call_function", "call_method")
    )
    return Truth(
        parameters=sum(weights.numel() for weights in network.parameters()),
        macs=flops.get_total_flops() // 2,
        functions=functions,
        fields={label: field_of(graph, node) for label, node in asked_nodes(graph, network, name)},
    )


def function_of(node: fx.Node, network: nn.Module) -> str:
    if node.op == "call_module":
        kind = type(network.get_submodule(str(node.target))).__name__
        return FUNCTION_OF.get(kind, kind)
    return str(getattr(node.target, "__name__", node.target)).strip("_")


def asked_nodes(graph: fx.GraphModule, network: nn.Module, name: str) -> Iterator[tuple[str, fx.Node]]:
    """Of the article's networks the last map; of the mixed one every operation that gives a map, but plain ReLUs."""
    maps = [
        node
        for node in graph.graph.nodes
        if node.op.startswith("call") and is_map(node) and not is_adaptive(function_of(node, network))
    ]
    if not name.startswith("mixed"):
        yield "last map", maps[-1]
        return
    counts: Counter[str] = Counter()
    for node in maps:
        function = function_of(node, network)
        counts[function] += 1
        if function != "relu":
            yield f"{function}#{counts[function]}", node


def is_map(node: fx.Node) -> bool:
    shape = node.meta["tensor_meta"].shape
    return len(shape) == 4 and shape[-1] > 1


def is_adaptive(function: str) -> bool:
    """Such a pool sees what the size of the picture makes it see; of ours it changes no map at the usual size."""
    return function.lower().startswith("adaptive")


def field_of(graph: fx.GraphModule, node: fx.Node) -> list[int]:
    """The receptive field down and across: the largest span of pixels with a gradient, of two units well inside."""
    make_positive(graph)
    return [span_along(axis, graph, node) for axis in (0, 1)]


def make_positive(network: nn.Module) -> None:
    """Weights that average, in double precision, no offsets: no path to a pixel is closed, and none cancels another.

    Max pools average, too: which pixel of a window they take depends on the picture, and any may be it.
    """
    network.double()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            weight = module.weight.detach().abs()
            inputs = (0, 2, 3) if isinstance(module, nn.ConvTranspose2d) else (1, 2, 3)
            module.weight.data = weight / weight.sum(dim=inputs, keepdim=True)
            if module.bias is not None:
                module.bias.data.zero_()
    for path, module in list(network.named_modules()):
        if isinstance(module, nn.MaxPool2d):
            parent, _, child = path.rpartition(".")
            averaging = nn.AvgPool2d(module.kernel_size, module.stride, module.padding, module.ceil_mode)
            setattr(network.get_submodule(parent), child, averaging)


def span_along(axis: int, graph: fx.GraphModule, node: fx.Node) -> int:
    """On a strip that grows until the spans do not reach its ends."""
    length = 256
    while True:
        sides = (length, 64) if axis == 0 else (64, length)
        generator = torch.Generator().manual_seed(0)
        image = torch.rand(1, channels_of(graph), *sides, generator=generator, dtype=torch.double) * 1e-6
        spans = list(spans_on(image.requires_grad_(), axis, graph, node))
        if all(first > 0 and last < length - 1 for first, last in spans):
            return max(last - first + 1 for first, last in spans)
        length *= 2


def spans_on(image: Tensor, axis: int, graph: fx.GraphModule, node: fx.Node) -> Iterator[tuple[int, int]]:
    values = Until(graph, node).run(image)
    middle = values.shape[2 + axis] // 2
    for unit in (middle - 1, middle):  # of a transposed convolution they differ in turn
        (gradient,) = torch.autograd.grad(values.select(2 + axis, unit).sum(), image, retain_graph=True)
        seen = gradient.abs().sum(dim=(0, 1, 3 - axis)).nonzero()
        yield int(seen.min()), int(seen.max())


def channels_of(graph: fx.GraphModule) -> int:
    return next(module.in_channels for module in graph.modules() if isinstance(module, nn.Conv2d))


class Until(fx.Interpreter):
    """Runs a graph up to one node, whose value it gives; what comes behind may not take a larger picture."""

    def __init__(self, graph: fx.GraphModule, node: fx.Node) -> None:
        super().__init__(graph)
        self.node = node

    def run(self, image: Tensor) -> Tensor:
        self.args_iter = iter((image,))
        self.env = {}
        for node in self.module.graph.nodes:
            self.env[node] = self.run_node(node)
            if node is self.node:
                return self.env[node]
        raise AssertionError("the node is in the graph")

    def call_function(self, target: Any, args: tuple, kwargs: dict) -> Any:
        if not getattr(target, "__name__", "").endswith("max_pool2d"):
            return super().call_function(target, args, kwargs)
        known = {key: value for key, value in kwargs.items() if key in ("stride", "padding", "ceil_mode")}
        return F.avg_pool2d(*args, **known)


# --- right or wrong ---------------------------------------------------------------------------------------------------


def judged(facts: dict[str, Any], truth: Truth) -> dict[str, Any]:
    """What a tool said, and how much of it is right."""
    if "error" in facts:
        return {"error": facts["error"]}
    operations = [(plain(name), shape, field, status) for name, shape, field, status in facts["operations"]]
    told = Counter((name, tuple(shape)) for name, shape, _, _ in operations if shape is not None)
    fields = {label: said_of(label, operations) for label in truth.fields}
    kinds = Counter(kind_of(fields[label], wanted) for label, wanted in truth.fields.items())
    return {
        "parameters": facts["parameters"],
        "macs": facts["macs"],
        "functions_told": sum((told & truth.functions).values()),
        "functions": sum(truth.functions.values()),
        "fields_told": fields,
        "fields": dict(kinds),
    }


def plain(name: str) -> str:
    return FUNCTION_OF.get(name, name.strip("_"))


def said_of(label: str, operations: list[tuple]) -> tuple[list[int] | None, str | None]:
    """The receptive field that a tool gives for "conv2d#2" or "last map", and how certain it says to be."""
    if label == "last map":
        maps = [each for each in operations if each[1] is not None and len(each[1]) == 3 and each[1][-1] > 1]
        return next((each[2:] for each in reversed(maps) if not is_adaptive(each[0])), (None, None))
    name, _, number = label.partition("#")
    same = [each for each in operations if each[0] == name]
    return same[int(number) - 1][2:] if len(same) >= int(number) else (None, None)


def kind_of(said: tuple[list[int] | None, str | None], wanted: list[int]) -> str:
    """right; bound: said to be no more than a bound, and one; wrong; or unknown."""
    field, status = said
    if field is None:
        return "unknown"
    if field == wanted:
        return "right"
    is_bound = status != "exact" and all(ours >= true for ours, true in zip(field, wanted, strict=True))
    return "bound" if is_bound else "wrong"


if __name__ == "__main__":
    main()

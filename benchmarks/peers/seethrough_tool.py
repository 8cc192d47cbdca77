"""What one tool says of a network, and how long it takes to say it.

    python seethrough_tool.py TOOL                 requests on stdin, one JSON a line; answers on stdout
    python seethrough_tool.py TOOL --once NETWORK  one answer; the caller's clock runs

A request is {"do": "facts" or "time", "network": NAME}. Facts are parameters, multiply-accumulates, and the operations
in order: function, output shape without the batch, size of the receptive field, and what the tool calls its certainty.
Times are of the one call, or the few, that give all of that; the network and its input are there before.
"""

import json
import logging
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from seethrough_networks import network_named
from torch import nn

Report = dict[str, Any]
Operation = tuple[str, list[int] | None, list[int] | None, str | None]


def with_vitreous() -> Callable[[nn.Module, tuple[int, ...]], Report]:
    from vitreous.trace import trace

    def report(network: nn.Module, shape: tuple[int, ...]) -> Report:
        found = trace(network, shape)
        operations: list[Operation] = []
        for step, fields in zip(found.operations[1:], found.fields[1:], strict=True):
            sizes, statuses = [field.size for field in fields], {field.status for field in fields}
            is_known = bool(fields) and "unknown" not in statuses
            status = "bound" if "bound" in statuses else "exact"
            operations.append(
                (step.function, list(step.outputs[0][1:]), sizes if is_known else None, status if is_known else None)
            )
        return {"parameters": found.parameters, "macs": found.macs, "operations": operations}

    return report


def with_torchinfo() -> Callable[[nn.Module, tuple[int, ...]], Report]:
    from torchinfo import summary

    def report(network: nn.Module, shape: tuple[int, ...]) -> Report:
        found = summary(network, input_size=(1, *shape), depth=10, verbose=0, col_names=("output_size", "mult_adds"))
        leaves = [each for each in found.summary_list if each.is_leaf_layer]
        operations = [(each.class_name, list(each.output_size[1:]), None, None) for each in leaves]
        return {"parameters": found.total_params, "macs": found.total_mult_adds, "operations": operations}

    return report


def with_fvcore() -> Callable[[nn.Module, tuple[int, ...]], Report]:
    from fvcore.nn import FlopCountAnalysis, parameter_count

    def report(network: nn.Module, shape: tuple[int, ...]) -> Report:
        with torch.no_grad():
            count = FlopCountAnalysis(network, torch.zeros(1, *shape)).unsupported_ops_warnings(False)
            macs = count.uncalled_modules_warnings(False).total()
        names = {name for each in count.by_module_and_operator().values() for name in each}
        operations = [(name, None, None, None) for name in sorted(names | set(count.unsupported_ops()))]
        return {"parameters": parameter_count(network)[""], "macs": int(macs), "operations": operations}

    return report


def with_torchlens() -> Callable[[nn.Module, tuple[int, ...]], Report]:
    import torchlens

    def report(network: nn.Module, shape: tuple[int, ...]) -> Report:
        found = torchlens.trace(network, torch.zeros(1, *shape), save=None)  # no activations are kept
        operations = []
        for op in found.ops:
            if op.func_name != "none":  # the input, buffers and the output have entries too
                operations.append((op.func_name, list(op.shape[1:]), *field_of(op)))
        return {"parameters": found.num_params, "macs": int(found.total_macs_forward), "operations": operations}

    def field_of(op: Any) -> tuple[list[int] | None, str | None]:
        try:
            seen = op.receptive_field
            return [int(size) for size in seen.size], seen.status.value
        except torchlens.receptive_field.ReceptiveFieldError:
            return None, None

    return report


TOOLS = {
    "vitreous": with_vitreous,
    "torchinfo": with_torchinfo,
    "fvcore": with_fvcore,
    "torchlens": with_torchlens,
}


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    tool, *once = sys.argv[1:]
    report = TOOLS[tool]()
    if once:
        report(*network_named(once[1]))
        return
    for line in sys.stdin:
        request = json.loads(line)
        network, shape = network_named(request["network"])
        started = time.perf_counter()
        try:
            facts = report(network, shape)
        except Exception as error:  # whatever a tool raises is its answer
            facts = {"error": f"{type(error).__name__}: {error}"[:200]}
        seconds = time.perf_counter() - started
        print(json.dumps(facts if request["do"] == "facts" else {"seconds": seconds} | errors(facts)), flush=True)


def errors(facts: Report) -> Report:
    return {key: facts[key] for key in facts if key == "error"}


if __name__ == "__main__":
    main()

"""A network layer by layer: shapes, parameters, multiplications, memory, receptive fields. One row per operation.

Everything is for one image, and bytes are those of fp32.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vitreous.trace import Trace, receptive_field_json
from vitreous.trace.memory import Memory, memory_of
from vitreous.trace.receptive_field import SeenField
from vitreous.trace.recording import ModuleCall
from vitreous.trace.shapes import Shape
from vitreous.trace.windows import padding_share, windows_of


@dataclass(frozen=True, slots=True)
class Layer:
    """One operation, or all operations of one module together; shapes are without the dimension of the batch."""

    path: str
    call: int
    op: str
    output_shape: Shape
    params: int  # of those that no row above has counted
    macs: int
    map_bytes: int  # that the outputs add in scoring; 0 of a view and of an operation in place
    kept_bytes: int  # for the backward pass
    fields: tuple[SeenField, ...]
    padding_share: float | None  # of the taps; None where nothing is slid over the map


@dataclass(frozen=True)
class Summary:
    """What is known of a network and an image size before anything is trained."""

    model: str
    input: Shape
    trace: Trace

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """One row per operation, in the order in which they run; the image itself has none."""
        return tuple(self._layer(number) for number in range(1, len(self.trace.operations)))

    def folded(self, depth: int) -> tuple[Layer, ...]:
        """The same with one row per module at this depth of the module tree; 1 are the network's own children."""
        begins = {
            module.operations.start: module
            for module in reversed(self.trace.recording.modules)  # of several that begin here, the first one counts
            if module.path and module.path.count(".") + 1 == depth and len(module.operations) and module.outputs
        }
        rows, number = [], 1
        while number < len(self.trace.operations):
            module = begins.get(number)
            rows.append(self._layer(number) if module is None else self._module(module))
            number = number + 1 if module is None else module.operations.stop
        return tuple(rows)

    @cached_property
    def memory(self) -> Memory:
        """Bytes of the maps, for one image in fp32."""
        return memory_of(self.trace.recording)

    @cached_property
    def last_fields(self) -> tuple[SeenField, ...]:
        """Of the last map, before pooling to 1x1 or a dense layer; empty if there is none."""
        return () if self.trace.last_map is None else self.trace.fields[self.trace.last_map]

    @cached_property
    def outgrown(self) -> str | None:
        """The first layer with a map whose units each see more than the image's whole width or height."""
        for layer, fields in zip(self.layers, self.trace.fields[1:], strict=True):
            sizes = [field.field.size for field in fields if field.field is not None]
            if len(sizes) == len(self.input) - 1 and any(
                size > side for size, side in zip(sizes, self.input[1:], strict=True)
            ):
                return layer.path
        return None

    def to_json(self, depth: int | None = None) -> dict[str, Any]:
        """The document of ``vitreous summary --json``."""
        macs, computed = self.trace.macs, self.trace.computed_macs
        return {
            "model": self.model,
            "input": list(self.input),
            "params": self.trace.parameters,
            "macs": macs,
            "flops": 2 * macs,
            "computed_macs": computed,
            "is_one_path": self.trace.recording.is_one_path,
            "memory": {
                "parameters": 4 * self.trace.parameters,
                "scoring": self.memory.peak,
                "training": self.memory.for_training,
            },
            "receptive_field": self._field_json(self.last_fields),
            "layers": [self._json(layer) for layer in (self.layers if depth is None else self.folded(depth))],
        }

    def _layer(self, number: int) -> Layer:
        operation = self.trace.operations[number]
        windows = windows_of(operation)
        return Layer(
            path=self.trace.recording.names[number],
            call=operation.call,
            op=operation.function,
            output_shape=operation.outputs[0][1:],
            params=operation.parameters,
            macs=operation.macs,
            map_bytes=self.memory.new[number],
            kept_bytes=self.memory.kept[number],
            fields=self.trace.fields[number],
            padding_share=padding_share(windows) if windows else None,
        )

    def _module(self, module: ModuleCall) -> Layer:
        rows = [self.layers[number - 1] for number in module.operations]
        last = module.outputs[0].operation
        return Layer(
            path=module.path,
            call=module.call,
            op=module.kind,
            output_shape=module.outputs[0].shape[1:],
            params=sum(row.params for row in rows),
            macs=sum(row.macs for row in rows),
            map_bytes=sum(row.map_bytes for row in rows),
            kept_bytes=sum(row.kept_bytes for row in rows),
            fields=() if last is None else self.trace.fields[last],
            padding_share=None,
        )

    def _json(self, layer: Layer) -> dict[str, Any]:
        return {
            "path": layer.path,
            "call": layer.call,
            "op": layer.op,
            "output_shape": list(layer.output_shape),
            "params": layer.params,
            "macs": layer.macs,
            "flops": 2 * layer.macs,
            "memory": {"scoring": layer.map_bytes, "training": layer.kept_bytes},
            "padding_share": layer.padding_share,
            "receptive_field": self._field_json(layer.fields),
        }

    def _field_json(self, fields: Sequence[SeenField]) -> dict[str, Any]:
        """With the part inside the image of what the first unit sees, and where the unit stands: in the middle of it.

        Behind a gate the middle is that of what it would see without one.
        """
        document = receptive_field_json(fields)
        centres = [_centre(field) for field in fields]
        size, start = document["size"], document["start"]
        clipped = None
        if size is not None:
            ends = [
                (max(0, first), min(side, first + extent))
                for first, extent, side in zip(start, size, self.input[1:], strict=True)
            ]
            clipped = {"start": [near for near, _ in ends], "size": [max(0, far - near) for near, far in ends]}
        return {
            **document,
            "centre": None if not centres or None in centres else centres,
            "clipped": clipped,
        }


def _centre(field: SeenField) -> float | None:
    if field.place is not None:
        return float(field.place.centre(0))
    return None if field.start is None or field.size is None else float(field.start) + (float(field.size) - 1) / 2


def rows_of(layers: Sequence[Layer]) -> Iterator[Sequence[Any]]:
    """For a table in a file: the plain values of each layer, in the order of ``COLUMNS``."""
    for layer in layers:
        field = receptive_field_json(layer.fields)
        size, jump, start = (field[key] or ("", "") for key in ("size", "jump", "start"))
        yield (
            *(layer.path, layer.call, layer.op, "x".join(map(str, layer.output_shape)), layer.params, layer.macs),
            *(2 * layer.macs, layer.map_bytes, layer.kept_bytes),
            "" if layer.padding_share is None else f"{layer.padding_share:.6g}",
            *(size[0], size[-1], jump[0], jump[-1], start[0], start[-1], field["status"]),
        )


COLUMNS = (
    *("path", "call", "op", "output_shape", "params", "macs", "flops", "scoring_bytes", "training_bytes"),
    *("padding_share", "field_height", "field_width", "jump_y", "jump_x", "start_y", "start_x", "status"),
)

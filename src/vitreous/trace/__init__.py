"""See through any network: what it computes, what that costs, and which pixels each number depends on.

    recording.py        one forward on meta tensors -> operations: name, module, inputs, shapes, parameters, MACs
    macs.py             the multiply-accumulates of what torch really runs
    sight.py            how units see one axis of the image and stand on it, and what a layer does to that
    rules.py            which of those each torch function does, one family of functions after another
    receptive_field.py  the rules carried along the recorded graph -> size, jump, start, status; and where units stand

No architecture is known by name, and the network is left as it was found.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import nn

from vitreous.trace.receptive_field import SeenField, receptive_field_json, receptive_fields
from vitreous.trace.recording import Operation, Recording, record

__all__ = ["Operation", "Recording", "SeenField", "Trace", "receptive_field_json", "record", "trace"]


@dataclass(frozen=True)
class Trace:
    """A recorded forward, and what the units of each operation's (first) output see, one field per image axis."""

    recording: Recording
    fields: tuple[tuple[SeenField, ...], ...]  # one entry per operation; empty where the image has no part in it

    @property
    def operations(self) -> tuple[Operation, ...]:
        """In the order in which they ran."""
        return self.recording.operations

    @property
    def parameters(self) -> int:
        """Of the whole network, used in this forward or not."""
        return self.recording.parameters

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image, without biases."""
        return sum(operation.macs for operation in self.operations)

    @property
    def computed_macs(self) -> int:
        """What torch is given to compute; it differs from ``macs`` where a module declares what it really needs."""
        return sum(operation.computed_macs for operation in self.operations)

    @cached_property
    def last_map(self) -> int | None:
        """The last operation whose units still have places on the image, before pooling to 1x1 or a dense layer."""
        return next((n for n in range(len(self.fields) - 1, -1, -1) if self.map_dims(n) is not None), None)

    def map_dims(self, number: int) -> tuple[int, ...] | None:
        """The dimensions of an operation's first output along which its units lie on the image, axis by axis.

        None where they have no places, or where there is more than the image and the channels besides.
        """
        dims = tuple(field.dim for field in self.fields[number] if field.dim is not None)
        is_map = 0 < len(dims) == len(self.fields[number]) == len(self.operations[number].outputs[0]) - 2
        return dims if is_map and 0 not in dims else None


def trace(network: nn.Module, input_shape: Sequence[int]) -> Trace:
    """Record one forward of one image, (C, H, W), and carry the receptive fields through it.

    Raises:
        ShapeError: the forward fails; the message names the module, the operation and the shapes that met.

    >>> network = nn.Sequential(nn.Conv2d(3, 8, 7, padding=3), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3))
    >>> after_pool = trace(network, (3, 32, 32)).fields[2]
    >>> [(field.size, field.jump) for field in after_pool]  # 8, not 14: what a pool doubles is the jump
    [(8, 2), (8, 2)]
    """
    recording = record(network, input_shape)
    return Trace(recording, receptive_fields(recording))

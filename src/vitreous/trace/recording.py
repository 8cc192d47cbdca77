"""One forward, recorded: every torch function that a network calls, with its module, its shapes and what it costs.

The forward runs on torch's "meta" device, where tensors have shapes and no numbers: ResNet-152 takes a fraction of a
second and no memory. Meta tensors stand in for the parameters and buffers, so that the network's own are not touched;
what else a forward may change is put back, and hooks are taken away again, whatever happens. A forward that asks for
numbers (``if x.sum() > 0``) is given zeros to run on, and the recording says that it is of one path only.
"""

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from vitreous.errors import ShapeError
from vitreous.trace.arguments import found, replaced
from vitreous.trace.borrowing import borrowed
from vitreous.trace.fitting import SHAPED, Failure, described
from vitreous.trace.macs import ASKING, counted
from vitreous.trace.shapes import Shape, run

WRITTEN_THROUGH_A_VIEW = "written through a view"  # the name of an operation that no function stands for


@dataclass(frozen=True, slots=True)
class Ref:
    """A tensor that an operation was given: which output of which operation, or None for one that the image has no
    part in (a parameter, a buffer, a constant made elsewhere).
    """

    shape: Shape
    operation: int | None = None
    output: int = 0
    constant: int | None = None  # its number among the recording's constants, where no operation made it


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of a torch function. Operation 0 is the image."""

    name: str  # as torch calls it: conv2d, relu_, __getitem__
    path: str  # of the innermost module whose forward called it; "" for the network's own
    call: int  # how often that module had run before; not 0 where one is used again
    args: tuple[Any, ...]  # as they were given, with Refs in place of tensors
    kwargs: Mapping[str, Any]
    outputs: tuple[Shape, ...]
    parameters: int  # numbers in the parameters that no operation before it read
    macs: int  # for one image; what the module declares as needed, where it declares that
    computed_macs: int  # what torch is given to compute

    @property
    def function(self) -> str:
        """Its name without what marks it as in place or as an operator.

        >>> [replace(_IMAGE, name=name).function for name in ("relu_", "__iadd__", "conv2d")]
        ['relu', 'add', 'conv2d']
        """
        plain = self.name.strip("_")
        return plain[1:] if self.name.startswith("__") and plain[1:] in _ARITHMETIC else plain

    @property
    def inputs(self) -> list[Ref]:
        """The tensors it was given that other operations made."""
        return [ref for ref in found(Ref, (self.args, dict(self.kwargs))) if ref.operation is not None]


_ARITHMETIC = frozenset(("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"))
_IMAGE = Operation("input", "", 0, (), {}, (), 0, 0, 0)


@dataclass(frozen=True, slots=True)
class ModuleCall:
    """One run of a module's forward: which operations ran inside it, and which tensors it gave back."""

    path: str  # "" is the network itself
    call: int
    kind: str  # the name of its class
    operations: range
    outputs: tuple[Ref, ...]


@dataclass(frozen=True)
class Recording:
    """All operations in the order in which they ran, and the modules that they ran in, inner ones first."""

    operations: tuple[Operation, ...]
    modules: tuple[ModuleCall, ...]
    constants: tuple[str, ...]  # the parameters and buffers that were read, by name; "" for any other tensor
    parameters: int  # of the whole network, read or not
    is_one_path: bool = False  # the forward asks for numbers: for other ones it may do something else
    left_torch_at: int | None = None  # from this operation on, numbers that Python took from tensors may be in any

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What people call each operation: the path of its module where that runs nothing else, else path:function.

        The second of the same function in one forward of a module is ``path:function#2``. Together with ``call`` a
        name stands for one operation: the same module may run several times.
        """
        alone = {(each.path, each.call) for each in self.modules if len(each.operations) == 1}
        paths = {each.path for each in self.modules}
        seen: Counter[tuple[str, int, str]] = Counter()
        names = []
        for operation in self.operations:
            place = operation.path, operation.call
            seen[*place, operation.function] += 1
            count = seen[*place, operation.function]
            name = operation.function + (f"#{count}" if count > 1 else "")
            is_plain = operation.path == "" and name not in paths
            names.append(
                operation.path
                if operation.path and place in alone
                else name
                if is_plain
                else f"{operation.path}:{name}"
            )
        return tuple(names)

    def find(self, name: str, call: int = 0) -> int | None:
        """The number of the operation of this name, or of the one whose result the module of this name gave back."""
        for number, operation in enumerate(self.operations):
            if operation.call == call and self.names[number] == name:
                return number
        module = next((each for each in self.modules if (each.path, each.call) == (name, call)), None)
        return module.outputs[0].operation if module is not None and module.outputs else None


def record(network: nn.Module, input_shape: Sequence[int]) -> Recording:
    """Run the network on one image of this shape, (C, H, W), in evaluation mode, and write down what it does.

    A module may declare ``needed_macs(output_shape) -> int`` where its code gives torch more to multiply than its
    definition asks for, zeros for instance.

    Raises:
        ShapeError: the forward fails; the message says where, and which image would fit if trying finds one.
    """
    image = tuple(input_shape)
    with borrowed(network) as bare:
        try:
            return _recorded(bare, image)
        except ForwardFailed as failed:
            raise ShapeError(described(failed.failure, image, lambda other: failure_of(bare, other))) from failed.error


def failure_of(network: nn.Module, image: Shape) -> Failure | None:
    """How a forward of one image of this shape fails; None if it does not. For a network that was borrowed."""
    try:
        _recorded(network, image)
    except ForwardFailed as failed:
        return failed.failure
    return None


class ForwardFailed(Exception):
    """A network's forward raised; never seen outside of this package."""

    def __init__(self, failure: Failure, error: Exception) -> None:
        super().__init__(failure.said)
        self.failure = failure
        self.error = error


def _recorded(network: nn.Module, image: Shape) -> Recording:
    """On meta tensors; where these cannot serve (no numbers, or tensors from elsewhere that have some), on zeros."""
    try:
        return _run(network, image, _stand_ins(network), torch.device("meta"))
    except ForwardFailed as failed:
        if failed.failure.is_of_shapes:
            raise
    device = next((each.device for each in network.parameters() if not each.is_meta), torch.device("cpu"))
    return _run(network, image, _real(network, device), device)


def _run(network: nn.Module, image: Shape, tensors: dict[str, Tensor], device: torch.device) -> Recording:
    parameters = {id(tensors[name]): tensor.numel() for name, tensor in network.named_parameters()}
    recorder = Recorder({id(tensor): name for name, tensor in tensors.items()}, dict(parameters))
    kind = next((each.dtype for each in network.parameters() if each.is_floating_point()), torch.float32)
    with recorder.following(network), torch.no_grad(), torch.random.fork_rng(devices=[]), device:
        x = (torch.empty if device.type == "meta" else torch.zeros)(1, *image, dtype=kind)
        recorder.add("input", ((), {}), [x])
        try:
            with recorder:
                functional_call(network, tensors, (x,))
        except Exception as error:  # a network may raise whatever it likes
            raise ForwardFailed(recorder.failure(error), error) from error
    return recorder.recording(sum(parameters.values()))


class Recorder(TorchFunctionMode):
    """Writes down each torch function called inside. Tensors are told apart by identity, so all are kept alive.

    Args:
        names: id of a parameter or buffer -> its name.
        unread: id of a parameter -> how many numbers it holds.
        keep: is told of each tensor that an operation made or wrote into: operation, output, the tensor.
    """

    def __init__(
        self,
        names: Mapping[int, str],
        unread: dict[int, int],
        keep: Callable[[int, int, Tensor], None] = lambda *_: None,
    ) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.modules: list[ModuleCall] = []
        self.constants: list[Tensor] = []
        self._names = names
        self._unread = unread
        self._keep = keep
        self._constants: dict[int, int] = {}  # id of a tensor that no operation made -> its number
        self._makers: dict[int, tuple[int, int, Tensor]] = {}  # id of a tensor -> operation, output, the tensor
        self._modules: list[tuple[str, int]] = [("", 0)]  # those that the forward is in: path, call
        self._failed: Failure | None = None
        self._left_torch_at: int | None = None
        self._is_asked = False

    # --- functions

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        name, kwargs = _name(func), kwargs or {}
        if name in ASKING:
            return func(*args, **kwargs)
        if name in _TAKING:
            return self._taken(name, func, args, kwargs)
        given = list(found(Tensor, (args, kwargs)))
        versions = [tensor._version for tensor in given]
        refs = replaced(Tensor, self._ref, (args, kwargs))
        try:
            result, macs = counted(name, args, kwargs, lambda: run(func, name, args, kwargs))
        except Exception as error:
            if self._failed is None:
                self._failed = self._failure(name, given, refs, error)
            raise
        self._failed = None  # a forward may try something and go on
        self._is_asked = self._is_asked or name in _COUNTING or (name == "__getitem__" and _is_mask(args[1]))
        made = list(found(Tensor, result))
        written = [tensor for tensor, version in zip(given, versions, strict=True) if tensor._version != version]
        made += [tensor for tensor in written if not any(tensor is each for each in made)]
        if made:
            parameters = sum(self._unread.pop(id(tensor), 0) for tensor in given)
            self.add(name, refs, made, parameters, macs)
            for tensor in written:
                self._spread(tensor)
        return result

    def add(self, name: str, refs: Any, made: Sequence[Tensor], parameters: int = 0, macs: int = 0) -> None:
        """One operation more, which made these tensors or wrote into them."""
        path, call = self._modules[-1]
        args, kwargs = refs
        self.operations.append(
            Operation(
                name=name,
                path=path,
                call=call,
                args=args,
                kwargs=kwargs,
                outputs=tuple(tuple(tensor.shape) for tensor in made),
                parameters=parameters,
                macs=macs,
                computed_macs=macs,
            )
        )
        for number, tensor in enumerate(made):
            self._makers[id(tensor)] = len(self.operations) - 1, number, tensor
            self._keep(len(self.operations) - 1, number, tensor)

    def recording(self, parameters: int) -> Recording:
        """What was written down, of a network that has so many parameters."""
        constants = tuple(self._names.get(id(tensor), "") for tensor in self.constants)
        return Recording(
            operations=tuple(self.operations),
            modules=tuple(self.modules),
            constants=constants,
            parameters=parameters,
            is_one_path=self._is_asked,
            left_torch_at=self._left_torch_at,
        )

    def _ref(self, tensor: Tensor) -> Ref:
        if id(tensor) in self._makers:
            operation, output, _ = self._makers[id(tensor)]
            return Ref(tuple(tensor.shape), operation, output)
        if id(tensor) not in self._constants:
            self._constants[id(tensor)] = len(self.constants)
            self.constants.append(tensor)
        return Ref(tuple(tensor.shape), constant=self._constants[id(tensor)])

    def _spread(self, written: Tensor) -> None:
        """A tensor was written in place: what other views of the same numbers hold has changed with it."""
        owner = _owner(written)
        for maker, output, tensor in list(self._makers.values()):
            if tensor is not written and _owner(tensor) is owner:
                refs = (Ref(tuple(tensor.shape), maker, output), self._ref(written))
                self.add(WRITTEN_THROUGH_A_VIEW, (refs, {}), [tensor])

    def _taken(self, name: str, func: Any, args: Any, kwargs: Any) -> Any:
        """Numbers go from a tensor to Python: what it does with them is not seen."""
        try:
            result = func(*args, **kwargs)
        except Exception as error:  # a meta tensor has none
            self._failed = self._failed or self._failure(name, [], ((), {}), error)
            raise
        self._is_asked = True
        if name != "__bool__" and self._left_torch_at is None:
            self._left_torch_at = len(self.operations)
        return result

    # --- modules

    @contextmanager
    def following(self, network: nn.Module) -> Iterator[None]:
        """Inside, it is known which module is running."""
        calls: Counter[str] = Counter()
        starts: list[int] = []  # of the modules that the forward is in: the number of the first operation
        with ExitStack() as hooks:
            for path, module in network.named_modules():
                needed = _declared_macs(module)

                def enter(module: nn.Module, inputs: Any, path: str = path) -> None:
                    self._modules.append((path, calls[path]))
                    calls[path] += 1
                    starts.append(len(self.operations))

                def leave(module: nn.Module, inputs: Any, output: Any, needed: Any = needed) -> None:
                    path, call = self._modules.pop()
                    first = starts.pop()
                    ran = range(first, len(self.operations))
                    outputs = tuple(map(self._ref, found(Tensor, output)))
                    self.modules.append(ModuleCall(path, call, type(module).__name__, ran, outputs))
                    if needed is not None and isinstance(output, Tensor):
                        self._declare(first, needed(tuple(output.shape)))

                hooks.callback(module.register_forward_pre_hook(enter).remove)
                hooks.callback(module.register_forward_hook(leave).remove)
            yield

    def _declare(self, first: int, macs: int) -> None:
        """Put what a module declares in place of what its operations, from number ``first`` on, were seen to do."""
        for number in range(first, len(self.operations)):
            self.operations[number] = replace(self.operations[number], macs=0)
        self.operations[-1] = replace(self.operations[-1], macs=macs)

    # --- failures

    def failure(self, error: Exception) -> Failure:
        """What was being called when this error came out of the network's forward."""
        return self._failed or Failure(self._modules[-1][0], "", (), 1, False, None, False, _said(error))

    def _failure(self, name: str, given: Sequence[Tensor], refs: Any, error: Exception) -> Failure:
        first = next((ref for ref in found(Ref, refs)), None)
        maker = None if first is None or first.operation is None else self.operations[first.operation]
        is_flat = maker is not None and maker.function in ("flatten", "view", "reshape") and bool(maker.inputs)
        args, kwargs = refs
        groups = kwargs.get("groups", args[6] if name.startswith("conv") and len(args) > 6 else 1)
        return Failure(
            path=self._modules[-1][0],
            function=name.strip("_"),
            shapes=tuple(tuple(tensor.shape) for tensor in given),
            groups=groups if isinstance(groups, int) else 1,
            is_of_image=first is not None and first.operation == 0,
            source=maker.inputs[0].shape[1:] if maker is not None and is_flat else None,
            is_of_shapes=name.strip("_") in SHAPED and all(tensor.is_meta for tensor in given),
            said=_said(error),
        )


def _said(error: Exception) -> str:
    return next((line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _name(func: Any) -> str:
    name = getattr(func, "__name__", type(func).__name__)
    return str(func.__self__.__name__) if name == "__get__" else str(name)  # x.mT is a property's __get__


_TAKING = frozenset(f"__{name}__" for name in ("array", "bool", "int", "float", "index", "contains", "complex")) | {
    "item",
    "tolist",
    "numpy",
}
_COUNTING = frozenset(  # how much they give depends on the numbers
    ("nonzero", "argwhere", "masked_select", "unique", "unique_consecutive", "bincount", "nms", "allclose", "equal")
)


def _is_mask(index: Any) -> bool:
    return any(each.dtype in (torch.bool, torch.uint8) for each in found(Tensor, index))


def _owner(tensor: Tensor) -> Tensor:
    return tensor if tensor._base is None else tensor._base


def _declared_macs(module: nn.Module) -> Callable[[Shape], int] | None:
    declared = inspect.getattr_static(module, "needed_macs", None)
    return module.needed_macs if declared is not None and callable(module.needed_macs) else None


def _stand_ins(network: nn.Module) -> dict[str, Tensor]:
    """Meta tensors in place of the network's own; tied ones stay tied."""
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    return {name: torch.empty(tensor.shape, dtype=tensor.dtype, device="meta") for name, tensor in tensors.items()}


def _real(network: nn.Module, device: torch.device) -> dict[str, Tensor]:
    """The parameters themselves, into which no forward writes, and copies of the buffers; zeros for meta ones."""

    def filled(tensor: Tensor) -> Tensor:
        return torch.zeros(tensor.shape, dtype=tensor.dtype, device=device) if tensor.is_meta else tensor

    buffers = {name: filled(tensor.clone()) for name, tensor in network.named_buffers()}
    return {**{name: filled(tensor) for name, tensor in network.named_parameters()}, **buffers}

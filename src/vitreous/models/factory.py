"""``file.py:factory``: a function in a file of the user's that builds a network. Naming it is the order to run it.

The file is read, compiled and run under a name of its own; modules beside it can be imported while that lasts. It is
run anew each time, so that what is built is what stands in the file. Nothing is written beside it.
"""

import difflib
import hashlib
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from vitreous.errors import ConfigError
from vitreous.wording import counted

if TYPE_CHECKING:
    from torch import nn


def split_factory(model: str) -> tuple[Path, str]:
    """The file and the function's name.

    Raises:
        ConfigError: no function is named, or there is no such file.
    """
    file, _, function = model.rpartition(":")
    if not file.endswith(".py") or not function.isidentifier():
        name = Path(model.partition(".py")[0] + ".py").name
        raise ConfigError(
            f"{model!r} names a file but no function in it; name the one that builds the network: {name}:make"
        )
    if not Path(file).is_file():
        raise ConfigError(f"there is no file {file}, which --model {model} names.")
    return Path(file), function


def source_sha256(path: Path) -> str:
    """The SHA-256 of a source file's bytes in hexadecimal."""
    return hashlib.sha256(_read(path)).hexdigest()


def factory_network(model: str, *, num_classes: int, in_channels: int) -> "nn.Module":
    """What the factory returns for ``num_classes`` and, if it accepts that, ``in_channels``.

    Raises:
        ConfigError: no such file or function, or it fails, or what it returns is no network; the message says where.
    """
    path, name = split_factory(model)
    with _importable(path.resolve().parent), redirect_stdout(sys.stderr):  # stdout is for results
        factory = _function(_load(path), name, model)
        arguments = _arguments(factory, model, num_classes=num_classes, in_channels=in_channels)
        try:
            network = factory(**arguments)
        except (Exception, SystemExit) as error:
            said = ", ".join(f"{key}={value}" for key, value in arguments.items())
            raise ConfigError(f"{model} fails when called with {said}{_where(error, path)}") from error
    return _as_network(network, model)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None


def _load(path: Path) -> ModuleType:
    """The file as a module; it stays in ``sys.modules``, where dataclasses and pickling look for their classes."""
    name = f"vitreous_factory_{hashlib.sha256(str(path.resolve()).encode('utf-8', 'surrogateescape')).hexdigest()[:16]}"
    module = ModuleType(name)
    module.__file__ = str(path)
    try:
        code = compile(_read(path), str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        shown = f": {error.text.strip()}" if error.text else ""
        raise ConfigError(f"{path}, line {error.lineno}, is not Python: {error.msg}{shown}") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not Python: {error}.") from None
    sys.modules[name] = module
    try:
        exec(code, module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ConfigError(f"{path} fails when it is loaded{_where(error, path)}") from error
    return module


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Modules in the folder can be imported, without a trace: neither here, where names may clash, nor on the disk."""
    before, writes_bytecode = set(sys.modules), sys.dont_write_bytecode
    importlib.invalidate_caches()
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes_bytecode
        with suppress(ValueError):
            sys.path.remove(str(folder))
        new = {name for name in set(sys.modules) - before if name.partition(".")[0] not in before}
        for name in [name for name in new if _lies_in(folder, sys.modules[name.partition(".")[0]])]:
            del sys.modules[name]


def _lies_in(folder: Path, module: ModuleType) -> bool:
    """Whether this is ``folder/name.py`` or the package ``folder/name``; what lies deeper was found another way."""
    if module.__name__.startswith("vitreous_factory_"):
        return False
    places = list(getattr(module, "__path__", ())) or [getattr(module, "__file__", None)]
    return any(place is not None and Path(place).resolve().parent == folder for place in places)


def _function(module: ModuleType, name: str, model: str) -> Callable[..., Any]:
    function: Callable[..., Any] | None = getattr(module, name, None)
    if callable(function):
        return function
    if function is not None:
        raise ConfigError(f"{model}: {name} is a {type(function).__name__}, not a function that builds a network.")
    own = [
        each
        for each, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__ and not each.startswith("_")
    ]
    near = difflib.get_close_matches(name, own, n=3) or own[:5]
    known = f"it has {', '.join(near)}." if near else "it defines none."
    raise ConfigError(f"there is no function {name} in {module.__file__}; {known}")


def _arguments(factory: Callable[..., Any], model: str, *, num_classes: int, in_channels: int) -> dict[str, int]:
    parameters = inspect.signature(factory).parameters.values()
    accepts_all = any(each.kind is each.VAR_KEYWORD for each in parameters)
    names = {each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
    if not accepts_all and "num_classes" not in names:
        raise ConfigError(
            f"{model} must accept num_classes, so that it can have an output for each class; "
            f"it is {model.rpartition(':')[2]}{inspect.signature(factory)}."
        )
    if accepts_all or "in_channels" in names:
        return {"num_classes": num_classes, "in_channels": in_channels}
    if in_channels != 3:
        raise ConfigError(
            f"{model} does not accept in_channels, so it is taken to be for colour images, and these have "
            f"{counted(in_channels, 'channel')}; let it accept in_channels, or --set data.channels=3."
        )
    return {"num_classes": num_classes}


def _as_network(network: Any, model: str) -> "nn.Module":
    from torch import nn
    from torch.nn.parameter import is_lazy

    if not isinstance(network, nn.Module):
        raise ConfigError(f"{model} returned a {type(network).__name__}; wanted a torch.nn.Module.")
    if any(is_lazy(parameter) for parameter in network.parameters()):
        raise ConfigError(f"{model} has lazy layers, whose sizes are unknown; give them their sizes.")
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise ConfigError(f"{model} has no parameters to train.")
    return network


def _where(error: BaseException, path: Path) -> str:
    """The last line of an exception, and the last line of the user's file on the way to it."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    said = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
    return f", in line {lines[-1]}: {said}" if lines else f": {said}"

"""The process in which foreign pickles are read: ``python -m vitreous.weights.conversion_worker JOB``, never imported.

It reads the tensors with torch's restricted unpickler, which builds tensors and plain containers and calls nothing
else; under limits of memory and processor time, since even data can be made to explode; and writes two files that the
parent checks: the tensors as safetensors, and a report. It never prints, asks or connects.
"""

import json
import math
import re
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from vitreous.errors import ConfigError
from vitreous.weights.header import shortened

_PLACES = (  # where checkpoints keep a network's state, the likeliest first
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights", "params"),
    *("state_dict_ema", "model_ema", "ema"),
)
_PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and torch.compile
_KINDS = {
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint64, torch.uint32, torch.uint16, torch.uint8),
}
_TIMES_ITS_SIZE = 3  # how much larger than the file its tensors may be: those that share memory are written apart
_SPARE_BYTES = 1 << 30  # for torch itself, beyond what it takes before the file is opened
_NO_MEMORY = re.compile("allocate memory|not enough memory|bad_alloc|mmap", re.IGNORECASE)
_CALL = re.compile(r"(?:GLOBAL|[Tt]ype|class) '?([\w.]+)")
_DEEPEST = 3  # a state within a state within a state
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Job:
    """What the parent asks for; one JSON argument."""

    source: str
    target: str
    report: str
    seconds: int
    metadata: dict[str, str]

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**json.loads(text))


def main(argument: str) -> None:
    """Do one job; whatever happens is in the report, unless the process is killed."""
    job = Job.from_json(argument)
    torch.set_num_threads(1)
    _limit(Path(job.source).stat().st_size, job.seconds)
    Path(job.report).write_text(json.dumps(report_of(job)), encoding="utf-8")


def report_of(job: Job) -> dict[str, Any]:
    """What was done, or under ``error`` why nothing was."""
    source = Path(job.source)
    try:
        return _convert(source, job)
    except ConfigError as error:
        return {"error": str(error)}
    except SafetensorError as error:  # only writing can fail by then
        return {"error": f"the converted weights cannot be written: {error}.", "is_machines": True}
    except Exception as error:
        return {"error": _explain(source, error)}


def _limit(num_bytes: int, seconds: int) -> None:
    """From here on: memory for the file, its copies and what torch has; the processor for so long; no core dump."""
    try:
        import resource
    except ImportError:  # Windows has no such limits; the parent's clock remains
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    memory = pages * resource.getpagesize() + (2 + 2 * _TIMES_ITS_SIZE) * num_bytes + _SPARE_BYTES
    limits = {
        resource.RLIMIT_CPU: seconds + math.ceil(time.process_time()),
        resource.RLIMIT_CORE: 0,
        **({resource.RLIMIT_AS: memory} if pages else {}),
    }
    for kind, least in limits.items():
        _, most = resource.getrlimit(kind)
        resource.setrlimit(kind, (least, least) if most == resource.RLIM_INFINITY else (min(least, most), most))


def _convert(source: Path, job: Job) -> dict[str, Any]:
    is_zip = _check_archive(source)
    loaded = torch.load(source, map_location="cpu", weights_only=True, mmap=is_zip)
    place, entries, left_out = _state(source, loaded)
    tensors: dict[str, Tensor] = {}
    for name, value in entries.items():
        if why := _why_not(name, value):
            left_out.append(f"{shortened(str(name))} ({why})")
        elif isinstance(name, str) and isinstance(value, Tensor):
            tensors[name] = value.detach()
    if not tensors:
        raise ConfigError(f"{source} holds no tensors with names, so no weights.")
    tensors, prefix = _without_prefix(tensors)
    _check_size(source, tensors)
    tensors = dict(_apart(tensors))
    not_finite = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    save_file(tensors, job.target, metadata=job.metadata)
    _order_metadata(Path(job.target))
    return {
        "place": place,
        "prefix": prefix,
        "left_out": _few(left_out),
        "not_finite": _few(list(map(shortened, not_finite))),
    }


def _check_archive(source: Path) -> bool:
    """Whether it is a zip archive; one that torch.save did not write is refused before torch sees it.

    Raises:
        ConfigError: a program, a bomb, a damaged archive, or one of something else.
    """
    if not zipfile.is_zipfile(source):
        return False
    with zipfile.ZipFile(source) as archive:
        members = archive.infolist()
    names = {member.filename.partition("/")[2] for member in members}
    if "constants.pkl" in names:
        raise ConfigError(
            f"{source} is a TorchScript archive: a program, not only weights. Nothing of it was run. "
            "Where it was made, save the tensors alone: torch.save(model.state_dict(), ...)."
        )
    if "data.pkl" not in names:
        raise ConfigError(f"{source} is a zip archive, but not one that torch.save wrote (it has no data.pkl).")
    total, size = sum(member.file_size for member in members), source.stat().st_size
    if total > size or any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ConfigError(
            f"{source} would unpack to {total:,} bytes from {size:,}: torch.save never compresses, "
            "so this was made by something else, perhaps to fill the memory. Nothing was unpacked."
        )
    return True


def _state(source: Path, loaded: object, place: str = "") -> tuple[str, Mapping[object, object], list[str]]:
    """The names and tensors of one network: where they were, they, and what was beside them on the way."""
    if not isinstance(loaded, Mapping):
        raise ConfigError(f"{source} holds a {_kind(loaded)}, not tensors by name; save model.state_dict().")
    for key in _PLACES:
        inner = loaded.get(key)
        if isinstance(inner, Mapping) and inner and place.count(".") < _DEEPEST:
            beside = [f"{shortened(str(name))} ({_kind(each)})" for name, each in loaded.items() if name != key]
            found, state, left_out = _state(source, inner, f"{place}{key}.")
            return found, state, beside + left_out
    return place.removesuffix("."), loaded, []


def _why_not(name: object, value: object) -> str | None:
    """Why an entry cannot be stored as a tensor; None if it can."""
    if not isinstance(value, Tensor):
        return _kind(value)
    if not isinstance(name, str) or name == "__metadata__":
        return "tensor whose name is not text"
    if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
        return "tensor that is sparse, quantized or without values"
    return None if value.dtype in _KINDS else f"tensor of {value.dtype}"


def _kind(value: object) -> str:
    return "tensor" if isinstance(value, Tensor) else type(value).__name__


def _without_prefix(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    prefix = ""
    while found := next((each for each in _PREFIXES if all(name.startswith(prefix + each) for name in tensors)), None):
        prefix += found
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}, prefix


def _check_size(source: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that repeat a few stored numbers over and over before they are written out."""
    total, size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()), source.stat().st_size
    if total > _TIMES_ITS_SIZE * size:
        raise ConfigError(f"{source} has {size:,} bytes, but its tensors would take {total:,}; no network's do.")


def _apart(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Each tensor with memory of its own, its numbers in order."""
    seen: set[int] = set()
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage()
        is_own = storage.data_ptr() not in seen and storage.nbytes() == tensor.numel() * tensor.element_size()
        seen.add(storage.data_ptr())
        yield name, tensor.contiguous() if is_own else tensor.clone(memory_format=torch.contiguous_format)


def _order_metadata(path: Path) -> None:
    """Sort the header's notes, which the library writes in any order, so that equal inputs make equal files."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= length, "the same values without spaces take no more"
        file.seek(8)
        file.write(text.ljust(length))


def _few(lines: list[str]) -> list[str]:
    return lines if len(lines) <= _SHOWN else [*lines[:_SHOWN], f"and {len(lines) - _SHOWN} more"]


def _explain(source: Path, error: Exception) -> str:
    """One sentence for what torch says in many."""
    text = str(error)
    if isinstance(error, MemoryError) or _NO_MEMORY.search(text):
        return f"{source} asks for much more memory than a file of its size needs; it is damaged or made to do harm."
    if "GLOBAL" in text and (call := _CALL.search(text)):
        return _refused_call(source, call[1])
    if "Can only" in text:
        return _refused_call(
            source, (_CALL.search(text[text.find("but got") :]) or [""] * 2)[1] or "an object of its own"
        )
    why = text.partition(". ")[0] if " " in text else type(error).__name__
    return f"{source} is damaged, cut off, or not written by torch.save ({shortened(why, 160)})."


def _refused_call(source: Path, name: str) -> str:
    known = re.sub(r"^(posix|nt)\.", "os.", name)
    return (
        f"{source} holds code, not only tensors: reading it would call {known}. Nothing of it was run.\n"
        "Where it was made, save the tensors alone: torch.save(model.state_dict(), ...)."
    )


if __name__ == "__main__":
    main(sys.argv[1])

"""This process among several, and how they talk.

Tensors within a step go through the process group, where a dead rank is noticed at once; what may take any time
(preparing, saving) goes through the board, where every rank shows that it lives.
"""

import inspect
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from vitreous.checkpoint import Checkpoint, NotFiniteError, load_newest_checkpoint
from vitreous.config import Config
from vitreous.errors import ConfigError, EndedElsewhere, MachineError, UserError, VitreousError
from vitreous.predictor import Predictor
from vitreous.run import FollowedRun, Run, SplitRow
from vitreous.training.distributed.board import Board
from vitreous.training.distributed.shared_norm import with_shared_norms
from vitreous.training.distributed.torchrun import number_in, seconds_to_answer
from vitreous.training.distributed.world import World

_T = TypeVar("_T")

_SECONDS_TO_MEET = 600.0  # until all processes have been started
_SECONDS_TO_PART = 5.0  # for each word with a store that may be away, too
_LOOK_SECONDS = 1.0  # between two looks at whether the others still live
_BEAT_SECONDS = 0.5  # between two signs of life
_SILENCE_SECONDS = 2.0  # without one, after a connection broke, that tell who is gone


class Ranks(World):
    """This process among several."""

    def __init__(self, environment: Mapping[str, str], rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self.local_rank = number_in(environment, "LOCAL_RANK", 0)
        self.local_size = number_in(environment, "LOCAL_WORLD_SIZE", 1)
        self.host = number_in(environment, "GROUP_RANK", rank)
        self._seconds = seconds_to_answer(environment)
        self._store = self._meet(environment)
        self._run: Path | None = None
        self._num_talks = 0  # of each kind of agreement; all ranks count alike, because all take part in all
        self._left = threading.Event()
        self._pulse = threading.Thread(target=self._show_life, daemon=True)
        self._pulse.start()

    def _meet(self, environment: Mapping[str, str]) -> Board:
        has_gpus = torch.cuda.is_available()
        if has_gpus and self.local_size > torch.cuda.device_count():
            has_gpus = False  # each rank a GPU of its own, or none: NCCL knows no other way
        restart = environment.get("TORCHELASTIC_RESTART_COUNT", "0")
        try:
            store, _, _ = next(rendezvous("env://", timeout=timedelta(seconds=_SECONDS_TO_MEET)))
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if has_gpus else "gloo",
                store=PrefixStore(f"vitreous/{restart}/group", store),
                rank=self.rank,
                world_size=self.size,
                timeout=timedelta(seconds=self._seconds),
            )
        except (RuntimeError, OSError) as error:
            address = f"{environment['MASTER_ADDR']}:{environment['MASTER_PORT']}"
            raise MachineError(
                f"rank {self.rank} of {self.size} on {socket.gethostname()} does not meet the others at {address} "
                f"({_first_line(error)}); start all of them, with the same address, and look at firewalls."
            ) from error
        return Board(PrefixStore(f"vitreous/{restart}", store), self._seconds)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Ranks":
        return self  # a copy of a network talks to the same processes

    def device(self, name: str) -> torch.device:
        """See ``World``: each rank has a GPU of its own."""
        device = torch.device(name)
        if device.type != "cuda":
            return device
        if self.local_rank >= torch.cuda.device_count():
            raise ConfigError(
                f"{self._name()} has no GPU of its own: {self.local_size} processes, {torch.cuda.device_count()} GPUs; "
                "start as many as there are, or use --device cpu."
            )
        return torch.device("cuda", self.local_rank)

    # What one rank does for all

    def shared(self, work: Callable[[], _T]) -> _T:
        """See ``World``."""
        key = self._next_key("shared")
        if not self.is_first:
            said = json.loads(self._awaited(key, of=0))
            if "not_finite" in said:
                raise NotFiniteError(said["not_finite"])
            value: _T = said["value"]
            return value
        try:
            value = work()
        except NotFiniteError as error:
            self._store.set(key, json.dumps({"not_finite": str(error)}))
            raise
        self._store.set(key, json.dumps({"value": value}))
        return value

    def shared_run(self, make: Callable[[], Run], *, with_splits: bool = False) -> Run:
        """See ``World``."""
        made: list[Run] = []

        def tell() -> dict[str, Any]:
            run = make()
            made.append(run)
            rows = [_row_to_json(row) for row in run.splits()] if with_splits else []
            return {"path": str(run.path), "manifest": run.manifest, "config": run.config.to_toml(), "rows": rows}

        told = self.shared(tell)
        self._run = Path(told["path"])
        if made:
            return made[0]
        rows = tuple(SplitRow(*row) for row in told["rows"])
        return FollowedRun(self._run, told["manifest"], Config.from_toml(told["config"]), rows)

    def shared_checkpoint(self, folder: Path, identity: str | None) -> tuple[Checkpoint | None, list[str]]:
        """See ``World``."""
        found: list[tuple[Checkpoint | None, list[str]]] = []

        def tell() -> dict[str, Any] | None:
            found.append(load_newest_checkpoint(folder, identity))
            checkpoint = found[0][0]
            if checkpoint is None:
                return None
            kinds = [(name, str(each.dtype), list(each.shape)) for name, each in checkpoint.tensors.items()]
            return {"step": checkpoint.step, "progress": checkpoint.progress, "kinds": kinds}

        told = self.shared(tell)
        problems = found[0][1] if found else []
        if told is None:
            return None, problems
        read = found[0][0] if found else None
        tensors = {}
        for name, dtype, shape in told["kinds"]:
            kind = getattr(torch, dtype.removeprefix("torch."))
            tensors[name] = torch.empty(shape, dtype=kind) if read is None else read.tensors[name].contiguous()
            dist.broadcast(tensors[name], src=0)
        return Checkpoint(told["step"], tensors, told["progress"]), problems

    def by_turns(self, work: Callable[[], _T]) -> _T:
        """See ``World``."""
        key = f"{self._next_key('turn')}/{self.host}"
        if self.local_rank == 0:
            value = work()
            self._store.set(key, "done")
            return value
        self._awaited(key, of=self.rank - self.local_rank)
        return work()

    def require_equal(self, what: str, value: Mapping[str, Any]) -> None:
        """See ``World``."""
        wanted = self.shared(lambda: dict(value))
        ours = json.loads(json.dumps(dict(value)))
        for key in sorted({*wanted, *ours}):
            if ours.get(key) != wanted.get(key):
                raise ConfigError(
                    f"{what} differ: {key} is {ours.get(key)!r} here and {wanted.get(key)!r} for rank 0; start all "
                    "processes with the same arguments and the same data."
                )
        met = self._next_key("met")
        self._store.set(f"{met}/{self.rank}", "equal")
        for rank in range(self.size):
            self._awaited(f"{met}/{rank}", of=rank)

    # Within a step

    def voted(self, number: int) -> int:
        """See ``World``."""
        largest = torch.tensor(number)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def part(self, index_N: Tensor) -> Tensor:
        """See ``World``."""
        return index_N[self.rank :: self.size]

    def loss_share(self, num_images: int) -> float:
        """See ``World``."""
        return len(range(self.rank, num_images, self.size)) * self.size / num_images

    def mean(self, values: Tensor) -> Tensor:
        """See ``World``; summed in float64."""
        sums = values.detach().double().cpu()
        dist.all_reduce(sums)
        return sums / self.size

    def replicated(self, network: nn.Module) -> nn.Module:
        """See ``World``; batch norms use the statistics of the whole batch, so buffers are equal without being sent."""
        parallel = nn.parallel.DistributedDataParallel
        has_new_name = "forward_sync_buffers" in inspect.signature(parallel).parameters  # since torch 2.13
        sends_none: dict[str, Any] = {"forward_sync_buffers" if has_new_name else "broadcast_buffers": False}
        return parallel(with_shared_norms(network), **sends_none)

    # Between epochs

    def align(self, *networks: nn.Module) -> None:
        """See ``World``."""
        for network in networks:
            for tensors in _by_kind(network.state_dict().values()):
                flat = torch.cat([tensor.flatten() for tensor in tensors])
                dist.broadcast(flat, src=0)
                lengths = [tensor.numel() for tensor in tensors]
                with torch.no_grad():
                    for tensor, values in zip(tensors, torch.split(flat, lengths), strict=True):
                        tensor.copy_(values.view(tensor.shape))

    def logits(
        self, predictor: Predictor, pixels_NHWC: NDArray[np.uint8], before_batch: Callable[[], None] = lambda: None
    ) -> NDArray[np.float32]:
        """See ``World``."""
        num, length = len(pixels_NHWC), predictor.batch_size
        batches = [np.arange(start, min(start + length, num)) for start in range(0, num, length)]
        rows_of = [np.concatenate([np.arange(0), *batches[rank :: self.size]]) for rank in range(self.size)]
        most = max(map(len, rows_of))
        ours_NK = torch.zeros(most, len(predictor.classes))
        first = 0
        for turn in range(0, len(batches), self.size):
            before_batch()
            if turn + self.rank >= len(batches):
                break
            batch = batches[turn + self.rank]
            ours_NK[first : first + len(batch)] = torch.from_numpy(predictor.logits(pixels_NHWC[batch]))
            first += len(batch)
        theirs = [torch.empty_like(ours_NK) for _ in range(self.size)]
        dist.all_gather(theirs, ours_NK)
        logits_NK = np.empty((num, len(predictor.classes)), np.float32)
        for rows, answers_NK in zip(rows_of, theirs, strict=True):
            logits_NK[rows] = answers_NK[: len(rows)].numpy()
        return logits_NK

    # When something fails

    def ended_by(self, error: BaseException) -> BaseException:
        """See ``World``."""
        self._store.seconds = _SECONDS_TO_PART
        ending = self._ending(error)
        self._part()
        return ending

    def leave(self) -> None:
        """See ``World``."""
        self._left.set()
        self._pulse.join(timeout=2 * _LOOK_SECONDS)
        dist.destroy_process_group()

    def _ending(self, error: BaseException) -> BaseException:
        if isinstance(error, EndedElsewhere):
            return error
        if isinstance(error, RuntimeError) and _is_broken_tie(error):
            return self._told() or self._told_once(self._lost(self._silent_ranks()))
        if isinstance(error, UserError | MachineError | VitreousError):
            return self._told_once(error)
        self._announce(f"{type(error).__name__}: {error}", 130 if isinstance(error, KeyboardInterrupt) else 70)
        return error

    def _part(self) -> None:
        """Say that nothing more is read here; the first rank, with whom the store may end, waits for the others."""
        deadline = time.monotonic() + _SECONDS_TO_PART
        try:
            self._store.set(f"parted/{self.rank}", "")
            for rank in range(self.size if self.is_first else 0):
                self._is_there(f"parted/{rank}", wait_seconds=deadline - time.monotonic())
        except RuntimeError:
            return  # the store has ended before

    def _told_once(self, error: VitreousError) -> VitreousError:
        """The error, unless the first rank on this host tells the same."""
        text = str(error)
        self._announce(text, error.exit_code)
        if self.is_first:
            return error
        if self._announced_by(0, wait_seconds=1.0) == text:
            return EndedElsewhere(error.exit_code)
        error.args = (f"{self._name()}: {text}", *error.args[1:])
        return error

    def _announce(self, text: str, exit_code: int) -> None:
        told = json.dumps({"rank": self.rank, "name": self._name(), "host": self.host, "text": text, "code": exit_code})
        try:
            self._store.set(f"end/{self.rank}", told)
            self._store.set_first("end", told)
        except RuntimeError:
            return  # the store has ended, and with it all who could read this

    def _announced_by(self, rank: int, wait_seconds: float) -> str | None:
        try:
            is_there = self._is_there(f"end/{rank}", wait_seconds)
            return str(json.loads(self._store.get(f"end/{rank}"))["text"]) if is_there else None
        except RuntimeError:
            return None

    def _told(self) -> VitreousError | None:
        """What ended another rank, if one said so; it is repeated once on each other host."""
        try:
            if not self._is_there("end", wait_seconds=_LOOK_SECONDS):
                return None
            said = json.loads(self._store.get("end"))
        except RuntimeError:
            return None
        if self.local_rank == 0 and said["host"] != self.host:
            error = MachineError(f"{said['name']} ended the job: {said['text']}")
            error.exit_code = said["code"]
            return error
        return EndedElsewhere(said["code"])

    def _silent_ranks(self) -> list[int]:
        """The ranks that show no life for some seconds, in which a busy one would."""
        others = [rank for rank in range(self.size) if rank != self.rank]
        try:
            before = {rank: self._beat_of(rank) for rank in others}
            time.sleep(_SILENCE_SECONDS)
            return [rank for rank in others if self._beat_of(rank) == before[rank]]
        except RuntimeError:
            return [0]  # who holds the store

    def _lost(self, ranks: list[int]) -> MachineError:
        who = f"rank {' and '.join(map(str, ranks))}" if ranks else "another rank"
        kept = (
            f"{self._run} is whole up to its last checkpoint; go on with: torchrun ... -m vitreous resume {self._run}"
            if self._run
            else "nothing was begun yet; start again"
        )
        return MachineError(f"{who} of {self.size} no longer answers (it was ended, or its host is away). {kept}")

    def _name(self) -> str:
        return f"rank {self.rank} on {socket.gethostname()}"

    # Waiting

    def _next_key(self, kind: str) -> str:
        self._num_talks += 1
        return f"{kind}/{self._num_talks}"

    def _awaited(self, key: str, *, of: int) -> bytes:
        """The value that rank ``of`` sets, whenever that is, as long as it shows that it lives.

        Raises:
            EndedElsewhere: a rank said why it ended.
            MachineError: the rank, or the store, is gone.
        """
        beat, seen = b"", time.monotonic()
        try:
            while not self._is_there(key, wait_seconds=_LOOK_SECONDS):
                if self._is_there("end") and (told := self._told()):
                    raise told
                latest = self._beat_of(of)
                if latest != beat:
                    beat, seen = latest, time.monotonic()
                elif time.monotonic() - seen > self._seconds:
                    raise self._lost([of])
            return self._store.get(key)
        except RuntimeError:
            raise self._lost([0]) from None  # who holds the store

    def _is_there(self, key: str, wait_seconds: float = 0.0) -> bool:
        """Whether the key is set by then; asked again and again, since the store's own wait complains on stderr."""
        deadline, pause = time.monotonic() + wait_seconds, 0.001
        while not self._store.has(key):
            if time.monotonic() >= deadline:
                return False
            time.sleep(pause)
            pause = min(2 * pause, 0.1)
        return True

    def _beat_of(self, rank: int) -> bytes:
        return self._store.get(f"lives/{rank}") if self._is_there(f"lives/{rank}") else b""

    def _show_life(self) -> None:
        number = 0
        while not self._left.wait(_BEAT_SECONDS):
            number += 1
            try:
                self._store.set(f"lives/{self.rank}", str(number))
            except RuntimeError:
                return  # the main thread meets the same


def _row_to_json(row: SplitRow) -> list[Any]:
    return [row.content_hash, row.path, row.label, row.split, row.group, row.picture, row.is_known]


def _by_kind(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    return list(kinds.values())


def _is_broken_tie(error: RuntimeError) -> bool:
    """Gloo has no exception of its own, only the path of its source in the message."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

"""torchrun's key-value store, as the ranks use it."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

import torch.distributed as dist
from torch.distributed.distributed_c10d import Store

_T = TypeVar("_T")


class Board:
    """The store with an end to every question: it would wait for ever for a host that lost its cable.

    Raises:
        RuntimeError: at each question that is not answered within ``seconds``, or where the store has ended.
    """

    def __init__(self, store: Store, seconds: float) -> None:
        self._store, self.seconds = store, seconds

    def set(self, key: str, value: str) -> None:
        """Show a value to all."""
        self._ask(lambda: self._store.set(key, value))

    def set_first(self, key: str, value: str) -> None:
        """Show a value to all unless somebody was quicker."""
        self._ask(lambda: self._store.compare_set(key, "", value))

    def has(self, key: str) -> bool:
        """Whether somebody has set the key."""
        return self._ask(lambda: self._store.check([key]))

    def get(self, key: str) -> bytes:
        """The value of a key that is there."""
        return bytes(self._ask(lambda: self._store.get(key)))

    def _ask(self, question: Callable[[], _T]) -> _T:
        answer: Future[_T] = Future()

        def wait() -> None:
            try:
                answer.set_result(question())
            except RuntimeError as error:
                answer.set_exception(error)

        threading.Thread(target=wait, daemon=True).start()
        try:
            return answer.result(self.seconds)
        except TimeoutError:
            raise dist.DistNetworkError("the store does not answer") from None

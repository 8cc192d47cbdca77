"""Work on many images at once: decoding and hashing leave Python's lock, so threads are enough."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from vitreous.allocator import kept_blocks
from vitreous.progress import Progress

T = TypeVar("T")

_CHUNK = 32  # images handed to a thread at once: few hand-overs for small images, a smooth bar for large ones


def map_images(work: Callable[[int], T], num_images: int, *, title: str, progress: Progress) -> Iterator[T]:
    """``work(0)``, ``work(1)``, ... in this order, computed by one thread per processor core, with a bar."""

    def work_on_chunk(start: int) -> list[T]:
        return [work(i) for i in range(start, min(start + _CHUNK, num_images))]

    with (
        kept_blocks(),
        progress.task(title, num_images, "images") as bar,
        ThreadPoolExecutor(_num_cores()) as threads,
    ):
        try:
            for results in threads.map(work_on_chunk, range(0, num_images, _CHUNK)):
                yield from results
                bar.advance(len(results))
        finally:  # after an error or Ctrl-C, do not work through the rest first
            threads.shutdown(wait=False, cancel_futures=True)


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

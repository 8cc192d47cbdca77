"""The C library's allocator, told to keep large blocks while images are decoded or a network computes.

Left to itself, glibc takes every large picture or activation from the kernel and gives it back after use, so that each
begins with a page fault, and a page of zeros, for every 4 KiB that it writes. Bits do not depend on it.
"""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # the numbers of mallopt(3)
_DEFAULTS = {_TRIM_THRESHOLD: 128 * 1024, _TOP_PAD: 128 * 1024, _MMAP_MAX: 65_536}
_KEEPING = {_TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 * 2**20, _MMAP_MAX: 0}
_guard = threading.Lock()
_holders = 0


@contextmanager
def kept_blocks() -> Iterator[bool]:
    """Keep freed blocks, and give them back when the last holder leaves; False where the C library is not glibc."""
    global _holders
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt") or not hasattr(library, "malloc_trim"):
        yield False
        return
    with _guard:
        _holders += 1
        if _holders == 1:
            _set(library, _KEEPING)
    try:
        yield True
    finally:
        with _guard:
            _holders -= 1
            if _holders == 0:
                _set(library, _DEFAULTS)
                library.malloc_trim(0)


def _set(library: ctypes.CDLL, options: dict[int, int]) -> None:
    for option, value in options.items():
        library.mallopt(option, value)

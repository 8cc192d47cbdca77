"""The C library's allocator, told to keep large blocks while a network is trained.

Left to itself, glibc takes every large activation from the kernel and gives it back after use, so each step begins with
a page fault, and a page of zeros, for every 4 KiB that it writes. Bits do not depend on it.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # the numbers of mallopt(3)
_DEFAULTS = {_TRIM_THRESHOLD: 128 * 1024, _TOP_PAD: 128 * 1024, _MMAP_MAX: 65_536}
_KEEPING = {_TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 * 2**20, _MMAP_MAX: 0}


@contextmanager
def kept_blocks() -> Iterator[bool]:
    """Keep freed blocks for the next step, and give them back at the end; False where the C library is not glibc."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt") or not hasattr(library, "malloc_trim"):
        yield False
        return
    for option, value in _KEEPING.items():
        library.mallopt(option, value)
    try:
        yield True
    finally:
        for option, value in _DEFAULTS.items():
            library.mallopt(option, value)
        library.malloc_trim(0)

"""Makes the C library's allocator return memory to the system; only glibc's, without effect on others.

By default each thread has its own arena, 64 MB of address space that `ulimit -v` counts, and blocks of up to 32 MB
are taken from a heap that can only shrink at its end (mallopt(3), malloc_trim(3)).
"""

import ctypes
from collections.abc import Callable
from typing import Any

ARENA_MAX, MMAP_THRESHOLD, TRIM_THRESHOLD = -8, -3, -1  # numbers of malloc.h
LARGE = 1 << 20  # bytes; a larger block gets its own mapping, which is returned when it is freed
INFO = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"


class _Info(ctypes.Structure):
    """struct mallinfo2."""

    _fields_ = [(name, ctypes.c_size_t) for name in INFO.split()]


def _function(name: str, result: Any, *arguments: Any) -> Callable[..., Any] | None:
    """A function of the C library; None if it has no such function."""
    try:
        found = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError):
        return None
    found.restype, found.argtypes = result, list(arguments)
    return found  # type: ignore[no-any-return]


_mallopt = _function("mallopt", ctypes.c_int, ctypes.c_int, ctypes.c_int)
_malloc_trim = _function("malloc_trim", ctypes.c_int, ctypes.c_size_t)
_mallinfo2 = _function("mallinfo2", _Info)


def configure() -> None:
    """Use one arena for all threads, which are few and mostly wait for each other, and a mapping for each large
    block.

    Call it before threads are started.
    """
    if _mallopt is not None:
        for number, value in ((ARENA_MAX, 1), (MMAP_THRESHOLD, LARGE), (TRIM_THRESHOLD, LARGE)):
            _mallopt(number, value)


def trim() -> None:
    """Return free memory to the system."""
    if _malloc_trim is not None:
        _malloc_trim(0)


def free_bytes() -> int:
    """Bytes that are mapped but free."""
    return int(_mallinfo2().fordblks) if _mallinfo2 is not None else 0

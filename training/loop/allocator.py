"""Keeps large buffers of a training process in the process, where the C library would give them back at every step."""

import ctypes

# Parameters of glibc's mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
NEVER = 2**31 - 1  # bytes free at the top of the heap before it shrinks; the largest value there is


def keep_buffers() -> bool:
    """Take freed memory for the next step instead of returning it to the system; says whether the C library took it.

    The logits of a large vocabulary take hundreds of megabytes. Unless told otherwise glibc maps such a buffer anew for
    every use and the system clears each of its pages: at 9,728 characters that is two thirds of a training step.
    Other C libraries do as they please.
    """
    try:
        library = ctypes.CDLL(None)
        return bool(library.mallopt(M_MMAP_MAX, 0)) and bool(library.mallopt(M_TRIM_THRESHOLD, NEVER))
    except (OSError, AttributeError, TypeError):
        return False

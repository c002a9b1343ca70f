"""Keeps large buffers of a training process in the process, where the C library would give them back at every step."""

import ctypes

# Parameters of glibc's mallopt(3).
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
NEVER = 2**31 - 1  # bytes free at the top of the heap before it shrinks; the largest value there is
# A thread beyond the first has heaps of 64 MB (malloc/arena.c). It gives a free one back where the one before has more
# than this left: never, that is. It is address space, no memory.
HEAP = 64 << 20


def keep_buffers() -> bool:
    """Take freed memory for the next step instead of returning it to the system; says whether the C library took it.

    The logits of a large vocabulary take hundreds of megabytes. Unless told otherwise glibc maps such a buffer anew for
    every use and the system clears each of its pages: at 9,728 characters that is two thirds of a training step. So it
    does with whole heaps of the threads that share a batch's rows: a sixth of a step of a 1 × 512 LSTM in fp32.
    Other C libraries do as they please.
    """
    try:
        library = ctypes.CDLL(None)
        wanted = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: NEVER, M_TOP_PAD: HEAP}
        return all(library.mallopt(name, value) for name, value in wanted.items())
    except (OSError, AttributeError, TypeError):
        return False

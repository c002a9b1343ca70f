"""Threads that each work on some rows of a batch with one kernel thread, and meet when all are done.

The kernels' own threads (OpenMP) meet at a barrier in every operation, and spin there: where another process takes one
of the cores, a step of some hundred barriers waits for it hundreds of times. Threads that meet once a step wait once.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from typing import TypeVar

import torch

import model.cores

Result = TypeVar("Result")

MOST_THREADS = 256
FEWEST_ROWS = 4  # of a thread, where nobody chose: fewer make a product hardly faster

_here = threading.local()


def available_cores() -> int:
    """The cores to use, at least 1: what OMP_NUM_THREADS says, as for other programs; else those there are."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    cores = int(wanted) if wanted.isdecimal() and int(wanted) > 0 else model.cores.available_cores()
    return min(cores, MOST_THREADS)


def default_threads(rows: int) -> int:
    """How many threads share a batch of `rows` rows: a core each, and not too few rows."""
    return max(1, min(available_cores(), rows // FEWEST_ROWS))


def row_parts(rows: int, threads: int) -> list[slice]:
    """The rows of a batch in contiguous parts, one a thread, of sizes that differ by one at most; none is empty."""
    count = max(1, min(rows, threads))
    borders = [number * rows // count for number in range(count + 1)]
    return [slice(begin, end) for begin, end in pairwise(borders)]


@contextmanager
def one_kernel_thread() -> Iterator[None]:
    """Let PyTorch's kernels use no thread but the calling one inside."""
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def side_by_side(works: Sequence[Callable[[], Result]], threads: int | None = None) -> list[Result]:
    """What each of some pieces of work returns, in their order; each runs in a thread of its own.

    threads: so many at a time. The first runs in the calling thread. Returns, or raises the first exception in their
    order, when all have ended. Inside another's piece of work they run one after another.
    """
    if threads is not None and len(works) > threads:
        return [found for first in range(0, len(works), threads) for found in side_by_side(works[first:][:threads])]
    with one_kernel_thread():
        if len(works) == 1 or getattr(_here, "at_work", False):
            return [work() for work in works]
        others = [_pool().submit(_at_work, work) for work in works[1:]]
        try:
            first = _at_work(works[0])
        finally:
            for other in others:
                other.exception()  # waits
        return [first, *(other.result() for other in others)]


def _at_work(work: Callable[[], Result]) -> Result:
    _here.at_work = True
    try:
        return work()
    finally:
        _here.at_work = False


@cache
def _pool() -> ThreadPoolExecutor:
    # The number of kernel threads belongs to the thread that sets it (OpenMP 5.2, nthreads-var).
    return ThreadPoolExecutor(MOST_THREADS, "rows", initializer=torch.set_num_threads, initargs=(1,))

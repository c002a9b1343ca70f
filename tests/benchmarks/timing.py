"""How things are timed: side by side in one run, and on cores of their own."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, CLIENT_CORE = CORES[0], CORES[-1]
"""The core a server or an engine is measured on, and the one its client runs on; the same where there is but one."""


@contextmanager
def on_core(*cores: int) -> Iterator[None]:
    """Keep this thread on a core, or on some; the threads and processes it starts meanwhile stay there for good."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def mean_seconds(run: Callable[[], object], calls: int) -> float:
    """The mean seconds of a call, of several in a row."""
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def seconds_per_call(run: Callable[[], object], calls: int, rounds: int = 7) -> float:
    """The median over rounds of the mean seconds of a call, after one round to warm up."""
    return median([mean_seconds(run, calls) for _ in range(rounds + 1)][1:])


def side_by_side(runs: Sequence[Callable[[], float]], rounds: int) -> list[list[float]]:
    """What each run returns in every round: A B C, A B C, …, after one round to warm up."""
    returned = [[run() for run in runs] for _ in range(rounds + 1)][1:]
    return [list(column) for column in zip(*returned, strict=True)]


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the ratios of what stood side by side in time."""
    return median(a / b for a, b in zip(above, below, strict=True))


def percentile(values: Sequence[float], percent: float) -> float:
    """The least value that so many percent of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)]

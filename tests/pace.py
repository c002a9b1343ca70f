"""Limits on processor time in units of this machine: a slow one is held to the same law as a fast one."""

import time

LOOP = 200_000  # additions


def loops(count: float) -> float:
    """Seconds of this thread that `count` loops of LOOP additions take here, by the best of five."""
    best = min(_one() for _ in range(5))
    return count * best


def _one() -> float:
    began = time.thread_time()
    total = 0
    for number in range(LOOP):
        total += number
    return time.thread_time() - began

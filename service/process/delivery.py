"""Passes the results of turns to the event loop a few at a time, so that short requests are answered in between."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Any

# Tasks woken in one pass of the event loop. Each then answers for a text, which takes about 0.1 ms; all 128 of a full
# engine at once kept a health probe waiting for more than 10 ms.
AT_ONCE = 4
PASS_SECONDS = 0.0005  # of calls in one pass; calls that wake no task only append to data
LOOK = 16  # calls between two readings of the clock

Call = Callable[..., bool]
"""Passes on one result; returns whether it woke a task."""


class Delivery:
    """A queue of calls to make, first in, first out; used in the event loop's thread only."""

    def __init__(self) -> None:
        self._line: deque[tuple[Call, tuple[Any, ...]]] = deque()
        self._going = False  # whether a pass of the loop is scheduled

    def add(self, loop: asyncio.AbstractEventLoop, *news: tuple[Call, Iterable[tuple[Any, ...]]]) -> None:
        """Add calls, one for each result with its arguments. The first are made at once if none waits, the others in
        later passes."""
        for call, results in news:
            self._line.extend(zip(repeat(call), results, strict=False))
        if not self._going:
            self._next(loop)

    def finish(self) -> None:
        """Make all waiting calls now."""
        while self._line:
            self._make()

    def _make(self) -> bool:
        call, result = self._line.popleft()
        return call(*result)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        self._going = True
        woken = made = 0
        until = 0.0
        try:
            while self._line and woken < AT_ONCE:
                woken += self._make()
                made += 1
                if made == LOOK:
                    until = time.perf_counter() + PASS_SECONDS
                elif made % LOOK == 0 and time.perf_counter() > until:
                    break
        finally:
            self._going = bool(self._line)
            if self._going:
                loop.call_soon(self._next, loop)

"""Hands the results of turns to the event loop a few at a time, so that short requests are answered in between."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

# Calls made in one pass of the event loop. Each wakes the task that answers for a text, which takes about 0.1 ms; all
# 128 of a full engine at once kept a health probe waiting for more than 10 ms.
AT_ONCE = 4


class Delivery:
    """A queue of calls to make, first in, first out; used in the event loop's thread only."""

    def __init__(self) -> None:
        self._line: deque[Callable[[], None]] = deque()
        self._going = False  # whether a pass of the loop is scheduled

    def add(self, loop: asyncio.AbstractEventLoop, calls: Iterable[Callable[[], None]]) -> None:
        """Add some calls: the first are made at once if none waits, the others in later passes."""
        self._line.extend(calls)
        if not self._going:
            self._next(loop)

    def finish(self) -> None:
        """Make all waiting calls now."""
        while self._line:
            self._line.popleft()()

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        self._going = True
        try:
            for _ in range(min(AT_ONCE, len(self._line))):
                self._line.popleft()()
        finally:
            self._going = bool(self._line)
            if self._going:
                loop.call_soon(self._next, loop)

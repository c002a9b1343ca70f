"""What turns brought on its way into the event loop, a few texts at a time, so that short questions come between."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

# Pieces of news that are told in one pass of the loop. Each wakes who answers for a text, for about a tenth of a
# millisecond; all 128 of a full engine at once kept a probe of its health waiting for more than ten of them.
AT_ONCE = 4


class Delivery:
    """News in a line, told first come, first served; used in the event loop's thread only."""

    def __init__(self) -> None:
        self._line: deque[Callable[[], None]] = deque()
        self._going = False  # whether a pass of the loop is asked for

    def add(self, loop: asyncio.AbstractEventLoop, calls: Iterable[Callable[[], None]]) -> None:
        """Tell some news: the first at once, if none waits, the others in passes to come."""
        self._line.extend(calls)
        if not self._going:
            self._next(loop)

    def finish(self) -> None:
        """Tell all that waits now."""
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

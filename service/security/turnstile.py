"""Lets tasks do what takes long one after the other, so much in each pass of the event loop."""

import asyncio
from collections import deque


class Turnstile:
    """Lets a caller go on at once if there is room in this pass of the event loop, else in a later pass, in order.

    room: in a pass, in any unit; one that needs more has a pass of its own.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._taken = 0  # of the room in this pass
        self._going = False  # whether a later pass is asked for
        self._line: deque[tuple[asyncio.Future[None], int]] = deque()

    async def enter(self, size: int) -> None:
        """Wait for a turn to do something of a size."""
        loop = asyncio.get_running_loop()
        if not self._going:
            self._going = True
            loop.call_soon(self._next)
        if not self._line and self._fits(size):
            self._taken += size
            return
        turn = loop.create_future()
        self._line.append((turn, size))
        await turn

    def _fits(self, size: int) -> bool:
        return not self._taken or self._taken + size <= self._room

    def _next(self) -> None:
        """Let those who come next go on, in the pass after this one."""
        self._taken = 0
        while self._line and self._fits(self._line[0][1]):
            turn, size = self._line.popleft()
            if not turn.done():  # given up meanwhile
                turn.set_result(None)
                self._taken += size
        self._going = bool(self._taken)
        if self._going:
            asyncio.get_running_loop().call_soon(self._next)

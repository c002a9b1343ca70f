"""Lets tasks do something that takes long one after the other, one in each pass of the event loop."""

import asyncio
from collections import deque


class Turnstile:
    """Whoever enters goes on at once if nobody has in this pass, else in a later one, first come, first served."""

    def __init__(self) -> None:
        self._line: deque[asyncio.Future[None]] = deque()
        self._taken = False  # whether somebody has gone on in this pass

    async def enter(self) -> None:
        """Wait for a turn."""
        loop = asyncio.get_running_loop()
        if not self._taken:
            self._taken = True
            loop.call_soon(self._next)
            return
        turn = loop.create_future()
        self._line.append(turn)
        await turn

    def _next(self) -> None:
        """Let the next one go on, in the pass after this one."""
        while self._line:
            turn = self._line.popleft()
            if not turn.done():  # given up meanwhile
                turn.set_result(None)
                asyncio.get_running_loop().call_soon(self._next)
                return
        self._taken = False

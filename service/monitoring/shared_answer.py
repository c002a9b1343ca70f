"""Makes an expensive answer once for all requests that wait for it, and pauses in between."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

REST = 4.0  # pause, relative to the time of making the answers: so they take at most a fifth of the time
LOOK_SECONDS = 0.002  # between two checks whether one is being made

Name = TypeVar("Name", bound=Hashable)


class SharedAnswer(Generic[Name]):
    """An answer for each name, made on request.

    It is always made after the request, so that it counts everything that the client did before. Requests within
    `REST` of the last answer wait together for the next.
    """

    def __init__(
        self,
        make: Callable[[Name], Awaitable[bytes]],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._make = make
        self._clock, self._sleep = clock, sleep
        self._rested = 0.0  # when the next answer may be made
        self._making = False
        self._waiting: dict[Name, asyncio.Future[bytes]] = {}
        self._task: asyncio.Task[None] | None = None  # makes the answers that are waited for

    async def get(self, name: Name) -> bytes:
        """The answer. Raises what `make` raises."""
        if not self._making and self._task is None and self._clock() >= self._rested:
            return await self._made(name)
        answer = self._waiting.get(name)
        if answer is None:
            answer = self._waiting[name] = asyncio.get_running_loop().create_future()
            answer.add_done_callback(_seen)
        if self._task is None:
            self._task = asyncio.create_task(self._make_waiting())
        return await asyncio.shield(answer)

    async def _made(self, name: Name) -> bytes:
        began, self._making = self._clock(), True
        try:
            return await self._make(name)
        finally:
            self._making = False
            self._rested = self._clock() + REST * (self._clock() - began)

    async def _make_waiting(self) -> None:
        try:
            while self._waiting:
                while (left := self._rested - self._clock()) > 0 or self._making:
                    await self._sleep(max(left, LOOK_SECONDS))
                name = next(iter(self._waiting))
                answer = self._waiting.pop(name)
                try:
                    answer.set_result(await self._made(name))
                except Exception as error:
                    answer.set_exception(error)
        finally:
            self._task = None


def _seen(answer: asyncio.Future[bytes]) -> None:
    """Ignore an error for which nobody waits any more."""
    if not answer.cancelled():
        answer.exception()

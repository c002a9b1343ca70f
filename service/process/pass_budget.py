"""Shares the event loop's passes with what takes long: so much in each, and half of the time for everything else."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

Parts = Callable[[float], bool]
"""Does some of its work for a number of seconds; returns whether there is more."""

BURST_SECONDS = 0.05  # for which a queue is worked off without pauses

_Work = Callable[[float], tuple[float, bool]]


class PassBudget:
    """Lets work be done at once while there is room in this pass of the event loop; what is left of it queues.

    room: in a pass, for those who come, and again for those in the queue: seconds for `take`, any unit for `enter`.
    rest: how long a queue that lasts pauses after each of its passes, as a share of what that took. So threads that
    generate on the same core, and requests that take no long, find the time they need however much waits here.
    """

    def __init__(self, room: float, clock: Callable[[], float] = time.perf_counter, rest: float = 1.0) -> None:
        self._room = room
        self._clock = clock
        self._rest = rest
        self._spent = 0.0  # by those who came in this pass
        self._passing = False  # whether the end of this pass is asked for
        self._queue: deque[_Work] = deque()
        self._draining = False  # whether a pass for the queue is asked for
        self._began = self._queued = 0.0  # the last pass for the queue; since when it has not been empty

    def take(self, parts: Parts) -> None:
        """Have some work done, now or in later passes, as long as it says that there is more."""

        def work(room: float) -> tuple[float, bool]:
            began = self._clock()
            more = parts(room)
            return self._clock() - began, more

        self._offer(work)

    async def enter(self, size: float) -> None:
        """Wait for a turn to do something of a size; one larger than the room has its turn, too."""
        turn = asyncio.get_running_loop().create_future()

        def work(_: float) -> tuple[float, bool]:
            if turn.done():  # given up meanwhile
                return 0, False
            turn.set_result(None)
            return size, False

        self._offer(work)
        await turn

    def _offer(self, work: _Work) -> None:
        if self._spent < self._room:
            spent, more = work(self._room - self._spent)
            self._spent += spent
            if more:
                self._queue.append(work)
        else:
            self._queue.append(work)
        loop = asyncio.get_running_loop()
        if not self._passing:  # asked for after the work, so that what that has begun is done before
            self._passing = True
            loop.call_soon(self._pass)
        if self._queue and not self._draining:
            self._draining = True
            self._queued = self._clock()
            loop.call_soon(self._drain)

    def _pass(self) -> None:
        """Another pass begins."""
        self._passing = False
        self._spent = 0.0

    def _drain(self) -> None:
        """Let those who come next in the queue do their work."""
        self._began = self._clock()
        spent, waiting = 0.0, len(self._queue)
        while waiting and spent < self._room:
            waiting -= 1
            work = self._queue.popleft()
            more_spent, more = work(self._room - spent)
            spent += more_spent
            if more:
                self._queue.append(work)
        asyncio.get_running_loop().call_soon(self._paused)  # once those whose turn it is have done what they wanted

    def _paused(self) -> None:
        """Pause, where the queue is not empty."""
        self._draining = bool(self._queue)
        loop, now = asyncio.get_running_loop(), self._clock()
        if not self._draining:
            return
        if self._rest and now - self._queued > BURST_SECONDS:
            loop.call_later((now - self._began) * self._rest, self._drain)
        else:
            loop.call_soon(self._drain)

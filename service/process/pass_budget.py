"""Shares the event loop's passes with what takes long: so much in each, and half of the time for everything else."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from functools import partial

Parts = Callable[[float], bool]
"""Does some of its work for a number of seconds; returns whether there is more."""

BURST_SECONDS = 0.05

OnLeaving = Callable[[Callable[[], None]], None]
"""Has something called once, where the one that waits leaves."""

_Work = Callable[[float], tuple[float, bool]]


def settle(turn: asyncio.Future[bool], begins: bool) -> None:
    """Tell one that waits whether its turn has come, unless it has been told."""
    if not turn.done():
        turn.set_result(begins)


class PassBudget:
    """Lets work be done at once while there is room in this pass of the event loop; what is left of it queues.

    room: in a pass, for those who come, and again for those in the queue: seconds for `take`, any unit for `enter`.
    rest: how long a queue that lasts pauses after each of its passes, as a share of what that took. So threads that
    generate on the same core, and requests that take no long, find the time they need however much waits here.
    burst: seconds for which a queue is worked off without pauses.
    longest: of a pass, in seconds. After a longer one there is half the room, but for one of size 1 at least, and after
    a shorter one room for one more.
    """

    def __init__(
        self,
        room: float,
        clock: Callable[[], float] = time.perf_counter,
        rest: float = 1.0,
        longest: float | None = None,
        burst: float = BURST_SECONDS,
    ) -> None:
        self._room = self._most = room
        self._longest = longest
        self._opened = 0.0  # when the first of this pass came, where passes have a longest time
        self._clock = clock
        self._rest = rest
        self._burst = burst
        self._spent = 0.0  # by those who came in this pass
        self._loop: asyncio.AbstractEventLoop | None = None
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

    async def enter(self, size: float, on_leaving: OnLeaving | None = None) -> bool:
        """Wait for a turn to do something of a size; one larger than the room has its turn, too.

        on_leaving: calls what it is given where the one that waits has left. Returns whether it is still there: one
        that has left waits no longer and takes no room, and what waits with it can be let go of at once.
        """
        if self._spent < self._room:
            self._spent += size
            self._end_pass_later()
            return True
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def work(_: float) -> tuple[float, bool]:
            if turn.done():  # given up meanwhile
                return 0, False
            turn.set_result(True)
            return size, False

        self._offer(work)
        if on_leaving is not None and not turn.done():
            on_leaving(partial(settle, turn, False))
        return await turn

    def do(self, size: float, call: Callable[[], None]) -> None:
        """Make a call of a size, now or in a later pass."""

        def work(_: float) -> tuple[float, bool]:
            call()
            return size, False

        self._offer(work)

    def _offer(self, work: _Work) -> None:
        if self._spent < self._room:
            spent, more = work(self._room - self._spent)
            self._spent += spent
            if more:
                self._queue.append(work)
        else:
            self._queue.append(work)
        self._end_pass_later()
        if self._queue and not self._draining:
            self._draining = True
            self._queued = self._clock()
            asyncio.get_running_loop().call_soon(self._drain)

    def _end_pass_later(self) -> None:
        """Asked for after what is done at once, so that what that has begun is done before."""
        if not self._passing:
            self._passing = True
            if self._longest is not None:
                self._opened = self._clock()
            self._loop = self._loop or asyncio.get_running_loop()  # asking for it is a call of the system
            self._loop.call_soon(self._pass)

    def _pass(self) -> None:
        """Another pass begins."""
        self._passing = False
        self._spent = 0.0
        if self._longest is not None:
            self._fit(self._clock() - self._opened, self._longest)

    def _fit(self, seconds: float, longest: float) -> None:
        """Have less room after a pass that took longer, and more after a shorter one."""
        self._room = max(1.0, self._room / 2) if seconds > longest else min(self._most, self._room + 1)

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
        if self._longest is not None:
            self._fit(now - self._began, self._longest)
        if not self._draining:
            return
        if self._rest and now - self._queued > self._burst:
            loop.call_later((now - self._began) * self._rest, self._drain)
        else:
            loop.call_soon(self._drain)

"""Limits long work in each pass of the event loop, and leaves half of the time for everything else."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from functools import partial

Parts = Callable[[float], bool]
"""Works for a number of seconds; returns whether there is more to do."""

BURST_SECONDS = 0.05

OnLeaving = Callable[[Callable[[], None]], None]
"""Registers a call for when the waiting client disconnects; it is made at most once."""

_Work = Callable[[float], tuple[float, bool]]


def settle(turn: asyncio.Future[bool], begins: bool) -> None:
    """Tell a waiting request whether its turn has come, unless it has been told."""
    if not turn.done():
        turn.set_result(begins)


class PassBudget:
    """Does work at once while there is room in this pass of the event loop; the rest is queued.

    room: per pass, for new work, and again for queued work: seconds for `take`, any unit for `enter`.
    rest: how long the queue pauses after each of its passes, as a share of the time of that pass. So generating
    threads on the same core and short requests get time, however much waits here.
    burst: seconds for which a queue is processed without pauses.
    longest: the intended length of a pass in seconds. After a longer pass the room is halved, but not below 1, and
    after a shorter pass it grows by 1.
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
        self._opened = 0.0  # when this pass began, if `longest` is given
        self._clock = clock
        self._rest = rest
        self._burst = burst
        self._spent = 0.0  # room that new work has used in this pass
        self._loop: asyncio.AbstractEventLoop | None = None
        self._passing = False  # whether the end of this pass is scheduled
        self._queue: deque[_Work] = deque()
        self._draining = False  # whether a pass for the queue is scheduled
        self._began = self._queued = 0.0  # start of the queue's last pass; since when it is not empty

    def take(self, parts: Parts) -> None:
        """Do some work, now or in later passes, until it says that there is no more."""

        def work(room: float) -> tuple[float, bool]:
            began = self._clock()
            more = parts(room)
            return self._clock() - began, more

        self._offer(work)

    async def enter(self, size: float, on_leaving: OnLeaving | None = None) -> bool:
        """Wait for a turn to do something of a size; a size larger than the room gets its turn, too.

        on_leaving: registers a call for when the waiting client disconnects. Returns whether the client is still
        there: one that has disconnected stops waiting and takes no room, and everything that waits with it can be
        freed.
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
        """Make a call that counts as `size`, now or in a later pass."""

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
        """Schedule the end of the pass; called after immediate work, so that what it has scheduled runs before."""
        if not self._passing:
            self._passing = True
            if self._longest is not None:
                self._opened = self._clock()
            self._loop = self._loop or asyncio.get_running_loop()  # getting it takes a system call
            self._loop.call_soon(self._pass)

    def _pass(self) -> None:
        """Another pass begins."""
        self._passing = False
        self._spent = 0.0
        if self._longest is not None:
            self._fit(self._clock() - self._opened, self._longest)

    def _fit(self, seconds: float, longest: float) -> None:
        """Reduce the room after a long pass, and increase it after a short one."""
        self._room = max(1.0, self._room / 2) if seconds > longest else min(self._most, self._room + 1)

    def _drain(self) -> None:
        """Do the next work in the queue."""
        self._began = self._clock()
        spent, waiting = 0.0, len(self._queue)
        while waiting and spent < self._room:
            waiting -= 1
            work = self._queue.popleft()
            more_spent, more = work(self._room - spent)
            spent += more_spent
            if more:
                self._queue.append(work)
        asyncio.get_running_loop().call_soon(self._paused)  # after those that got their turn have run

    def _paused(self) -> None:
        """Pause if the queue is not empty."""
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

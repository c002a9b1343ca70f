"""Paces a caller's requests while others have texts, so that no caller takes all of the event loop's time."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Generator, Hashable
from typing import Any

from starlette.types import Message, Send

from service.process.pass_budget import OnLeaving, settle
from service.security.client_identity import network_of

SHARE = 0.2  # of a processor for the requests of each caller
SMALL_SHARE = 0.05  # the same while many texts of that caller wait for a slot: more would only wait behind them
MANY = 64  # such texts
CROWD = 64  # waiting requests; more are a crowd
BURST_SECONDS = 0.1  # of a processor that a caller may use at once
REQUEST_SECONDS = 0.0004  # of the event loop, charged for a request until its time is measured
AROUND_SECONDS = 0.0003  # of the event loop that are not measured: for its connection, its headers and its end
EXPECTED_SECONDS = 0.002  # of a processor, charged for a large body until its time is measured
LINGER_SECONDS = 1.0  # for which a caller is still paced after the last text of others
LOOK_SECONDS = 0.05  # between two checks whether others have texts
MOST_CALLERS = 4_096  # callers that are remembered; a forgotten one has its burst again

Work = Coroutine[Any, Any, None]
_Turn = asyncio.Future[bool]


class CallerPace:
    """Makes a caller's requests wait while others have texts, each by the time that its earlier requests took.

    The event loop goes before the threads that generate. So if both share a core, very many requests, or requests
    that are slow to read, to parse or to refuse, would take that core from everybody's texts, although each request
    is within its limits.

    others: whether anybody except that caller has texts. queued: how many of its own texts wait for a slot. For each
    caller one number is kept: when the time of its requests will be paid for (the generic cell rate algorithm, as for
    requests a minute).
    """

    def __init__(
        self,
        others: Callable[[Hashable], bool],
        queued: Callable[[Hashable], int] = lambda _: 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._others = others
        self._queued = queued
        self._clock = clock
        self._earned: dict[Hashable, float] = {}
        self._beside: dict[Hashable, float] = {}  # when others were last seen to have texts
        self._held = 0  # requests that wait for their turn
        self._places: Counter[str] = Counter()  # waiting requests of each network
        self._waiting: dict[Hashable, dict[_Turn, float]] = {}  # when each begins, in order of arrival
        self._timer: asyncio.TimerHandle | None = None

    def crowded(self, network: str | None) -> bool:
        """Whether a crowd of requests waits, some of them from this network; with None, whether there is a crowd."""
        return self._held > CROWD and (network is None or network in self._places)

    async def turn(self, caller: Hashable, seconds: float, on_leaving: OnLeaving, place: str = "") -> bool:
        """Wait until a request that takes `seconds` has its turn; returns whether its client is still there.

        place: the address that it comes from.
        """
        if not self._beside_others(caller):
            return True
        return await self._enter(caller, seconds, on_leaving, place)

    async def run(self, work: Work, caller: Hashable, aside: float, on_leaving: OnLeaving) -> None:
        """Do the work of a request once it is its turn; nothing if its client disconnects before.

        aside: seconds of the event loop that the request takes in addition to the measured time of `work`.
        """
        if not self._beside_others(caller):
            await work
            return
        try:
            begins = await self._enter(caller, EXPECTED_SECONDS, on_leaving)
        except BaseException:
            work.close()
            raise
        if not begins:
            work.close()
            self._charge(caller, aside - EXPECTED_SECONDS)
            return
        timed = _Timed(work)
        try:
            await timed
        finally:
            self._charge(caller, timed.seconds + aside - EXPECTED_SECONDS)

    async def begin(self, work: Callable[[Send], Work], caller: Hashable, send: Send) -> None:
        """Do the work of a request that has had its turn.

        What it takes until its answer begins is charged with `AROUND_SECONDS`, where it is more than `REQUEST_SECONDS`;
        pieces of a stream are paced apart, by the engine.
        """
        if caller not in self._earned:
            await work(send)
            return

        async def first(message: Message) -> None:
            if not timed.over:
                timed.over = True
                self._charge(caller, max(0.0, timed.so_far() + AROUND_SECONDS - REQUEST_SECONDS))
            await send(message)

        timed = _Timed(work(first))
        await timed

    def _beside_others(self, caller: Hashable) -> bool:
        """Whether others have texts, or had some a moment ago, as a client may send its next request after a text."""
        if self._others(caller):
            self._beside[caller] = self._clock()
            return True
        at = self._beside.get(caller)
        if at is None:
            return False
        if self._clock() < at + LINGER_SECONDS:
            return True
        del self._beside[caller]
        self._earned.pop(caller, None)
        return False

    def _charge(self, caller: Hashable, seconds: float) -> None:
        if caller in self._earned:
            self._earned[caller] += seconds / self._share(caller)

    def _share(self, caller: Hashable) -> float:
        return SHARE if self._queued(caller) < MANY else SMALL_SHARE

    async def _enter(self, caller: Hashable, seconds: float, on_leaving: OnLeaving, place: str = "") -> bool:
        """Wait until the time of the caller's earlier requests is paid for; returns whether its client is still
        there."""
        now = self._clock()
        begins = max(now, self._earned.get(caller, 0.0))
        self._earned[caller] = begins + seconds / self._share(caller)
        if len(self._earned) > MOST_CALLERS:
            self._earned = {one: at for one, at in self._earned.items() if at > now}
            self._beside = {one: at for one, at in self._beside.items() if one in self._earned}
        begins -= BURST_SECONDS / SHARE
        if begins <= now:
            return True
        turn: _Turn = asyncio.get_running_loop().create_future()
        queue = self._waiting.setdefault(caller, {})
        queue[turn] = begins
        on_leaving(lambda: settle(turn, False))
        self._look_later()
        network = network_of(place)
        self._places[network] += 1
        self._held += 1
        try:
            return await turn
        finally:
            self._held -= 1
            self._places[network] -= 1
            if not self._places[network]:
                del self._places[network]
            queue.pop(turn, None)

    def _look_later(self) -> None:
        if self._timer is None and self._waiting:
            first = min(next(iter(queue.values()), 0.0) for queue in self._waiting.values())
            seconds = min(max(0.0, first - self._clock()), LOOK_SECONDS)
            self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        """Let requests continue whose time has come, and all requests of a caller that is alone."""
        self._timer = None
        now = self._clock()
        for caller, queue in list(self._waiting.items()):
            alone = bool(queue) and not self._beside_others(caller)
            while queue and (alone or next(iter(queue.values())) <= now):
                turn = next(iter(queue))
                del queue[turn]
                settle(turn, True)
            if not queue:
                del self._waiting[caller]
        self._look_later()


class _Timed:
    """Awaits some work and measures the seconds of this thread that its steps take."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._began = 0.0
        self.seconds = 0.0
        self.over = False
        """Whether measuring has ended."""

    def so_far(self) -> float:
        """The seconds so far, including the current step."""
        return self.seconds + time.thread_time() - self._began

    def __await__(self) -> Generator[Any, Any, None]:
        send, given = self._work.send, None
        while True:
            if not self.over:
                self._began = time.thread_time()
            try:
                waits = send(given)
            except StopIteration:
                return
            finally:
                given = None  # else an error's traceback would keep it until garbage collection
                if not self.over:
                    self.seconds += time.thread_time() - self._began
            try:
                send, given = self._work.send, (yield waits)
            except BaseException as error:  # is passed on
                send, given = self._work.throw, error

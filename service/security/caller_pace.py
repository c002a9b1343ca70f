"""Paces the requests of one caller while texts of others are written: the event loop's time is not one caller's."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Generator, Hashable
from typing import Any

from starlette.types import Message, Send

from service.process.pass_budget import OnLeaving, settle
from service.security.client_identity import network_of

SHARE = 0.2  # of a processor that what is charged to each caller may take
SMALL_SHARE = 0.05  # of it, while many texts of that caller wait for a slot: more would only wait behind them
MANY = 64  # such texts
CROWD = 64  # requests that wait for their turn
BURST_SECONDS = 0.1  # of a processor that it may take at once
REQUEST_SECONDS = 0.0004  # of the event loop that are charged for a request, until more is known
AROUND_SECONDS = 0.0003  # of them beside what is measured: for its connection, its headers and its end
EXPECTED_SECONDS = 0.002  # of a processor that a large body takes, until it is known
LINGER_SECONDS = 1.0  # after the last text of others in which a caller is paced all the same
LOOK_SECONDS = 0.05  # between two looks at whether there are others
MOST_CALLERS = 4_096  # that are remembered; one that is forgotten has its burst again

Work = Coroutine[Any, Any, None]
_Turn = asyncio.Future[bool]


class CallerPace:
    """Lets the requests of one caller wait for each other while others have texts, each by what those before took.

    The event loop goes before the threads that generate. So requests that are slow to read, to parse or to refuse, or
    very many, would take a core that both share from everybody's texts, though each of them is within its limits.

    others: whether anybody but that caller has texts. queued: how many of its own wait for a slot. Of a caller it is
    remembered when what its requests took will be earned (the generic cell rate algorithm, as for requests a minute).
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
        self._places: Counter[str] = Counter()  # how many of each network
        self._waiting: dict[Hashable, dict[_Turn, float]] = {}  # when each begins; of a caller first come, first served
        self._timer: asyncio.TimerHandle | None = None

    def crowded(self, network: str | None) -> bool:
        """Whether there is a crowd of requests that wait for their turn, and some of them come from a network."""
        return self._held > CROWD and (network is None or network in self._places)

    async def turn(self, caller: Hashable, seconds: float, on_leaving: OnLeaving, place: str = "") -> bool:
        """Wait for a turn of a request that takes so many seconds; returns whether its client is still there.

        place: the address that it comes from.
        """
        if not self._beside_others(caller):
            return True
        return await self._enter(caller, seconds, on_leaving, place)

    async def run(self, work: Work, caller: Hashable, aside: float, on_leaving: OnLeaving) -> None:
        """Do what a request needs, once it is its turn; nothing, where its client leaves before.

        aside: seconds that the request takes of the event loop beside what `work` is seen to take.
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
        """Do what a request needs that has had its turn.

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
        """Whether others have texts, or had some a moment ago: who asks again as a text ends is there in between."""
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
        """Wait until what the caller's requests before took is earned; returns whether its client is still there."""
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
        """Let those go on whose time has come, and all of a caller who is alone."""
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
    """Awaits some work and adds up the seconds of this thread that its steps take."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._began = 0.0
        self.seconds = 0.0
        self.over = False
        """Whether no more is added up."""

    def so_far(self) -> float:
        """The seconds with those of the step that is being done."""
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
                given = None  # an error whose trace leads here would wait for the garbage collector with all it held
                if not self.over:
                    self.seconds += time.thread_time() - self._began
            try:
                send, given = self._work.send, (yield waits)
            except BaseException as error:  # which is given on
                send, given = self._work.throw, error

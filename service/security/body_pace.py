"""Paces the large bodies of one caller while texts of others are written: the event loop's time is not one caller's."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Generator, Hashable
from typing import Any

SMALL = 8_192  # bytes of a body that is never paced: it takes less than a short text does
SHARE = 0.2  # of a processor that each caller's large bodies may take
BURST_SECONDS = 0.1  # of a processor that they may take at once
EXPECTED_SECONDS = 0.002  # of a processor that one takes, until it is known
BYTE_SECONDS = 1e-9  # of a processor that a byte takes on its way in, beside what is measured
LOOK_SECONDS = 0.05  # between two looks at whether there are others
MOST_CALLERS = 4_096  # that are remembered; one that is forgotten has its burst again

Work = Coroutine[Any, Any, None]


class BodyPace:
    """Lets large bodies of one caller wait for each other while others have texts, each by what those before took.

    The event loop goes before the threads that generate. So bodies that are slow to read, to parse or to refuse would
    take a core that both share from everybody's texts, though each of them is within its limits.

    others: whether anybody but that caller has texts. Of a caller it is remembered when what its bodies took will be
    earned (the generic cell rate algorithm, as for requests a minute).
    """

    def __init__(self, others: Callable[[Hashable], bool], clock: Callable[[], float] = time.monotonic) -> None:
        self._others = others
        self._clock = clock
        self._earned: dict[Hashable, float] = {}

    async def run(self, work: Work, caller: Hashable, announced: int | None) -> None:
        """Do what a request with a body needs, once it is its turn. announced: its bytes, where they are known."""
        if announced is not None and announced <= SMALL:
            await work
            return
        if not self._others(caller):
            self._earned.pop(caller, None)
            await work
            return
        try:
            await self._enter(caller)
        except BaseException:
            work.close()
            raise
        timed = _Timed(work)
        try:
            await timed
        finally:
            taken = timed.seconds + (announced or 0) * BYTE_SECONDS
            if caller in self._earned:
                self._earned[caller] += (taken - EXPECTED_SECONDS) / SHARE

    async def _enter(self, caller: Hashable) -> None:
        """Wait until what the caller's bodies before took is earned."""
        now = self._clock()
        begins = max(now, self._earned.get(caller, 0.0))
        self._earned[caller] = begins + EXPECTED_SECONDS / SHARE
        if len(self._earned) > MOST_CALLERS:
            self._earned = {one: at for one, at in self._earned.items() if at > now}
        begins -= BURST_SECONDS / SHARE
        while (left := begins - self._clock()) > 0 and self._others(caller):
            await asyncio.sleep(min(left, LOOK_SECONDS))


class _Timed:
    """Awaits some work and adds up the seconds of this thread that its steps take."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self.seconds = 0.0

    def __await__(self) -> Generator[Any, Any, None]:
        send, given = self._work.send, None
        while True:
            began = time.thread_time()
            try:
                waits = send(given)
            except StopIteration:
                return
            finally:
                self.seconds += time.thread_time() - began
            try:
                send, given = self._work.send, (yield waits)
            except BaseException as error:  # which is given on
                send, given = self._work.throw, error

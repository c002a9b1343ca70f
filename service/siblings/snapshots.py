"""The counts of each process behind one port, for the process that is asked for the metrics of all."""

import asyncio
import time
from collections.abc import Callable

from service.siblings.shared_memory import SharedLock, SharedMemory

LARGEST = 1 << 20  # bytes of a snapshot; a third of it suffices for 256 models
WAIT_SECONDS = 0.5  # for the other processes, each of which checks ten times a second
POLL_SECONDS = 0.01


class Snapshots:
    """A snapshot of each process, and one of the counts of dead processes.

    They are made on request, so that they cost nothing otherwise. If a process dies, its counts since the last
    request are lost; a reported count never decreases. `own` is the number of this process.
    """

    def __init__(self, processes: int) -> None:
        self.own = 0
        self._processes = processes
        self._lock = SharedLock()
        self._asked = SharedMemory(1).words  # the number of requests to the processes
        self._answered = SharedMemory(processes).words  # the last request that each has answered
        self._lengths = SharedMemory(processes + 1).words
        self._places = [SharedMemory(LARGEST // 8).bytes for _ in range(processes + 1)]

    @property
    def wanted(self) -> bool:
        """Whether this process must make a snapshot."""
        return self._answered[self.own] < self._asked[0]

    def answer(self, make: Callable[[], bytes]) -> None:
        """Make a snapshot of this process."""
        asked = self._asked[0]
        self._put(self.own, make())
        self._answered[self.own] = asked

    async def of_others(self, serving: Callable[[int], bool]) -> list[bytes]:
        """New snapshots of the other processes that serve, and one of the counts of dead processes."""
        with self._lock:
            self._asked[0] += 1
            asked = self._asked[0]
        others = [process for process in range(self._processes) if process != self.own]
        until = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < until and any(self._answered[one] < asked and serving(one) for one in others):
            await asyncio.sleep(POLL_SECONDS)
        return [found for one in (*others, self._processes) if (found := self._get(one))]

    def bury(self, process: int, add: Callable[[bytes, bytes], bytes]) -> None:
        """Add the last snapshot of a process that has died to that of the dead. add: makes the sum of two
        snapshots."""
        if told := self._get(process):
            self._put(self._processes, add(self._get(self._processes), told))
            self._put(process, b"")

    def _put(self, place: int, snapshot: bytes) -> None:
        if len(snapshot) <= LARGEST:
            with self._lock:
                self._places[place][: len(snapshot)] = snapshot
                self._lengths[place] = len(snapshot)

    def _get(self, place: int) -> bytes:
        with self._lock:
            return bytes(self._places[place][: self._lengths[place]])

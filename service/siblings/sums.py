"""Sums by name: of one process, or of all processes behind one port."""

import hashlib
import secrets
import struct
from collections import Counter
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Protocol

import numpy as np

from service.siblings.shared_memory import SharedLock, SharedMemory

REMEMBERED = 1_024  # names whose place is known without hashing them
WAYS = 8  # entries among which a name may have its own
STAMP, COUNTS = 2, 3  # words of an entry: two of its name, its stamp, and a count of each process


class Sums(Protocol):
    """What is counted of each name, and of all names together.

    lock: to be held where a sum is looked at and then added to.
    """

    @property
    def lock(self) -> AbstractContextManager[None]: ...

    @property
    def whole(self) -> int:
        """What is counted of all names."""

    def of(self, name: Hashable) -> int:
        """What is counted of a name."""

    def add(self, name: Hashable, number: int) -> None:
        """Count more of a name, or with a negative number less."""


class OwnSums:
    """The sums of a process that serves alone."""

    def __init__(self) -> None:
        self.lock: AbstractContextManager[None] = nullcontext()
        self.whole = 0
        self._counts: Counter[Hashable] = Counter()

    def of(self, name: Hashable) -> int:
        """What is counted of a name."""
        return self._counts.get(name, 0)  # which, unlike [name], makes no entry

    def add(self, name: Hashable, number: int) -> None:
        """Count more of a name; one of which nothing is left is forgotten."""
        self.whole += number
        left = self._counts[name] + number
        if left:
            self._counts[name] = left
        else:
            del self._counts[name]


class SharedSums:
    """The sums of all processes behind one port, in a table that they share.

    entries: names of which something may be counted at once. processes: how many there are; `own` is the number of this
    one, set where it is forked. clock: seconds that never go back, the same in all processes.

    An entry has a count of each process, which that process alone writes, so that what a process counted can be taken
    off when it dies. It also has a stamp, of which a time may be made that is due. An entry without counts whose stamp
    is past is free. A name has its entry among few that a secret picks, so that no client can choose names that share
    one; where all of these are taken, it is counted in `whole` alone.
    """

    def __init__(self, entries: int, processes: int, clock: Callable[[], float]) -> None:
        self.lock = SharedLock()
        self.own = 0
        self._processes = processes
        self._width = COUNTS + processes
        self._buckets = max(1, -(-entries // WAYS))
        self._first = processes  # where the entries begin, after the counts of all names
        self._memory = SharedMemory(processes + self._buckets * WAYS * self._width)
        self._words, self._numbers = self._memory.words, self._memory.numbers
        self._secret = secrets.token_bytes(16)
        self._key = lru_cache(REMEMBERED)(self._hashed)
        self._clock = clock

    @property
    def whole(self) -> int:
        """What all processes have counted of all names."""
        return sum(self._words[: self._processes])

    @property
    def mine(self) -> int:
        """What this process has counted of all names."""
        return self._words[self.own]

    def of(self, name: Hashable) -> int:
        """What all processes have counted of a name."""
        at = self._find(*self._key(name))
        return 0 if at < 0 else self._sum(at)

    def add(self, name: Hashable, number: int) -> None:
        """Count more of a name."""
        self._words[self.own] += number
        key = self._key(name)
        at = self._find(*key)
        if at < 0 and number > 0:
            at = self._take(*key)
        if at >= 0:
            own = at + COUNTS + self.own
            self._words[own] = max(0, self._words[own] + number)

    def stamp(self, name: Hashable) -> float:
        """The stamp of a name; 0 where it has none."""
        at = self._find(*self._key(name))
        return 0.0 if at < 0 else self._numbers[at + STAMP]

    def set_stamp(self, name: Hashable, stamp: float) -> None:
        """Give a name a stamp."""
        key = self._key(name)
        at = self._find(*key)
        if at < 0:
            at = self._take(*key)
        if at >= 0:
            self._numbers[at + STAMP] = stamp

    def forget(self, process: int) -> None:
        """Take off what a process has counted, which is dead."""
        with self.lock:
            self._words[process] = 0
            table = np.frombuffer(self._memory.bytes, np.int64)[self._first :].reshape(-1, self._width)
            table[:, COUNTS + process] = 0

    def _hashed(self, name: Hashable) -> tuple[int, int]:
        text = name if isinstance(name, bytes) else b"=" + str(name).encode("utf-8", "surrogatepass")
        first, second = struct.unpack("=qq", hashlib.blake2b(text, digest_size=16, key=self._secret).digest())
        return first | 1, second  # never the name of an entry that was never taken

    def _ways(self, first: int) -> range:
        begin = self._first + (first >> 1) % self._buckets * WAYS * self._width
        return range(begin, begin + WAYS * self._width, self._width)

    def _find(self, first: int, second: int) -> int:
        words = self._words
        for at in self._ways(first):
            if words[at] == first and words[at + 1] == second:
                return at
        return -1

    def _take(self, first: int, second: int) -> int:
        """Make an entry in the place of one without counts: one whose stamp is past, or else the one due first."""
        free = [at for at in self._ways(first) if not self._sum(at)]
        if not free:
            return -1
        now = self._clock()
        at = min(free, key=lambda one: max(now, self._numbers[one + STAMP]))
        self._numbers[at + STAMP] = 0.0
        self._words[at], self._words[at + 1] = first, second
        return at

    def _sum(self, at: int) -> int:
        return sum(self._words[at + COUNTS : at + self._width])

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

REMEMBERED = 1_024  # names whose place is found without hashing
WAYS = 8  # possible entries of a name
STAMP, COUNTS = 2, 3  # words of an entry: two of its name, its stamp, and a count of each process


class Sums(Protocol):
    """A count for each name, and for all names together.

    lock: to hold while a sum is read and then increased.
    """

    @property
    def lock(self) -> AbstractContextManager[None]: ...

    @property
    def whole(self) -> int:
        """The sum over all names."""

    def of(self, name: Hashable) -> int:
        """The count of a name."""

    def add(self, name: Hashable, number: int) -> None:
        """Add to the count of a name; the number may be negative."""


class OwnSums:
    """The sums of a process that serves alone."""

    def __init__(self) -> None:
        self.lock: AbstractContextManager[None] = nullcontext()
        self.whole = 0
        self._counts: Counter[Hashable] = Counter()

    def of(self, name: Hashable) -> int:
        """The count of a name."""
        return self._counts.get(name, 0)  # unlike [name], this makes no entry

    def add(self, name: Hashable, number: int) -> None:
        """Add to the count of a name; a name with a count of zero is removed."""
        self.whole += number
        left = self._counts[name] + number
        if left:
            self._counts[name] = left
        else:
            del self._counts[name]


class SharedSums:
    """The sums of all processes behind one port, in a table that they share.

    entries: the number of names that may have counts at the same time. processes: the number of processes; `own` is
    the number of this one, set after the fork. clock: seconds that never decrease, the same in all processes.

    An entry has one count for each process, and only that process writes it, so that it can be subtracted when the
    process dies. It also has a stamp, which may be a time in the future. An entry without counts and with a past
    stamp is free. A secret picks the few possible entries of a name, so that no client can choose names that share
    one; if all of these are taken, the name is counted only in `whole`.
    """

    def __init__(self, entries: int, processes: int, clock: Callable[[], float]) -> None:
        self.lock = SharedLock()
        self.own = 0
        self._processes = processes
        self._width = COUNTS + processes
        self._buckets = max(1, -(-entries // WAYS))
        self._first = processes  # the start of the entries, after the counts of all names
        self._memory = SharedMemory(processes + self._buckets * WAYS * self._width)
        self._words, self._numbers = self._memory.words, self._memory.numbers
        self._secret = secrets.token_bytes(16)
        self._key = lru_cache(REMEMBERED)(self._hashed)
        self._clock = clock

    @property
    def whole(self) -> int:
        """The count of all names in all processes."""
        return sum(self._words[: self._processes])

    @property
    def mine(self) -> int:
        """The count of all names in this process."""
        return self._words[self.own]

    def of(self, name: Hashable) -> int:
        """The count of a name in all processes."""
        at = self._find(*self._key(name))
        return 0 if at < 0 else self._sum(at)

    def add(self, name: Hashable, number: int) -> None:
        """Add to the count of a name."""
        self._words[self.own] += number
        key = self._key(name)
        at = self._find(*key)
        if at < 0 and number > 0:
            at = self._take(*key)
        if at >= 0:
            own = at + COUNTS + self.own
            self._words[own] = max(0, self._words[own] + number)

    def stamp(self, name: Hashable) -> float:
        """The stamp of a name; 0 if it has none."""
        at = self._find(*self._key(name))
        return 0.0 if at < 0 else self._numbers[at + STAMP]

    def set_stamp(self, name: Hashable, stamp: float) -> None:
        """Set the stamp of a name."""
        key = self._key(name)
        at = self._find(*key)
        if at < 0:
            at = self._take(*key)
        if at >= 0:
            self._numbers[at + STAMP] = stamp

    def forget(self, process: int) -> None:
        """Subtract the counts of a process that has died."""
        with self.lock:
            self._words[process] = 0
            table = np.frombuffer(self._memory.bytes, np.int64)[self._first :].reshape(-1, self._width)
            table[:, COUNTS + process] = 0

    def _hashed(self, name: Hashable) -> tuple[int, int]:
        text = name if isinstance(name, bytes) else b"=" + str(name).encode("utf-8", "surrogatepass")
        first, second = struct.unpack("=qq", hashlib.blake2b(text, digest_size=16, key=self._secret).digest())
        return first | 1, second  # never equal to the name of an unused entry

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
        """Make an entry in place of one without counts: one with a past stamp, or else the one with the earliest
        stamp."""
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

"""The ledger of bytes for the whole server: the memory of requests is charged before it is allocated."""

import threading
from collections.abc import Hashable
from types import TracebackType

from service.errors import MemorySpent, TooCostly
from service.process.memory import Headroom
from service.siblings.sums import OwnSums, Sums

UNKNOWN = "unknown"  # the holder of bytes that belong to no caller


class Ledger:
    """Charges bytes against one budget.

    budget: bytes that all leases may have together.
    headroom: bytes that the machine can still give; nothing is charged beyond them. None = no check.
    sums: the charged bytes, if they are shared with other processes.

    A holder (a key, or an address) may have at most as much as it leaves free for others (dynamic thresholds:
    Choudhury and Hahne, 1998, with a factor of 1). So one greedy holder stops at half of the budget, n of them leave
    1 / (n + 1) free, and a new holder with a small request always finds room. Any thread may call the methods.
    """

    def __init__(self, budget: int, headroom: Headroom | None = None, sums: Sums | None = None) -> None:
        self.budget = budget
        self.refused = 0
        """Charges that were refused."""
        self.most = 0
        """The most bytes that were ever charged at once."""
        self._headroom = headroom
        self._sums = sums or OwnSums()
        self._lock = threading.Lock()

    @property
    def held(self) -> int:
        """Bytes that are currently charged."""
        return self._sums.whole

    @property
    def exhausted(self) -> bool:
        """Whether the machine has no memory left even for the smallest request."""
        return self._headroom is not None and self._headroom.left <= 0

    @property
    def starved(self) -> bool:
        """Whether the process's own limit is used up although no request holds memory."""
        return self._headroom is not None and not self.held and self._headroom.spent

    def take(self, size: int, holder: Hashable = UNKNOWN) -> "Lease":
        """A lease of `size` bytes, which must be released.

        Raises MemorySpent if they are not free now, and TooCostly if they can never be.
        """
        if size:
            self._charge(size, holder)
        return Lease(self, size, holder)

    def _charge(self, size: int, holder: Hashable, before: int = 0) -> None:
        """Charge `size` bytes to a lease that has `before` bytes."""
        if before + size > self.budget:
            self.refused += 1
            raise TooCostly(
                f"This needs {before + size:,} bytes of memory, and all requests together may have {self.budget:,}; "
                "send less, or raise --memory-budget-bytes."
            )
        with self._lock:
            if (self._headroom is not None and size > self._headroom.left) or not self._fits(size, holder, before):
                self.refused += 1
                raise MemorySpent("The server has no memory for this now; try again in a moment, or send less.")
            if self._headroom is not None:
                self._headroom.use(size)

    def _fits(self, size: int, holder: Hashable, before: int) -> bool:
        """Charge some bytes if the holder may have them; returns whether it may."""
        with self._sums.lock:
            own, held = self._sums.of(holder), self._sums.whole
            left = self.budget - held - size
            # A single lease on an idle server may have everything.
            fits = left >= 0 and (own + size <= left or held == before)
            if fits:
                self._sums.add(holder, size)
                self.most = max(self.most, held + size)
        return fits

    def _give_back(self, size: int, holder: Hashable) -> None:
        if not size:
            return
        with self._lock, self._sums.lock:
            self._sums.add(holder, -size)


class Lease:
    """Bytes of one request, until they are released; also a context manager that releases them."""

    __slots__ = ("_holder", "_ledger", "_open", "size")

    def __init__(self, ledger: Ledger, size: int, holder: Hashable) -> None:
        self.size = size
        """Charged bytes."""
        self._ledger = ledger
        self._holder = holder
        self._open = True

    def grow(self, size: int) -> None:
        """Charge `size` bytes more. Raises as `Ledger.take` does; the lease then stays as it was."""
        if not self._open:
            raise ValueError("the lease is released")
        if size:
            self._ledger._charge(size, self._holder, self.size)
            self.size += size

    def shrink(self, size: int) -> None:
        """Return all but `size` bytes; does nothing if it has fewer."""
        if self._open and size < self.size:
            self._ledger._give_back(self.size - size, self._holder)
            self.size = size

    def release(self) -> None:
        """Return everything; a second call does nothing."""
        if self._open:
            self._open = False
            self._ledger._give_back(self.size, self._holder)
            self.size = 0

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

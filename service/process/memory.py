"""How much memory this process may use and has left: by the machine, its control group, and its own limit."""

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

from service.process import allocator
from service.process.control_group import ControlGroup

PAGE = resource.getpagesize()
LARGEST_BUDGET = 256 << 20
SHARE = 4  # by default the ledger has a quarter of the memory
LOOK_SECONDS = 0.05  # between two checks when little is left; a check takes a fifth of a millisecond
CALM_SECONDS = 1.0  # between two checks when AMPLE bytes are left, more than all requests can use in that time
RELIEF_SECONDS = 1.0  # between two attempts to return memory
AMPLE = 2 * LARGEST_BUDGET
KEPT_FREE = 16 << 20  # bytes for everything that is not charged: parsing, buffers, refusals
KEPT_SHARE = 16  # on a small machine at most a sixteenth is kept free


class Memory:
    """The part of the machine's memory that this process may use.

    proc: where the proc file system is mounted. groups: where control groups are mounted.
    """

    def __init__(self, proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> None:
        self._proc = proc
        try:
            membership = (proc / "self" / "cgroup").read_text()
        except OSError:
            membership = ""
        self._group = ControlGroup(groups, membership)

    @property
    def limit(self) -> int:
        """The most bytes this process can have, by the machine, its control group, and its own limit (ulimit -v)."""
        limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
        if (group := self._group.limit) is not None:
            limits.append(group)
        if (own := resource.getrlimit(resource.RLIMIT_AS)[0]) != resource.RLIM_INFINITY:
            limits.append(own)
        return min(limits)

    @property
    def left(self) -> int:
        """Bytes it can still get now."""
        left = [self.limit]
        if (available := self._available()) is not None:
            left.append(available)
        if (group := self._group.left) is not None:
            left.append(group)
        if (own := self.own_left) is not None:
            left.append(own)
        return min(left)

    @property
    def own_left(self) -> int | None:
        """Bytes until the process's own limit of mapped memory (ulimit -v), plus mapped bytes that are free; None
        without a limit."""
        own = resource.getrlimit(resource.RLIMIT_AS)[0]
        if own == resource.RLIM_INFINITY or (mapped := self._pages(0)) is None:
            return None
        return own - mapped * PAGE + allocator.free_bytes()

    @property
    def resident(self) -> int:
        """Bytes of this process in memory."""
        return (self._pages(1) or 0) * PAGE

    def _pages(self, column: int) -> int | None:
        try:
            return int((self._proc / "self" / "statm").read_bytes().split()[column])
        except (OSError, ValueError, IndexError):
            return None

    def _available(self) -> int | None:
        """Bytes that the machine has available."""
        try:
            with (self._proc / "meminfo").open("rb") as file:
                for line in file:
                    if line.startswith(b"MemAvailable:"):
                        return int(line.split()[1]) * 1024
        except (OSError, ValueError, IndexError):
            pass
        return None


def default_budget(memory: Memory) -> int:
    """The ledger's bytes unless a setting gives them."""
    return min(LARGEST_BUDGET, memory.limit // SHARE)


class Headroom:
    """Bytes that requests can use before the machine runs out; checked now and then.

    relieve: frees memory that can be rebuilt; called under pressure, from any thread.

    Bytes charged between two checks are subtracted, since they are about to be used.
    """

    def __init__(
        self,
        memory: Memory,
        clock: Callable[[], float] = time.monotonic,
        relieve: Callable[[], None] = allocator.trim,
    ) -> None:
        self._memory = memory
        self._clock = clock
        self._relieve = relieve
        self._relieved = -RELIEF_SECONDS
        self._keep = min(KEPT_FREE, memory.limit // KEPT_SHARE)
        self._looked = -LOOK_SECONDS
        self._left = 0

    @property
    def left(self) -> int:
        """Bytes left above those kept free; negative under pressure."""
        now = self._clock()
        if now - self._looked >= (CALM_SECONDS if self._left >= AMPLE else LOOK_SECONDS):
            self._looked = now
            self._left = self._memory.left - self._keep
            if self._left <= 0 and now - self._relieved >= RELIEF_SECONDS:
                self._relieved = now
                self._relieve()
                self._left = self._memory.left - self._keep
        return self._left

    @property
    def spent(self) -> bool:
        """Whether the process's own limit is used up, which no other process can change."""
        return self.left <= 0 and (own := self._memory.own_left) is not None and own <= self._keep

    def use(self, size: int) -> None:
        """Subtract bytes that are about to be used, until the next check sees them."""
        self._left -= size

"""Memory that forked processes share, and a lock that the system gives back where its holder dies."""

import ctypes
import mmap
import os
import tempfile
import threading
import time
from types import TracebackType

UNLOCK, TRY_LOCK = 0, 2  # of lockf(3)
TRIES = 50  # in a row before a pause: most holders are done in some microseconds
PAUSE_SECONDS = 0.0002
LONGEST_WAIT = 0.1  # seconds; a holder that was stopped (SIGSTOP) must not stop all others


class SharedMemory:
    """Numbers of 8 bytes, zero at first, which processes forked from this one share.

    words, numbers: the same memory as whole numbers and as floating-point numbers.
    """

    def __init__(self, count: int) -> None:
        self._map = mmap.mmap(-1, 8 * count)
        self.words = memoryview(self._map).cast("q")
        self.numbers = memoryview(self._map).cast("d")
        self.bytes = memoryview(self._map)


class SharedLock:
    """Held by one thread of one process at a time, for some microseconds.

    Every shared number is written by one process alone, so the lock only makes looking at a sum and adding to it one
    step. That is why a wait of more than `LONGEST_WAIT` ends without it.

    The call of the C library keeps Python's lock: a thread that generates would take it for 0.25 ms each time.
    """

    def __init__(self) -> None:
        self._descriptor = _file()
        self._threads = threading.Lock()
        self._held = False
        self._lockf = ctypes.PyDLL(None).lockf
        self._lockf.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_long)

    def __enter__(self) -> None:
        self._threads.acquire()
        self._held = not self._lockf(self._descriptor, TRY_LOCK, 0) or self._wait()

    def _wait(self) -> bool:
        until = time.monotonic() + LONGEST_WAIT
        while time.monotonic() < until:
            for _ in range(TRIES):
                if not self._lockf(self._descriptor, TRY_LOCK, 0):
                    return True
            time.sleep(PAUSE_SECONDS)
        return False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._held:
            self._lockf(self._descriptor, UNLOCK, 0)
        self._threads.release()


def _file() -> int:
    """A file without a name, whose locks belong to processes (fcntl(2)), not to who has it open."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("unroll-lock")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())

"""Memory that forked processes share, and a lock that the system releases if its holder dies."""

import ctypes
import mmap
import os
import tempfile
import threading
import time
from types import TracebackType

UNLOCK, TRY_LOCK = 0, 2  # of lockf(3)
TRIES = 50  # in a row before a pause: most holders need only some microseconds
PAUSE_SECONDS = 0.0002
LONGEST_WAIT = 0.1  # seconds; a holder that was stopped (SIGSTOP) must not stop all others


class SharedMemory:
    """Numbers of 8 bytes, zero at first, shared with the processes that are forked from this one.

    words, numbers: the same memory as integers and as floating-point numbers.
    """

    def __init__(self, count: int) -> None:
        self._map = mmap.mmap(-1, 8 * count)
        self.words = memoryview(self._map).cast("q")
        self.numbers = memoryview(self._map).cast("d")
        self.bytes = memoryview(self._map)


class SharedLock:
    """A lock that one thread of one process holds at a time, for some microseconds.

    Only one process writes each shared number, so the lock only makes one step of reading a sum and adding to it.
    Therefore a wait of more than `LONGEST_WAIT` ends without the lock.

    The call of the C library does not release the GIL: otherwise a generating thread would take it for 0.25 ms each
    time.
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
    """A file without a name; its locks belong to processes (fcntl(2)), not to open file descriptions."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("unroll-lock")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())

"""Hands calls over to the event loop from another thread, which keeps Python's lock while it does."""

import asyncio
import ctypes
import os
from collections import deque
from collections.abc import Callable
from typing import Any

MOST_RINGS = 64  # that are read at once


class Bell:
    """Has a call made in the event loop's thread for each time that another thread rings, in order.

    `loop.call_soon_threadsafe` writes to a socket without Python's lock, so that the thread has to wait for the lock
    while the loop works, a switch interval each time; this writes with it, and once for all rings before it is heard.
    """

    def __init__(self, call: Callable[..., None]) -> None:
        self._call = call
        self._rings: deque[tuple[Any, ...]] = deque()
        self._rung = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ears = self._mouth = -1
        self._write = None if os.name != "posix" else ctypes.PyDLL(None).write

    def hang(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let rings be heard in a loop, from its own thread."""
        self._loop = loop
        if self._write is not None:
            self._ears, self._mouth = os.pipe()
            os.set_blocking(self._ears, False)
            os.set_blocking(self._mouth, False)
            loop.add_reader(self._ears, self._wake)

    def take_down(self) -> None:
        """Let no ring be heard any more, from the loop's thread; the threads that ring have ended, or hang."""
        if self._loop is not None and self._ears >= 0:
            self._loop.remove_reader(self._ears)
            ears, mouth, self._ears, self._mouth = self._ears, self._mouth, -1, -1
            os.close(ears)
            os.close(mouth)
        self._loop = None

    def ring(self, *arguments: Any) -> None:
        """Have the call made with some arguments; from any thread."""
        self._rings.append(arguments)
        if self._rung:
            return
        self._rung = True
        if self._write is not None:
            self._write(self._mouth, b"!", 1)
        elif self._loop is not None:
            self._loop.call_soon_threadsafe(self.hear)

    def hear(self) -> None:
        """Make the calls that wait; in the loop's thread."""
        self._rung = False  # before the calls: who rings after them wakes the loop again
        try:
            while self._rings:
                self._call(*self._rings.popleft())
        finally:
            if self._rings and self._loop is not None:  # one raised an exception; the others are made
                self._loop.call_soon(self.hear)

    def _wake(self) -> None:
        os.read(self._ears, MOST_RINGS)
        self.hear()

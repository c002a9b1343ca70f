"""Passes calls to the event loop from another thread, which keeps Python's lock (GIL) meanwhile."""

import asyncio
import ctypes
import os
from collections import deque
from collections.abc import Callable
from typing import Any

MOST_RINGS = 64  # rings that are read at once


class Bell:
    """Makes a call in the event loop's thread for each ring from another thread, in order.

    `loop.call_soon_threadsafe` releases Python's lock while it writes to a socket, and then the thread must wait for
    the lock while the loop works, each time for a switch interval. This keeps the lock, and writes once for all rings
    until the loop wakes.
    """

    def __init__(self, call: Callable[..., None]) -> None:
        self._call = call
        self._rings: deque[tuple[Any, ...]] = deque()
        self._rung = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ears = self._mouth = -1
        self._write = None if os.name != "posix" else ctypes.PyDLL(None).write

    def hang(self, loop: asyncio.AbstractEventLoop) -> None:
        """Listen for rings in a loop; call it from the loop's thread."""
        self._loop = loop
        if self._write is not None:
            self._ears, self._mouth = os.pipe()
            os.set_blocking(self._ears, False)
            os.set_blocking(self._mouth, False)
            loop.add_reader(self._ears, self._wake)

    def take_down(self) -> None:
        """Stop listening; call it from the loop's thread, when the threads that ring have ended or hang."""
        if self._loop is not None and self._ears >= 0:
            self._loop.remove_reader(self._ears)
            ears, mouth, self._ears, self._mouth = self._ears, self._mouth, -1, -1
            os.close(ears)
            os.close(mouth)
        self._loop = None

    def ring(self, *arguments: Any) -> None:
        """Request the call with some arguments; from any thread."""
        self._rings.append(arguments)
        if self._rung:
            return
        self._rung = True
        if self._write is not None:
            self._write(self._mouth, b"!", 1)
        elif self._loop is not None:
            self._loop.call_soon_threadsafe(self.hear)

    def hear(self) -> None:
        """Make the waiting calls; in the loop's thread."""
        self._rung = False  # before the calls, so that a later ring wakes the loop again
        try:
            while self._rings:
                self._call(*self._rings.popleft())
        finally:
            if self._rings and self._loop is not None:  # one call raised an exception; make the others
                self._loop.call_soon(self.hear)

    def _wake(self) -> None:
        os.read(self._ears, MOST_RINGS)
        self.hear()

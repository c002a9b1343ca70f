"""Tells a client that only has no more to send from one that is gone; both look alike until something is sent."""

import asyncio
import socket
from collections.abc import Callable

LOOK_SECONDS = 0.1  # between two looks at what the kernel has heard of the peer
LOOKS_A_PROBE = 50  # so that one who goes away later is noticed in five seconds


class HalfClosed:
    """Watches a connection whose peer has ended its side, until `stop`.

    probe: sends something that a client skips, if anything can be sent now. gone: called once the peer's kernel has
    answered that nobody reads any more.
    """

    def __init__(self, transport: asyncio.BaseTransport, probe: Callable[[], None], gone: Callable[[], None]) -> None:
        self._socket: socket.socket | None = transport.get_extra_info("socket")
        self._probe = probe
        self._gone = gone
        self._looks = 0
        self._timer: asyncio.Handle = asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)
        if self._looks % LOOKS_A_PROBE == 0:
            self._probe()
        self._looks += 1
        # asyncio no longer waits for this socket to be readable, so nobody else sees its error.
        if self._socket is not None and self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.stop()
            self._gone()

    def stop(self) -> None:
        """Look no more."""
        self._timer.cancel()

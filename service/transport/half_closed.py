"""Tells a client that is silent, or that nothing is read from, from one that is gone: something is sent to it."""

import asyncio
import socket
from collections.abc import Callable

LOOK_SECONDS = 0.1  # between two looks at what the kernel has heard of the peer
LOOKS_A_PROBE = 50  # so that one who goes away later is noticed in five seconds
HELD_LOOKS_A_PROBE = 10  # of one whose parsing others wait for


class HalfClosed:
    """Watches a connection whose peer has ended its side, or of which nothing is read for a time, until `stop`.

    held: whether the latter; then the first probe comes later, since most bodies have ended by then.
    probe: sends something that a client skips, if anything can be sent now. gone: called once the peer's kernel has
    answered that nobody reads any more.
    """

    def __init__(
        self,
        transport: asyncio.BaseTransport,
        probe: Callable[[], None],
        gone: Callable[[], None],
        held: bool = False,
    ) -> None:
        self._socket: socket.socket | None = transport.get_extra_info("socket")
        self._probe = probe
        self._gone = gone
        self._looks = int(held)
        self._looks_a_probe = HELD_LOOKS_A_PROBE if held else LOOKS_A_PROBE
        self._timer: asyncio.Handle = asyncio.get_running_loop().call_later(held * LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)
        if self._looks % self._looks_a_probe == 0:
            self._probe()
        self._looks += 1
        # asyncio no longer waits for this socket to be readable, so nobody else sees its error.
        if self._socket is not None and self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.stop()
            self._gone()

    def stop(self) -> None:
        """Look no more."""
        self._timer.cancel()

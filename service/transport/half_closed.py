"""Finds out whether a silent client, or one from which nothing is read, is gone, by sending something to it."""

import asyncio
import socket
from collections.abc import Callable

LOOK_SECONDS = 0.1  # between two checks of the socket's error
LOOKS_A_PROBE = 50  # so that a client that disconnects later is noticed within five seconds
HELD_LOOKS_A_PROBE = 10  # for a client whose bytes still wait to be parsed


class HalfClosed:
    """Watches a connection whose peer has closed its side, or from which nothing is read for a time, until `stop`.

    held: whether it is the latter; then the first probe comes later, since most bodies have ended by then.
    probe: sends something that a client skips, if this is possible now. gone: called once the peer's kernel has
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
        """Stop watching."""
        self._timer.cancel()

"""A transport that closes in bounded time even if its peer does nothing, and kernel options to notice such a peer."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

LINGER_SECONDS = 1.0  # for a client to read a refusal before bytes that it still sends reset the connection
KERNEL_BUFFER = 131_072  # bytes, doubled by Linux; its default is up to 4 MiB for a client that reads nothing

# Keep-alive probes of the kernel: seconds of silence before the first, seconds between two, and how many may be
# unanswered. So a vanished peer is noticed after half a minute instead of Linux's default of two hours.
QUIET_SECONDS, ASK_SECONDS, ASK_TIMES = 15, 5, 3


class StagedTransport(asyncio.Transport):
    """A transport whose `close` ends in bounded time, and lets a client that still sends read the answer first.

    Closing a socket with unread bytes resets the connection, and the reset may overtake the answer (RFC 9112, section
    9.6); so if `sending` says that the client may still send, first only this side is closed, and incoming bytes are
    read and dropped for a moment.
    """

    def __init__(self, transport: asyncio.Transport, sending: Callable[[], bool], send_seconds: float) -> None:
        super().__init__()
        self._transport = transport
        self._sending = sending
        self._send_seconds = send_seconds
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._closing or self._transport.is_closing()

    def pause_reading(self) -> None:
        if not self._closing:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._transport.set_write_buffer_limits(high, low)

    def write(self, data: Any) -> None:
        self._transport.write(data)

    def abort(self) -> None:
        self._closing = True
        self._transport.abort()

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        if self._sending() and self._transport.can_write_eof():
            self._transport.resume_reading()
            try:
                self._transport.write_eof()
            except OSError:  # a reset by the peer that the event loop has not seen yet
                self._transport.abort()
                return
            self._timer = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._close)
        else:
            self._close()

    def _close(self) -> None:
        """Close once everything is written, but not later than `send_seconds`; asyncio would wait for ever."""
        self._transport.close()
        self._timer = asyncio.get_running_loop().call_later(self._send_seconds, self._transport.abort)

    def lost(self) -> None:
        """The connection is gone and need not be closed."""
        self._closing = True
        self._sending = _no_more  # it refers to the connection: both would wait for the garbage collector
        if self._timer is not None:
            self._timer.cancel()


def _no_more() -> bool:
    return False


def watch_peer(transport: asyncio.BaseTransport, send_seconds: float) -> None:
    """Make the kernel notice a peer that has vanished or reads nothing, and limit its buffer for it."""
    peer: socket.socket | None = transport.get_extra_info("socket")
    if peer is None or peer.family not in (socket.AF_INET, socket.AF_INET6):
        return
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER)
    options = {
        "TCP_KEEPIDLE": QUIET_SECONDS,
        "TCP_KEEPINTVL": ASK_SECONDS,
        "TCP_KEEPCNT": ASK_TIMES,
        # Also ends connections whose peer stops acknowledging, which asyncio cannot see (RFC 5482).
        "TCP_USER_TIMEOUT": int(send_seconds * 1000),
    }
    for name, value in options.items():
        if hasattr(socket, name):  # systems differ
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

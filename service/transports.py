"""What lies below a connection: its socket's options, the descriptors there are, and a transport that ends in time."""

import asyncio
import logging
import resource
import socket
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)

DESCRIPTORS = 64  # of this process for all but connections: listener, event loop, logs, checkpoint

LINGER_SECONDS = 1.0  # for a client to read why it is refused, before bytes it still sends would reset the connection
KERNEL_BUFFER = 131_072  # bytes, which Linux doubles; by itself it takes up to 4 MiB for a reader who takes nothing

# Seconds of silence until the kernel asks whether the peer still is there, between two such questions, and how many
# may stay unanswered: one that vanished without a word is gone after half a minute, not after Linux's two hours.
QUIET_SECONDS, ASK_SECONDS, ASK_TIMES = 15, 5, 3


def fitting(connections: int, beside: int) -> int:
    """How many of so many connections the process may open, and some `beside`; raises its soft limit for them."""
    wanted = connections + beside + DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < wanted:
        soft = wanted if hard == unlimited else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == unlimited or soft >= wanted:
        return connections
    fit = max(1, soft - (wanted - connections))
    logger.warning(
        "This process may open %d files, which is room for %d connections and not for %d; raise its limit (ulimit -n).",
        soft, fit, connections,
    )  # fmt: skip
    return fit


def watch_peer(transport: asyncio.BaseTransport, send_seconds: float) -> None:
    """Let the kernel find out by itself when a peer has vanished, or takes nothing, and bound what it holds for it."""
    peer: socket.socket | None = transport.get_extra_info("socket")
    if peer is None or peer.family not in (socket.AF_INET, socket.AF_INET6):
        return
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER)
    options = {
        "TCP_KEEPIDLE": QUIET_SECONDS,
        "TCP_KEEPINTVL": ASK_SECONDS,
        "TCP_KEEPCNT": ASK_TIMES,
        # Also ends who has shut the window on what was written, which asyncio cannot see (RFC 5482).
        "TCP_USER_TIMEOUT": int(send_seconds * 1000),
    }
    for name, value in options.items():
        if hasattr(socket, name):  # systems differ
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class StagedTransport(asyncio.Transport):
    """A transport whose `close` ends in bounded time, and lets who still sends read the answer first.

    Closing a socket with unread bytes resets the connection, and the reset may overtake the answer (RFC 9112, section
    9.6); so where `sending` says that the client may still send, first only this side is closed, and what comes is read
    and dropped for a moment.
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
            self._transport.write_eof()
            self._timer = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._close)
        else:
            self._close()

    def _close(self) -> None:
        """Close once all is written; asyncio would wait for a reader who takes nothing for ever."""
        self._transport.close()
        self._timer = asyncio.get_running_loop().call_later(self._send_seconds, self._transport.abort)

    def lost(self) -> None:
        """Nothing is left to end."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()

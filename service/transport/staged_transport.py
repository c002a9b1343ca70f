"""A transport that closes in bounded time even if its peer does nothing."""

import asyncio
from collections.abc import Callable
from typing import Any

LINGER_SECONDS = 1.0  # for a client to read why it is refused, before bytes that it still sends reset the connection


class StagedTransport(asyncio.Transport):
    """A transport whose `close` ends in bounded time, and lets a client that still sends read the answer first.

    Closing a socket with unread bytes resets the connection, and the reset may overtake the answer (RFC 9112, section
    9.6); so if `sending` says that the client may still send, first only this side is closed, and what comes is read
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
        """Close once everything is written; asyncio would wait for ever for a client that reads nothing."""
        self._transport.close()
        self._timer = asyncio.get_running_loop().call_later(self._send_seconds, self._transport.abort)

    def lost(self) -> None:
        """The connection is gone, so nothing is left to close."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()

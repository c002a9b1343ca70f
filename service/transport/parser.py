"""Parses what clients send a little at a time, and reads no more from a client before that is done."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.flow_control import FlowControl

from service.transport.targets import origin_form

PASS_SECONDS = 0.001  # of parsing in a pass of the event loop, for all connections together

CHUNKED = b"\r\ntransfer-encoding: chunked\r\n"  # in the head of an answer


class Parser(h11.Connection):
    """h11's parser, but it says that it needs more data when its time is over, or a body in chunks begins.

    A chunk of one byte takes as long as one of 60,000, so a read may hold half a second of them. What comes after the
    headers waits, so that a client without a key is refused before any of it is parsed.
    """

    def __init__(self, most_header_bytes: int, clock: Callable[[], float] = time.perf_counter) -> None:
        super().__init__(h11.SERVER, most_header_bytes)
        self.cut = False
        """Whether it stopped although there may be more."""
        self._clock = clock
        self._until = 0.0
        self._chunked = False
        self._answers_in_chunks = False

    def send(self, event: h11.Event) -> bytes | None:  # type: ignore[override]
        """The bytes of an event. A piece of an answer in chunks changes nothing in h11, which checks it all the same
        for a tenth of the time that a character of a stream takes."""
        if type(event) is h11.Data and self._answers_in_chunks and event.data:
            return b"%x\r\n%b\r\n" % (len(event.data), event.data)
        sent = super().send(event)
        is_head = type(event) is h11.Response
        self._answers_in_chunks = is_head and sent is not None and CHUNKED in sent.lower()
        return sent

    def begin(self, seconds: float) -> None:
        """Parse for `seconds` from now."""
        self.cut = False
        self._until = self._clock() + seconds

    def next_event(self) -> Any:
        """The next event, or NEED_DATA."""
        # Never between headers and the end of a request without chunks, which would look like a body still to come.
        may_stop = self._chunked or self.their_state is h11.IDLE
        if self.cut or (may_stop and self._clock() > self._until):
            self.cut = True
            return h11.NEED_DATA
        event = super().next_event()
        if type(event) is h11.Request:
            event = origin_form(event)
            self.cut = self._chunked = any(name == b"transfer-encoding" for name, _ in event.headers)
        return event


class HeldFlow(FlowControl):
    """Flow control that reads nothing while there is something left to parse."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self._held = False
        self._wanted = False

    def hold(self) -> None:
        """Stop reading until `let_go`."""
        if not self._held:
            self._held, self._wanted = True, not self.read_paused
            super().pause_reading()

    def let_go(self) -> None:
        """Read again, if anybody wants to."""
        if self._held:
            self._held = False
            if self._wanted:
                super().resume_reading()

    def pause_reading(self) -> None:
        """Stop reading."""
        self._wanted = False
        super().pause_reading()

    def resume_reading(self) -> None:
        """Read, now or once nothing is left to parse."""
        self._wanted = True
        if not self._held:
            super().resume_reading()

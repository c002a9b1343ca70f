"""Parses clients' bytes in small steps, and reads no more from a client before they are parsed."""

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.flow_control import FlowControl

from service.transport.refusals import LARGE
from service.transport.whole_messages import MOST_HEADERS, WholeParser

PASS_SECONDS = 0.001  # of parsing in a pass of the event loop, for all connections together

CHUNKED = b"\r\ntransfer-encoding: chunked\r\n"  # in the headers of an answer
WITH_LENGTH = b"\r\ncontent-length: "  # in the headers of an answer of known length

HEAD_END = re.compile(rb"\n\r?\n")

ABSOLUTE = re.compile(rb"https?://([^/?]+)([/?].*)?", re.IGNORECASE)


class Parser(WholeParser):
    """h11's parser, which stops (as if it needed more data) when its time is over or a chunked body begins.

    A chunk of one byte takes as long as one of 60,000, so one read may contain half a second of them. A chunked body
    waits, so that a client without a key is refused before any of it is parsed.
    """

    def __init__(self, most_header_bytes: int, clock: Callable[[], float] = time.perf_counter) -> None:
        super().__init__(most_header_bytes)
        self.cut = False
        """Whether it stopped although there may be more to parse."""
        self._clock = clock
        self._until = 0.0
        self._chunked = False
        self._answers_in_chunks = False
        self._head = b""  # headers of an answer, not sent yet

    def send(self, event: h11.Event) -> bytes | None:  # type: ignore[override]
        """The bytes of an event; the headers of an answer of known length wait for the first bytes of its body.

        A separate write takes a fortieth of the time of a short request. A piece of a chunked answer changes nothing
        in h11, whose checks of it would take a tenth of the time of a streamed character; so it is encoded here.
        """
        if type(event) is h11.Data and self._answers_in_chunks and event.data:
            return b"%x\r\n%b\r\n" % (len(event.data), event.data)
        sent = super().send(event)
        if type(event) is h11.Response and sent is not None:
            head = sent.lower()
            self._answers_in_chunks = CHUNKED in head
            if WITH_LENGTH in head:
                self._head = sent
                return b""
        elif self._head:
            self._head, sent = b"", self._head + (sent or b"")
        else:
            self._answers_in_chunks = False
        return sent

    def begin(self, seconds: float) -> None:
        """Parse for `seconds` from now."""
        self.cut = False
        self._until = self._clock() + seconds

    def next_event(self) -> Any:
        """The next event, or NEED_DATA."""
        # Never between headers and the end of a request that is not chunked: a body would seem to be missing.
        may_stop = self._chunked or self.their_state is h11.IDLE
        if self.cut or (may_stop and self._clock() > self._until):
            self.cut = True
            return h11.NEED_DATA
        if self.their_state is h11.IDLE:
            self._count_headers()
        event = super().next_event()
        if type(event) is h11.Request:
            event = origin_form(event)
            self.cut = self._chunked = any(name == b"transfer-encoding" for name, _ in event.headers)
        elif type(event) is h11.EndOfMessage:
            self._chunked = False
        return event

    def _count_headers(self) -> None:
        """Refuse too many header lines before they are parsed, which takes 2 us for each."""
        head = self.trailing_data[0]
        end = HEAD_END.search(head)
        if head.count(b"\n", 0, end.start() if end else len(head)) > MOST_HEADERS:
            self._process_error(h11.CLIENT)
            raise h11.RemoteProtocolError("too many headers", error_status_hint=LARGE.status)


def origin_form(request: h11.Request) -> h11.Request:
    """The request with only the path as target if that is a whole URL, as clients send it to a proxy.

    The URL's host replaces the Host header (RFC 9112, 3.2.2).
    """
    found = None if request.target.startswith(b"/") else ABSOLUTE.fullmatch(request.target)
    if found is None:
        return request
    authority, rest = found[1], found[2] or b"/"
    others = [(name, value) for name, value in request.headers if name != b"host"]
    return h11.Request(
        method=request.method,
        target=rest if rest.startswith(b"/") else b"/" + rest,
        headers=[(b"host", authority.rpartition(b"@")[2]), *others],
        http_version=request.http_version,
    )


class HeldFlow(FlowControl):
    """Flow control that reads nothing while there are bytes to parse."""

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
        """Read again, if reading was not paused otherwise."""
        if self._held:
            self._held = False
            if self._wanted:
                super().resume_reading()

    def pause_reading(self) -> None:
        """Stop reading."""
        self._wanted = False
        super().pause_reading()

    def resume_reading(self) -> None:
        """Read, now or once everything is parsed."""
        self._wanted = True
        if not self._held:
            super().resume_reading()

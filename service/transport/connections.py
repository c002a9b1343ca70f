"""Uvicorn's HTTP/1.1 connections, with limits on their number, their time and their memory.

The parser is h11, even if httptools is installed, which uvicorn would prefer: no parser in C reads untrusted bytes. A
usual request that comes whole is read in one step instead (`whole_messages`), in Python as well.

Uvicorn's own `limit_concurrency` is not used: it counts a connection when its request comes, not when it is opened.
It also refuses probes and answers in plain text.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast

import h11
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.flow_control import CLOSE_HEADER

from service.api.error_responses import Failure
from service.api.pieces import PIECE, in_pieces
from service.api.routing import without_prefix
from service.request_context import LEAVING
from service.settings import Settings
from service.transport import shared_limits
from service.transport.entrance import PROBES
from service.transport.half_closed import HalfClosed
from service.transport.parser import HeldFlow, Parser
from service.transport.refusals import (
    CROWDED,
    CROWDED_ADDRESS,
    LARGE,
    LATE,
    MALFORMED,
    NOT_HERE,
    STOPPING,
    UNCLEAR,
    UNREADABLE,
    refusal,
)  # fmt: skip
from service.transport.shared_limits import SharedLimits
from service.transport.staged_transport import StagedTransport, watch_peer
from service.transport.whole_messages import MOST_HEADERS, WholeProtocol

PROBE_SECONDS = 1.0  # for the headers beyond the limit; a client that uses all of it reconnects each second
CROWDED_SECONDS = 0.1  # for the headers while more than PROBE_CONNECTIONS wait: a probe sends them at once

SMALL_REST = 65_536  # bytes of a body still to come after an answer that are read to keep the connection
WRITE_BUFFER = 65_536  # bytes of an answer that may wait for the kernel before it is paused; asyncio's default

OnRefusal = Callable[[str], None]
"""Called with the code of each error that is answered here, without the application."""


def bounded(settings: Settings, shared: SharedLimits, on_refusal: OnRefusal | None = None) -> type["Connection"]:
    """A factory of connections, for `http` of uvicorn.Config."""
    return cast("type[Connection]", partial(Connection, settings, shared, on_refusal or _ignore))


class Connection(WholeProtocol):
    """A connection. It overrides the methods in which uvicorn waits or holds data without a limit."""

    def __init__(
        self, settings: Settings, shared: SharedLimits, on_refusal: OnRefusal, config: Any, *args: Any, **named: Any
    ) -> None:
        super().__init__(config, *args, **named)
        self.conn: Parser = Parser(settings.max_header_bytes)
        self.flow: HeldFlow
        self.timeout_keep_alive = cast("int", settings.idle_seconds)
        self.app: Any = self._answer  # wraps the application: sees headers of a request, pieces of an answer
        self._application: ASGIApp = config.loaded_app
        self._settings = settings
        self._shared = shared
        self._on_refusal = on_refusal
        self._limit = shared.public
        self._parsing = shared.parsing
        self._management = False
        self._beyond_limit = False
        self._refused = False
        self._left = False  # whether a later pass has more to parse
        self._ahead = bytearray()  # came during an answer, or before `connection_made`
        self._owed: asyncio.TimerHandle | None = None
        self._untaken: asyncio.TimerHandle | None = None
        self._half_closed: HalfClosed | None = None
        self._held: HalfClosed | None = None
        self._on_leaving: list[Callable[[], None]] = []  # callbacks of the current request

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the connection and limit the time until its headers; uvicorn waits for ever."""
        seconds = self._settings.send_seconds
        super().connection_made(StagedTransport(transport, self._may_send, seconds))
        self.flow = HeldFlow(self.transport)
        self.transport.set_write_buffer_limits(WRITE_BUFFER)
        watch_peer(transport, seconds)
        if self._shared.is_management(transport):
            self._management, self._parsing = True, self._shared.management_parsing
        self._limit = self._shared.limit_of(transport)
        self._beyond_limit = not self._limit.enter(self, self.client[0] if self.client else "")
        self._take_ahead()
        self._watch()

    def cut_off(self) -> None:
        """End at once, to make room for another."""
        self._limit.leave(self)
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection and its timers; after a reset uvicorn keeps it until they have run.

        The current request ends, in a later pass of the event loop if many clients disconnect at once.
        """
        self._limit.leave(self)
        for timer in (self._owed, self._untaken):
            if timer is not None:
                timer.cancel()
        for watch in (self._half_closed, self._held):
            if watch is not None:
                watch.stop()
        if self.transport is not None:  # it is None if TLS ends during its handshake
            cast("StagedTransport", self.transport).lost()
        if self.cycle is None or self.cycle.response_complete:
            self._end_request(exc)
        else:
            self.cycle.disconnected = True
            self._shared.leaving.do(1, partial(self._end_request, exc))

    def _end_request(self, exc: Exception | None) -> None:
        """Tell the current request that its client has disconnected."""
        for leaves in self._on_leaving:
            leaves()
        if self.transport is not None:
            super().connection_lost(exc)
            self._unset_keepalive_if_required()
        # These refer back here, so the memory of a closed connection would wait for the garbage collector.
        self.app = self.cycle = None  # type: ignore[assignment]
        self._half_closed = self._held = None
        self._on_leaving = []

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep answering a client that sends no more but still reads; with TLS this is not possible."""
        if self.transport.get_extra_info("sslcontext") is not None or self.transport.is_closing():
            return False
        if self._half_closed is None:
            self._half_closed = HalfClosed(self.transport, self._probe, self.transport.abort)
        self._end_half_closed()
        return True

    def _probe(self) -> None:
        """Send what a client skips; HTTP/1.0 has nothing like it, and a stream has its own events."""
        may = not self.transport.is_closing() and self.conn.our_state is h11.SEND_RESPONSE
        if may and self.conn.their_http_version == b"1.1":
            event = h11.InformationalResponse(status_code=100, headers=[], reason="Continue")
            self.transport.write(self.conn.send(event) or b"")

    def _probe_held(self) -> None:
        if self._left:
            self._probe()

    def _end_half_closed(self) -> None:
        """Close if a client that sends no more has its answer, or has sent only part of a request."""
        if self._half_closed is None or self._left or self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
        elif self.conn.their_state is h11.SEND_BODY:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Give the parser at most as many bytes at a time as headers may have.

        h11 limits only unfinished headers; 16,000 that come whole in one read it would accept, which takes 20 ms.
        """
        at, most = 0, self._settings.max_header_bytes
        while at < len(data):
            size = most
            if self._left:
                size = len(data)  # all of it waits
            elif self.conn.their_state is h11.IDLE:
                size = max(1, most + 1 - len(self.conn.trailing_data[0]))
            self._take(data[at : at + size])
            at += size
        self._watch()

    def handle_events(self) -> None:
        """Parse received bytes, now or in a later pass of the event loop; uvicorn parses all of them at once."""
        if not self._left and not self.conn.at_rest:
            self._left = True
            self._parsing.take(self._parse)

    def _parse(self, seconds: float) -> bool:
        if self.transport.is_closing():
            self._left = False
            return False
        self.conn.begin(seconds)
        if (whole := self.conn.take_whole()) is not None:
            self.begin_whole(whole)
        else:
            super().handle_events()
        self._left = self.conn.cut and not self.transport.is_closing()
        if self._left:
            self.flow.hold()
            if self._held is None:  # an end or a reset comes after unread bytes and would go unnoticed
                self._held = HalfClosed(self.transport, self._probe_held, self.transport.abort, held=True)
            return True
        self.flow.let_go()
        if self._held is not None and self.conn.their_state is not h11.SEND_BODY:
            self._held.stop()
            self._held = None
        self._take_ahead()
        self._watch()
        self._end_half_closed()
        return False

    def _take(self, data: bytes) -> None:
        """Parse some bytes, keep them for later, or drop those of requests that will not be answered.

        Uvicorn stops reading if bytes follow a request, and so would not notice when such a client disconnects.
        """
        state = self.conn.their_state
        if self.transport is not None and (self.transport.is_closing() or state in (h11.MUST_CLOSE, h11.ERROR)):
            return
        if self.transport is not None and not self._left and state in (h11.IDLE, h11.SEND_BODY):
            super().data_received(data)
            return
        self._ahead += data
        if self.transport is not None and len(self._ahead) > self._settings.max_header_bytes:
            self.flow.pause_reading()

    def _take_ahead(self) -> None:
        if self._left or self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            return
        ahead, self._ahead = bytes(self._ahead), bytearray()
        if ahead:
            self.data_received(ahead)

    def on_response_complete(self) -> None:
        """Continue with the bytes that came during the answer."""
        super().on_response_complete()
        if not self.transport.is_closing():
            self._take_ahead()
            self._watch()
            self._end_half_closed()

    def _watch(self) -> None:
        """Limit the time for what the client must send: headers, begun or not, or a body's rest after its answer."""
        if self.transport is None or self.transport.is_closing():
            return
        theirs = self.conn.their_state
        owes = theirs is h11.SEND_BODY and self.conn.our_state is h11.DONE
        if theirs is h11.IDLE:
            owes = self.cycle is None or bool(self.conn.trailing_data[0])
            if owes:
                self._unset_keepalive_if_required()  # part of a request was sent ahead
            elif self.timeout_keep_alive_task is None:  # the rest of a body has come; uvicorn does not set it then
                self.timeout_keep_alive_task = self.loop.call_later(
                    self.timeout_keep_alive, self.timeout_keep_alive_handler
                )
        if not owes and self._owed is not None:
            self._owed.cancel()
            self._owed = None
        elif owes and self._owed is None:
            seconds = self._settings.header_seconds
            if self._beyond_limit:
                seconds = min(seconds, CROWDED_SECONDS if self._probes_crowded else PROBE_SECONDS)
            self._owed = self.loop.call_later(seconds, self._overdue)

    @property
    def _probes_crowded(self) -> bool:
        """Whether more connections wait beyond the limit than are reserved for probes."""
        return self._limit.idle > shared_limits.PROBE_CONNECTIONS

    @property
    def _crowded(self) -> Failure:
        return CROWDED if self._limit.open > self._limit.most else CROWDED_ADDRESS

    def _overdue(self) -> None:
        if self.transport.is_closing():
            return
        if self.conn.their_state is h11.IDLE:
            self._refuse(self._crowded if self._beyond_limit and self._probes_crowded else LATE)
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        """Limit the time until the client reads; uvicorn waits for ever."""
        super().pause_writing()
        self._untaken = self.loop.call_later(self._settings.send_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has read enough."""
        super().resume_writing()
        if self._untaken is not None:
            self._untaken.cancel()
            self._untaken = None

    def shutdown(self) -> None:
        """End with the server; uvicorn raises if a connection has already ended."""
        if not self.transport.is_closing():
            super().shutdown()

    def give_up_body(self) -> None:
        """Refuse a request whose body is incomplete; the server stops and cannot wait for it."""
        waits = self.cycle is not None and self.cycle.more_body and not self.cycle.response_started
        if waits and self.conn.their_state is h11.SEND_BODY and not self.transport.is_closing():
            self._refuse(STOPPING)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """Answer invalid bytes with an error in the API's shape; uvicorn raises if an answer has begun.

        It is called while h11's error is handled, which tells whether the headers were too long.
        """
        error = sys.exc_info()[1]
        self._refuse(LARGE if getattr(error, "error_status_hint", None) == 431 else MALFORMED)

    def _refuse(self, failure: Failure) -> None:
        """Answer instead of the application, and close; if its answer has begun, only close."""
        self._note_refusal(failure)
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        state = self.conn.our_state
        if state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        self._refused = True
        answer = refusal(failure)
        headers = [*self.server_state.default_headers, *answer.raw_headers, CLOSE_HEADER]
        empty = state is h11.SEND_RESPONSE and self.scope["method"] == "HEAD"
        for event in (
            h11.Response(status_code=failure.status, headers=headers),
            h11.Data(data=b"" if empty else bytes(answer.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _note_refusal(self, failure: Failure) -> None:
        self._on_refusal(failure.code or "")
        if failure in UNREADABLE and self._limit is self._shared.public:
            self._shared.refused.note(self._limit.network(self.client[0] if self.client else ""))

    def _may_send(self) -> bool:
        return self._refused or self.conn.their_state in (h11.SEND_BODY, h11.ERROR)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer, or refuse; the answer is sent in pieces, as fast as the client reads."""

        def pieces(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start" and self._rest_is_long(message["status"]):
                message = {**message, "headers": [*message.get("headers", ()), CLOSE_HEADER]}
            return send(message) if len(message.get("body", b"")) <= PIECE else in_pieces(message, send)

        self._limit.busy(self)
        leaving: list[Callable[[], None]] = []
        self._on_leaving = leaving
        scope[LEAVING] = leaving.append
        failure = self._objection(scope)
        if failure is None:
            try:
                await self._application(scope, receive, pieces)
            finally:
                leaving.clear()  # these refer to everything that the request held
            if self._beyond_limit and not self.transport.is_closing():
                self._limit.rest(self)
            return
        self._note_refusal(failure)
        answer = refusal(failure)
        answer.raw_headers.append(CLOSE_HEADER)
        await answer(scope, receive, pieces)

    def _objection(self, scope: Scope) -> Failure | None:
        """The reason to refuse a request by its headers; None passes it to the application."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        size = (
            len(scope["raw_path"]) + len(scope["query_string"]) + sum(len(name) + len(value) for name, value in headers)
        )
        if len(headers) > MOST_HEADERS or size > self._settings.max_header_bytes:
            return LARGE
        if {b"content-length", b"transfer-encoding"} <= {name for name, _ in headers}:
            return UNCLEAR  # a proxy in front may have used the other one (RFC 9112, section 6.3)
        if without_prefix(scope["path"], self._settings.prefix) in PROBES:
            return None
        if self._management:
            return NOT_HERE
        if self._beyond_limit:
            self._beyond_limit = not self._limit.within(self)
        return self._crowded if self._beyond_limit else None

    def _rest_is_long(self, status: int) -> bool:
        """Whether, at the start of an answer, too much of the request's body is still to come to read it."""
        if self.conn.their_state is not h11.SEND_BODY:
            return False
        if status == 401:  # nothing more is read from a client without a key
            return True
        length = next((value for name, value in self.headers if name == b"content-length"), None)
        return length is None or int(length) > SMALL_REST or self.conn.they_are_waiting_for_100_continue


def _ignore(code: str) -> None:
    """Do nothing."""

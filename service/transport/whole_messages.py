"""Requests that come whole, and answers that are known whole, in one step each; all others go through h11's events.

The result is the same as with h11 (tests/service/transport/test_whole_messages.py); unusual or invalid messages are
left to h11. This takes a quarter of h11's time, and saves an eighth of the time of a short request.
"""

import asyncio
import re
from functools import lru_cache
from importlib.metadata import version
from typing import Any, NamedTuple, cast
from urllib.parse import unquote

import h11
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol, RequestResponseCycle

from service.request_context import WHOLE

NAME, VALUE = rb"[-!#$%&'*+.^_`|~0-9a-zA-Z]++", rb"(?! )[ -~]++(?<! )"
LINE = NAME + rb": " + VALUE + rb"\r\n"
MOST_HEADERS = 100  # of a request, as in Apache and Go; browsers send twenty
HEAD = re.compile(rb"(GET|POST) (/[!-~]*+) HTTP/1\.1\r\n((?:" + LINE + rb"){,%d}+)\r\n" % MOST_HEADERS)
FIELD = re.compile(rb"([^:]++): ([ -~]++)\r\n")
LENGTH = re.compile(rb"[0-9]{1,9}")
FRAMING = frozenset({b"host", b"content-length", b"connection", b"transfer-encoding", b"expect", b"upgrade"})
"""Headers that decide how to read a request, or how it may be answered."""
EVENTS = b"text/event-stream; charset=utf-8"
SENDABLE = re.compile(LINE)
BODILESS = (204, 304)  # answers that have no body, whatever their headers say

KNOWN = version("h11").startswith("0.16.")  # its internal states are set here, and other versions may differ
BOTH_IDLE = {h11.CLIENT: h11.IDLE, h11.SERVER: h11.IDLE}
ASKED = {h11.CLIENT: h11.DONE, h11.SERVER: h11.SEND_RESPONSE}
ANSWERED = {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}

Headers = list[tuple[bytes, bytes]]


class WholeRequest(NamedTuple):
    """A request with its body; the names of its headers are in lower case."""

    method: bytes
    target: bytes
    headers: Headers
    body: bytes


def whole_request(data: bytes) -> WholeRequest | None:
    """The request, if some bytes are exactly one usual request; None leaves them to h11."""
    if (found := HEAD.match(data)) is None:
        return None
    headers = [(name.lower(), value) for name, value in FIELD.findall(found[3])]
    framing = [one for one in headers if one[0] in FRAMING]
    length = hosts = 0
    for at, (name, value) in enumerate(framing):
        if name == b"host":
            hosts += 1
        elif name == b"content-length" and LENGTH.fullmatch(value) and not any(n == name for n, _ in framing[:at]):
            length = int(value)
        elif name != b"connection" or value.lower() != b"keep-alive":
            return None
    if hosts != 1 or len(data) != found.end() + length:
        return None
    return WholeRequest(found[1], found[2], headers, data[found.end() :])


def head_of(status: int, reason: bytes, headers: Headers, size: int | None) -> bytes | None:
    """The status line and headers of an answer; None if h11 must handle or refuse them.

    size: bytes of its body, as in its Content-Length; None for a chunked answer.
    """
    lines = [_line(name, value) for name, value in headers]
    if None in lines or status < 200 or status in BODILESS:
        return None
    framing = [one for one in headers if one[0].lower() in FRAMING]
    if framing != ([] if size is None else [(b"content-length", b"%d" % size)]):
        return None
    chunked = b"" if size is not None else b"Transfer-Encoding: chunked\r\n"
    return b"HTTP/1.1 %d %b\r\n%b%b\r\n" % (status, reason, b"".join(cast("list[bytes]", lines)), chunked)


@lru_cache(256)
def _line(name: bytes, value: bytes) -> bytes | None:
    """A header line; None for an unusual one. Cached, as most answers have the same headers."""
    line = b"%b: %b\r\n" % (name, value)
    return line if SENDABLE.fullmatch(line) and b":" not in name else None


class WholeParser(h11.Connection):
    """h11's connection, which can also take a request or an answer as a whole."""

    def __init__(self, most_header_bytes: int) -> None:
        super().__init__(h11.SERVER, most_header_bytes)
        self._fresh = False  # whether nothing waited when the last bytes came

    def receive_data(self, data: bytes) -> None:
        """Take some bytes of the client."""
        self._fresh = not self._receive_buffer
        super().receive_data(data)

    @property
    def at_rest(self) -> bool:
        """Whether it is between two requests, and there is nothing to parse."""
        return not self._receive_buffer and self.their_state is h11.IDLE

    def take_whole(self) -> WholeRequest | None:
        """The request that has just come, if it is whole, alone and usual; None leaves it to `next_event`."""
        if not self._fresh or not KNOWN or self._cstate.states != BOTH_IDLE:
            return None
        self._fresh = False
        if (whole := whole_request(bytes(self._receive_buffer))) is not None:
            self._receive_buffer = type(self._receive_buffer)()
            self._request_method, self.their_http_version = whole.method, b"1.1"
            self._become(ASKED)
        return whole

    def begin_answer(self, status: int, reason: bytes, headers: Headers, size: int | None) -> bytes | None:
        """The headers of an answer; the caller sends its body and then calls `end_answer`. None leaves it to `send`.

        size: bytes of the body; None for a chunked answer.
        """
        if not KNOWN or self._cstate.states != ASKED or not self._cstate.keep_alive or self._request_method == b"HEAD":
            return None
        if (head := head_of(status, reason, headers, size)) is not None:
            self._cstate.states[h11.SERVER] = h11.SEND_BODY
        return head

    def end_answer(self) -> None:
        """Such an answer is sent completely."""
        self._become(ANSWERED)

    def _become(self, states: dict[Any, Any]) -> None:
        before, self._cstate.states = self._cstate.states, dict(states)
        self._respond_to_state_changes(before)


class WholeExchange(RequestResponseCycle):
    """Uvicorn's cycle for a request that has come whole: headers of the answer wait for the first bytes of its body.

    If these are the whole body or a stream's first event, both are sent together, without h11.
    """

    conn: WholeParser
    _start: Any = None  # the message with the headers, which waits for the body
    _in_chunks = False  # whether the answer is chunked and sent here

    async def send(self, message: Any) -> None:
        """Send a message of the answer."""
        if self._in_chunks and not self.response_complete:
            if self.flow.write_paused and not self.disconnected:
                await self.flow.drain()
            if not self.disconnected:
                self._send_chunk(b"", message)
            return
        start, self._start = self._start, None
        if message["type"] == "http.response.start":
            if not self.response_started and _comes_with_body(message):
                self._start = message
                return
        elif start is not None:
            if self._begun(start, message):
                return
            await super().send(start)
        await super().send(message)

    def _begun(self, start: Any, message: Any) -> bool:
        """Send the headers with the first bytes of the body; returns whether that was possible here."""
        if self.disconnected or self.flow.write_paused:
            return False
        body, more = message.get("body", b""), message.get("more_body", False)
        status, headers = start["status"], [*self.default_headers, *start["headers"]]
        known = _content_length(start)
        if known and more:
            return False
        head = self.conn.begin_answer(status, STATUS_PHRASES[status], headers, len(body) if known else None)
        if head is None:
            return False
        self.response_started = True
        self._in_chunks = not known
        if known:
            self._end(head + body)
        else:
            self._send_chunk(head, message)
        return True

    def _send_chunk(self, before: bytes, message: Any) -> None:
        if body := message.get("body", b""):
            before = b"%b%x\r\n%b\r\n" % (before, len(body), body)
        if not message.get("more_body", False):
            self._end(before + b"0\r\n\r\n")
        elif before:
            self.transport.write(before)

    def _end(self, last: bytes) -> None:
        """Send the last bytes."""
        self.conn.end_answer()
        self.response_complete = True
        self.transport.write(last)
        self.message_event.set()
        if not self.keep_alive:
            self.conn.send(h11.ConnectionClosed())
            self.transport.close()
        self.on_response()


def _content_length(start: Any) -> bool:
    return any(name == b"content-length" for name, _ in start.get("headers", ()))


def _comes_with_body(start: Any) -> bool:
    """Whether a body begins right after the headers, as those of known length and event streams do."""
    return _content_length(start) or (b"content-type", EVENTS) in start["headers"]


class WholeProtocol(H11Protocol):
    """Uvicorn's connection, which can also begin to answer a request that came whole."""

    conn: WholeParser

    def _should_upgrade(self) -> bool:
        """Never, and without the two warnings that uvicorn logs for each attempt."""
        return False

    def begin_whole(self, whole: WholeRequest) -> None:
        """Start to answer a request, as uvicorn does for h11's events."""
        self._unset_keepalive_if_required()
        path, _, query = whole.target.partition(b"?")
        self.headers = whole.headers
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "method": whole.method.decode(),
            "root_path": self.root_path,
            "path": self.root_path + unquote(path.decode()),
            "raw_path": self.root_path.encode() + path,
            "query_string": query,
            "headers": whole.headers,
            "state": self.app_state.copy(),
            WHOLE: True,
        }
        self.scope = cast("Any", scope)
        self.cycle = WholeExchange(
            scope=self.scope,
            conn=self.conn,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            on_response=self.on_response_complete,
        )
        self.cycle.body += whole.body
        self.cycle.more_body = False
        self.cycle.message_event.set()
        task = self.loop.create_task(self.cycle.run_asgi(self.app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

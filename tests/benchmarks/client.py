"""A client that costs next to nothing: many requests in one thread, on bare sockets, with little Python."""

import json
import re
import selectors
import socket
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

HEAD = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
EVENT = b"data: {"
END = b"data: [DONE]\n\n\r\n0\r\n\r\n"
TAIL = 1024  # bytes of an answer that are always kept: its last event says how many characters there were
RECEIVE = 1 << 18
TEXT = re.compile(rb'"text":("(?:[^"\\]|\\.)*")')
WRITTEN = re.compile(rb'"completion_tokens":(\d+)')


class Stream:
    """A connection that is kept open, with one request at a time.

    sent, first, ended: when its request began to be sent, its first characters arrived, and its answer ended; None
    until then. arrivals: when how many events arrived together, where `watch` is true. kept: everything that arrived,
    where `keep` is true.
    """

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.watch = self.keep = False
        self.outgoing = memoryview(b"")
        self._forget()

    def _forget(self) -> None:
        self.sent = 0.0
        self.first: float | None = None
        self.ended: float | None = None
        self.arrivals: list[tuple[float, int]] = []
        self.kept: list[bytes] = []
        self._tail = b""
        self._left: int | None = None  # bytes of an answer that says its length
        self._in_body = False

    def ask(self, **fields: Any) -> None:
        """Make a request for a completion ready to be sent."""
        body = json.dumps(fields).encode()
        self._forget()
        self.outgoing = memoryview(HEAD + b"content-length: %d\r\n\r\n" % len(body) + body)
        self.sent = time.perf_counter()

    def send(self) -> None:
        """Send as much as there is room for."""
        self.outgoing = self.outgoing[self.socket.send(self.outgoing) :]

    def receive(self) -> None:
        """Take what has arrived. Raises RuntimeError on anything but a completion."""
        chunk = self.socket.recv(RECEIVE)
        if not chunk:
            raise RuntimeError("the server hung up")
        now = time.perf_counter()
        if self.keep:
            self.kept.append(chunk)
        if self.watch and (events := chunk.count(EVENT)):
            self.arrivals.append((now, events))
        self._tail = chunk[-TAIL:] if len(chunk) >= TAIL else (self._tail + chunk)[-TAIL:]
        if not self._in_body:
            self._begin(chunk)
        elif self._left is not None:
            self._left -= len(chunk)
        if self.first is None and EVENT in chunk:
            self.first = now
        if self._left == 0 or self._tail.endswith(END):
            self.ended = now

    def _begin(self, chunk: bytes) -> None:
        head, blank, body = chunk.partition(b"\r\n\r\n")  # a server writes its head at once
        if not head.startswith(b"HTTP/1.1 200") or not blank:
            raise RuntimeError(f"the server answered {chunk[:500]!r}")
        self._in_body = True
        if length := re.search(rb"content-length: (\d+)", head):
            self._left = int(length[1]) - len(body)

    @property
    def written(self) -> int:
        """Characters of an answer that has ended, as its usage says; raises LookupError where it does not say."""
        found = WRITTEN.search(self._tail)
        if found is None:
            raise LookupError("the answer has no usage")
        return int(found[1])

    @property
    def shown(self) -> int:
        """Characters of an unfinished answer that was kept."""
        return sum(len(json.loads(text)) for text in TEXT.findall(b"".join(self.kept)))


class Client:
    """Many streams at once, for a `with` block."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._selector = selectors.DefaultSelector()
        self.streams: set[Stream] = set()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close_all()
        self._selector.close()

    def open(self) -> Stream:
        """A new connection."""
        stream = Stream(self._port)
        self._selector.register(stream.socket, selectors.EVENT_READ, stream)
        self.streams.add(stream)
        return stream

    def ask(self, stream: Stream, /, **fields: Any) -> None:
        """Begin a request."""
        stream.ask(**fields)
        stream.send()
        if stream.outgoing:
            self._selector.modify(stream.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, stream)

    def close(self, stream: Stream) -> None:
        """Hang up, in the middle of an answer or not."""
        self._selector.unregister(stream.socket)
        self.streams.discard(stream)
        stream.socket.close()

    def close_all(self) -> None:
        """Hang up everywhere."""
        for stream in list(self.streams):
            self.close(stream)

    def turn(self) -> list[Stream]:
        """Send and receive whatever can be; the streams to which something has come."""
        grown = []
        for key, ready in self._selector.select(0.05):
            stream: Stream = key.data
            if ready & selectors.EVENT_WRITE:
                stream.send()
                if not stream.outgoing:
                    self._selector.modify(stream.socket, selectors.EVENT_READ, stream)
            if ready & selectors.EVENT_READ:
                stream.receive()
                grown.append(stream)
        return grown

    def wait(self, until: Callable[[], bool], seconds: float = 60) -> None:
        """Take turns until something is so. Raises TimeoutError when it takes too long."""
        deadline = time.monotonic() + seconds
        while not until():
            if time.monotonic() > deadline:
                raise TimeoutError("the server took too long")
            self.turn()

    def run_for(self, seconds: float) -> None:
        """Take turns for a while."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.turn()

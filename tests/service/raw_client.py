"""A client that sends any bytes at any speed, and reads no more than it is told to."""

import json
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.service.serving import Running

HANGS = 5.0  # seconds after which a connection that says nothing and does not end has hung


@dataclass(frozen=True)
class Answer:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> Any:
        """What the error in OpenAI's shape says."""
        assert len(self.body) <= 4096
        assert self.headers["content-type"] == "application/json"
        (error,) = json.loads(self.body).values()
        assert set(error) == {"message", "type", "param", "code"}
        return error


@contextmanager
def connected(server: Running, receive_buffer: int | None = None, source: str | None = None) -> Iterator[socket.socket]:
    """A connection for a `with` block; a small receive buffer lets little lie in the kernel.

    source: the address it comes from.
    """
    host, port = server.url.rpartition("/")[2].split(":")
    with socket.socket() as connection:
        connection.settimeout(HANGS)
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source is not None:
            connection.bind((source, 0))
        connection.connect((host, int(port)))
        yield connection


def asking(path: str, body: bytes | None = None, **fields: Any) -> bytes:
    """The bytes of a request: a GET, or a POST of a body or of some fields in JSON."""
    if fields:
        body = json.dumps(fields).encode()
    head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    if body is None:
        return f"{head}\r\n".encode()
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def rest(connection: socket.socket) -> bytes:
    """All that comes until the server closes; TimeoutError where it does not."""
    received = b""
    try:
        while piece := connection.recv(65_536):
            received += piece
    except ConnectionError:  # a reset: also an end
        pass
    return received


def answer(connection: socket.socket) -> Answer:
    """The next answer that has a length; a server may send 100 before it, which every client skips (RFC 9110, 15.2)."""
    received = b"HTTP/1.1 100 "
    while received.startswith(b"HTTP/1.1 100 "):
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(1) or _ended(received)
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    while len(body) < int(headers["content-length"]):
        body += connection.recv(int(headers["content-length"]) - len(body)) or _ended(received)
    return Answer(int(status.split()[1]), headers, body)


def vanish(connection: socket.socket) -> None:
    """Go away by a reset, as a process does that is killed with unread bytes."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _ended(received: bytes) -> bytes:
    raise AssertionError(f"the connection ended after {received!r}")

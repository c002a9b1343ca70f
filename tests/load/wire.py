"""HTTP/1.1 on bare sockets: whole answers, streams as they come, and the manners of bad clients."""

import asyncio
import ctypes
import json
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

HEAD_END = b"\r\n\r\n"
LIMIT = 1 << 20  # bytes of an answer's headers, or of the line before a chunk
PATIENCE = 120.0  # seconds for one answer; longer is a hang
JSON = "application/json"

# The socket filter that lets no packet in (Linux, socket(7)): the peer's bytes are neither taken nor acknowledged, as
# if the machine at this end had lost its power.
BPF_DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)
SO_ATTACH_FILTER = 26


class Answer(NamedTuple):
    """One answer; of a stream the body is its events' bytes, put together."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """What the body says."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of its error in OpenAI's dialect, "" where it has none."""
        if JSON not in self.headers.get("content-type", ""):
            return ""
        error = self.json.get("error")
        return str(error.get("code") or "") if isinstance(error, dict) else ""

    @property
    def closes(self) -> bool:
        """Whether the server takes no other request on this connection."""
        return self.headers.get("connection") == "close"

    @property
    def data(self) -> list[str]:
        """The data of each event of a stream."""
        lines = self.body.decode().split("\n")
        return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]


class HungUpError(Exception):
    """The server ended the connection before an answer was whole."""

    def __init__(self, received: bytes) -> None:
        super().__init__(f"the server hung up after {received[-200:]!r}")
        self.received = received


def request(
    path: str,
    fields: Mapping[str, Any] | None = None,
    *,
    key: str | None = None,
    method: str | None = None,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """The bytes of a request: a GET, or a POST of some fields in JSON, or of any body."""
    if fields is not None:
        body = json.dumps(fields).encode()
    lines = {"Host": "localhost"}
    if key is not None:
        lines["Authorization"] = f"Bearer {key}"
    if body is not None:
        lines |= {"Content-Type": JSON, "Content-Length": str(len(body))}
    lines |= headers or {}
    verb = method or ("GET" if body is None else "POST")
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{verb} {path} HTTP/1.1\r\n{head}\r\n".encode() + (body or b"")


def parsed(head: bytes) -> tuple[int, dict[str, str]]:
    """Status and headers of an answer."""
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(first.split(" ", 2)[1]), headers


class Wire:
    """A connection that is kept open between requests."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int, receive_buffer: int | None = None) -> "Wire":
        """A new connection; a small receive buffer lets little lie in the kernel."""
        own = socket.socket()
        own.setblocking(False)
        if receive_buffer is not None:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await asyncio.get_running_loop().sock_connect(own, ("127.0.0.1", port))
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(*await asyncio.open_connection(sock=own, limit=LIMIT))

    async def ask(self, data: bytes) -> Answer:
        """Send a request and wait for its whole answer. Raises HungUpError, and TimeoutError where none comes."""
        self.writer.write(data)
        return await self.answer()

    async def answer(self) -> Answer:
        """The next answer, whole."""
        status, headers = await self.head()
        body = b"".join([piece async for piece in self.pieces(headers)])
        return Answer(status, headers, body)

    async def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the next answer."""
        try:
            async with asyncio.timeout(PATIENCE):
                head = await self.reader.readuntil(HEAD_END)
        except asyncio.IncompleteReadError as error:
            raise HungUpError(error.partial) from error
        except ConnectionError as error:
            raise HungUpError(b"") from error
        return parsed(head[: -len(HEAD_END)])

    async def pieces(self, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
        """The body of an answer as it comes."""
        received = b""
        try:
            async with asyncio.timeout(PATIENCE):
                if "content-length" in headers:
                    yield await self.reader.readexactly(int(headers["content-length"]))
                    return
                while size := int(await self.reader.readuntil(b"\r\n"), 16):
                    received = (await self.reader.readexactly(size + 2))[:-2]
                    yield received
                await self.reader.readexactly(2)
        except asyncio.IncompleteReadError as error:
            raise HungUpError(received + error.partial) from error
        except ConnectionError as error:
            raise HungUpError(received) from error

    def close(self) -> None:
        """Go away in order: the server sees the end of what is sent (FIN)."""
        self.writer.close()

    def reset(self) -> None:
        """Go away as a process does that is killed with unread bytes (RST)."""
        own = self.writer.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def fall_silent(self) -> None:
        """Stay open and hear nothing any more, not even what the kernel would acknowledge."""
        drop_all(self.writer.get_extra_info("socket"))


def drop_all(own: Any) -> None:
    """Let no packet reach a socket any more."""
    program = ctypes.create_string_buffer(BPF_DROP_ALL, len(BPF_DROP_ALL))
    own.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program)))


@asynccontextmanager
async def connected(port: int, receive_buffer: int | None = None) -> AsyncIterator[Wire]:
    """A connection for a `with` block."""
    wire = await Wire.open(port, receive_buffer)
    try:
        yield wire
    finally:
        wire.close()


async def once(port: int, data: bytes) -> Answer:
    """One request on a connection of its own."""
    async with connected(port) as wire:
        return await wire.ask(data)


class Talk:
    """A connection of one thread that waits for each answer, which says its length or comes in chunks."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, data: bytes) -> Answer:
        """Send a request and wait for its answer. Raises HungUpError."""
        self.socket.sendall(data)
        received = b""
        while HEAD_END not in received:
            received += self._more(received)
        head, _, body = received.partition(HEAD_END)
        status, headers = parsed(head)
        if headers.get("transfer-encoding") == "chunked":
            return Answer(status, headers, self._chunks(body))
        length = int(headers["content-length"])
        while len(body) < length:
            body += self._more(received)
        return Answer(status, headers, body)

    def _chunks(self, begun: bytes) -> bytes:
        """The content of an answer in chunks, of which `begun` has come."""
        content, left = bytearray(), bytearray(begun)
        while True:
            while b"\r\n" not in left:
                left += self._more(begun)
            line, _, left = left.partition(b"\r\n")
            size = int(line, 16)
            while len(left) < size + 2:
                left += self._more(begun)
            if not size:
                return bytes(content)
            content += left[:size]
            del left[: size + 2]

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def _more(self, received: bytes) -> bytes:
        piece = self.socket.recv(1 << 16)
        if not piece:
            raise HungUpError(received)
        return piece

"""Reads a body that was sent compressed, a little at a time, so that it is counted while it is made."""

import zlib

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

# Of zlib: which header and trailer the compressed bytes have. x-gzip is gzip by RFC 9110, section 8.4.1.3.
CODINGS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
ACCEPTED = "gzip, deflate"
PART = 65_536  # bytes that are made at a time, of as few as 64 that came
DECODER_BYTES = 48_000  # of memory a decoder takes: its window, and tables
MOST_MEMBERS = 1_000  # of a gzip file, which may be several after another: each costs as much as many bytes


def coding_of(header: str) -> str | None:
    """The coding that a Content-Encoding header names; None where the body is as it is.

    Raises an HTTPException with status 415 for one that is not read here, and for several on one another.
    """
    coding = header.strip().lower()
    if coding in ("", "identity"):
        return None
    if coding not in CODINGS:
        sentence = f"The body is encoded with {coding[:40]}; send it as it is, or with gzip or deflate."
        raise HTTPException(415, sentence, {"Accept-Encoding": ACCEPTED})  # RFC 9110, section 15.5.16
    return coding


class Decoded:
    """A body on its way in, decompressed: messages of at most PART bytes, each made when it is asked for."""

    def __init__(self, receive: Receive, coding: str) -> None:
        self._receive = receive
        self._coding = coding
        self._decoder = zlib.decompressobj(CODINGS[coding])
        self._members = 1
        self._waiting = b""  # came, and is not decompressed yet
        self._last = False  # whether all has come
        self._done = False

    @property
    def held(self) -> int:
        """Bytes of memory that it holds."""
        return DECODER_BYTES + len(self._waiting)

    async def receive(self) -> Message:
        """The next message; raises an HTTPException with status 400 where the bytes are not what they claim to be."""
        if self._done:
            return await self._receive()
        while not (part := self._part()) and not self._done:
            message = await self._receive()
            if message["type"] != "http.request":
                return message
            self._waiting += message.get("body", b"")
            self._last = not message.get("more_body")
        return {"type": "http.request", "body": part, "more_body": not self._done}

    def _part(self) -> bytes:
        """Some bytes; none where more has to come, or all is there."""
        while True:
            if self._decoder.eof and not self._next_member():
                return b""
            try:
                part = self._decoder.decompress(self._waiting, PART)
            except zlib.error as error:
                raise self._wrong("is not") from error
            self._waiting = self._decoder.unused_data if self._decoder.eof else self._decoder.unconsumed_tail
            if part or not self._decoder.eof:
                break
        if not part and self._last:
            raise self._wrong("is cut short")
        return part

    def _next_member(self) -> bool:
        """Whether another one follows, which is begun."""
        if not self._waiting:
            self._done = self._last
            return False
        self._members += 1
        if self._members > MOST_MEMBERS or CODINGS[self._coding] != CODINGS["gzip"]:
            raise self._wrong("has more after its end")
        self._decoder = zlib.decompressobj(CODINGS[self._coding])
        return True

    def _wrong(self, how: str) -> HTTPException:
        sentence = f"The body is announced as {self._coding} and {how}; compress it anew, or send it as it is."
        return HTTPException(400, sentence)

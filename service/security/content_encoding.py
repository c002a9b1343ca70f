"""Decompresses a body in small parts, so that they are counted as they are made."""

import zlib

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

# zlib's codes for header and trailer of the compressed bytes. x-gzip is gzip by RFC 9110, section 8.4.1.3.
CODINGS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
ACCEPTED = "gzip, deflate"
PART = 65_536  # bytes that are decompressed at a time, from as few as 64 received bytes
DECODER_BYTES = 48_000  # memory of a decoder: its window and tables
MOST_MEMBERS = 1_000  # of a gzip file, which may have several: each costs as much as many bytes


def coding_of(header: str) -> str | None:
    """The coding that a Content-Encoding header names; None if the body is not encoded.

    Raises an HTTPException with status 415 for an unsupported coding, and for a combination of several.
    """
    coding = header.strip().lower()
    if coding in ("", "identity"):
        return None
    if coding not in CODINGS:
        sentence = f"The body is encoded with {coding[:40]}; send it as it is, or with gzip or deflate."
        raise HTTPException(415, sentence, {"Accept-Encoding": ACCEPTED})  # RFC 9110, section 15.5.16
    return coding


class Decoded:
    """An incoming body, decompressed: messages of at most PART bytes, each made on demand."""

    def __init__(self, receive: Receive, coding: str) -> None:
        self._receive = receive
        self._coding = coding
        self._decoder = zlib.decompressobj(CODINGS[coding])
        self._members = 1
        self._waiting = b""  # received but not decompressed yet
        self._last = False  # whether all has come
        self._done = False

    @property
    def held(self) -> int:
        """Bytes of memory in use."""
        return DECODER_BYTES + len(self._waiting)

    async def receive(self) -> Message:
        """The next message; raises an HTTPException with status 400 if the bytes do not fit the announced coding."""
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
        """Some bytes; none if more has to come, or at the end."""
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
        """Begin the next member; returns whether there is one."""
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

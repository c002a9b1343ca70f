"""ASGI middleware that bounds the size, the arrival time and the JSON values of a request body."""

import asyncio

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Values of a body: as many ids as a prompt of a hundred thousand words has, read in a few hundredths of a second.
MOST_VALUES = 200_000


class BodyLimit:
    """Lets bodies of at most `max_bytes` through that come within `seconds`.

    A larger one raises a 413, a slower one a 408, where the application reads it, so that its answer is made where all
    errors are answered; the length a client announces is believed only when it is too large.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, seconds: float) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application with a `receive` that counts, and looks at the clock until the body is there."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        left = self.max_bytes if len(announced) < 20 and int(announced) <= self.max_bytes else -1
        values = ValueCount()
        deadline: float | None = asyncio.get_running_loop().time() + self.seconds

        async def counted() -> Message:
            nonlocal left, deadline
            if left >= 0:
                try:
                    async with asyncio.timeout_at(deadline):
                        message = await receive()
                except TimeoutError as error:
                    sentence = (
                        f"The body did not come within {self.seconds:g} seconds; send it faster, or a shorter one."
                    )
                    raise HTTPException(408, sentence) from error
                if message["type"] == "http.disconnect" and deadline is not None:
                    raise HTTPException(499, "The request was given up.")  # else FastAPI answers it as a bad body
                left -= len(message.get("body", b""))
                if not message.get("more_body"):
                    deadline = None  # what comes now is that the client goes away
                if values.add(message.get("body", b"")) > MOST_VALUES:
                    sentence = f"The body has more than {MOST_VALUES:,} values; send long prompts as text, not as ids."
                    raise HTTPException(413, sentence)
            if left < 0:
                raise HTTPException(413, f"The body is larger than {self.max_bytes:,} bytes; send a shorter one.")
            return message

        await self.app(scope, counted, send)


class ValueCount:
    """Counts what separates values outside of strings: commas and opening brackets.

    Eight megabytes of one string are read in some milliseconds, of small values in a second, in which the event loop
    does nothing else. Counting costs a millisecond for each megabyte, and is over before anything is made of it.
    """

    def __init__(self) -> None:
        self.values = 0
        self._in_string = False
        self._escaped = False  # the piece before ended with a backslash that stands for the next byte, too

    def add(self, piece: bytes) -> int:
        """Take the next bytes, cut wherever they are; returns the count so far."""
        if self._escaped and piece:
            piece, self._escaped = piece[1:], False
        if b"\\" in piece:
            trailing = len(piece) - len(piece.rstrip(b"\\"))
            self._escaped = bool(trailing % 2)
            piece = piece.replace(b"\\\\", b"").replace(b'\\"', b"")
        for at, part in enumerate(piece.split(b'"')):
            if at:
                self._in_string = not self._in_string
            if part and not self._in_string:
                self.values += part.count(b",") + part.count(b"[") + part.count(b"{")
        return self.values

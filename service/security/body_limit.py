"""ASGI middleware that bounds the size, the arrival time, the memory and the JSON values of a request body."""

import asyncio
import time

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import MemorySpent, TooCostly
from service.process.ledger import Lease, Ledger
from service.process.pass_budget import PassBudget
from service.request_context import request_context
from service.security.body_pace import BodyPace
from service.security.content_encoding import Decoded, coding_of
from service.security.json_cost import MOST_DIGITS, MOST_PLAIN, MOST_VALUES, NAME_VALUES, JsonCost

PARSED = 8_192  # bytes of bodies that are parsed in a pass of the event loop, in some milliseconds, or one larger body
SLICE = 16_384  # bytes that are counted between two looks at the clock
TURN_SECONDS = 0.001  # of counting, before other connections go on

TOO_MANY = (
    f"The body has more than {MOST_VALUES:,} values, where the name of a member counts as {NAME_VALUES}; "
    "send long prompts as text, not as ids, and long chats in fewer messages."
)
TOO_PLAIN = f"The body has more than {MOST_PLAIN:,} bytes outside of strings; send long prompts as text, not as ids."
TOO_LONG_A_NUMBER = f"The body has a number of more than {MOST_DIGITS} digits; send a shorter one."
NOT_UTF8 = "The body is in UTF-16 or UTF-32; send it in UTF-8."


class BodyLimit:
    """Lets bodies of at most `max_bytes` through that come within `seconds` and fit into the ledger.

    A larger one raises a 413, a slower one a 408, one the ledger has no room for a 503, where the application reads it,
    so that its answer is made where all errors are answered; the length a client announces is believed only when it is
    too large. A body is charged as it comes, and what parsing makes of it once it is there; its lease has both
    until the request is answered, and may be shrunk once something is made of the body.

    A route that reads lines as they come may ask for a body of any length (`RequestContext.take_lines`): then the
    limits are of each line, and the seconds of each wait for more of the body.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, seconds: float, ledger: Ledger, pace: BodyPace) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.seconds = seconds
        self.ledger = ledger
        self._pace = pace
        self._parsing = PassBudget(PARSED, rest=0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application with a `receive` that counts, and looks at the clock until the body is there."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        announced = headers.get("content-length", "0")
        size = int(announced) if len(announced) < 20 else self.max_bytes + 1
        work = self._run(scope, receive, send, headers, size <= self.max_bytes)
        known = None if "transfer-encoding" in headers else min(size, self.max_bytes)
        await self._pace.run(work, request_context(scope).caller, known)

    async def _run(self, scope: Scope, receive: Receive, send: Send, headers: Headers, fits: bool) -> None:
        context = request_context(scope)
        with self.ledger.take(0, context.caller) as lease:
            context.lease = lease
            body = Arriving(receive, self.max_bytes, self.seconds, lease, self._parsing)
            context.take_lines = body.take_lines
            body.encoding = headers.get("content-encoding", "")
            if not fits:
                body.left = -1
            try:
                await self.app(scope, body.receive, send)
            finally:
                context.take_lines = None  # which leads back here: all would wait for the garbage collector


class Arriving:
    """A body on its way in, with a limit of bytes and of seconds.

    encoding: the header Content-Encoding; of a compressed body, what it becomes is counted.
    left: bytes it may still have; negative where it is too large already.
    """

    def __init__(self, receive: Receive, most: int, seconds: float, lease: Lease, parsing: PassBudget) -> None:
        self.left = most
        self._receive = receive
        self._most = most
        self._seconds = seconds
        self._deadline: float | None = asyncio.get_running_loop().time() + seconds
        self._lease = lease
        self._parsing = parsing
        self._cost = JsonCost()
        self._by_lines = False
        self._line = 1
        self.encoding = ""

    def take_lines(self) -> None:
        """Let the limits be of each line from now on; the reader shrinks the lease by what is no longer held."""
        self._by_lines = True
        self.left = self._most

    async def receive(self) -> Message:
        """The next message, once it is counted."""
        if self.left < 0:
            raise self._too_large()
        if self._by_lines and self._deadline is not None:
            self._deadline = asyncio.get_running_loop().time() + self._seconds
        if self.encoding and (coding := coding_of(self.encoding)) is not None:
            self._receive = Decoded(self._receive, coding).receive
        self.encoding = ""
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError as error:
            sentence = f"The body did not come within {self._seconds:g} seconds; send it faster, or a shorter one."
            raise HTTPException(408, sentence) from error
        if self._deadline is None:
            return message  # the client goes away
        if message["type"] == "http.disconnect":
            raise HTTPException(499, "The request was given up.")  # otherwise FastAPI would answer that the body is bad
        if piece := message.get("body", b""):
            await self._count(piece)
        if not message.get("more_body"):
            self._deadline = None
            self._charge(0 if self._by_lines else self._cost.parsed)
            await self._parsing.enter(self._most - self.left)
        return message

    async def _count(self, piece: bytes) -> None:
        if not self._by_lines:
            self._take(len(piece))
        self._charge(len(piece))
        began = time.perf_counter()
        for at in range(0, len(piece), SLICE):
            part = piece[at : at + SLICE]
            if self._by_lines:
                self._add_lines(part)
            else:
                self._add(part)
            if time.perf_counter() - began > TURN_SECONDS:
                await self._parsing.enter(PARSED)
                began = time.perf_counter()

    def _add_lines(self, part: bytes) -> None:
        """Count bytes of lines, each by itself."""
        for number, line in enumerate(part.split(b"\n")):
            if number:
                self.left, self._cost = self._most, JsonCost()
                self._line += 1
            self._take(len(line))
            self._add(line)

    def _add(self, part: bytes) -> None:
        """Count what parsing some bytes will take. Raises HTTPException where that is too much."""
        cost = self._cost
        cost.add(part)
        if not cost.utf8:
            raise HTTPException(415, NOT_UTF8)
        if cost.values > MOST_VALUES:
            raise HTTPException(413, TOO_MANY)
        if cost.plain > MOST_PLAIN:
            raise HTTPException(413, TOO_PLAIN)
        if cost.digits > MOST_DIGITS:
            raise HTTPException(400, TOO_LONG_A_NUMBER)

    def _take(self, size: int) -> None:
        """Count bytes of the body, or of its line."""
        self.left -= size
        if self.left < 0:
            raise self._too_large()

    def _charge(self, size: int) -> None:
        try:
            self._lease.grow(size)
        except (MemorySpent, TooCostly) as error:  # which FastAPI would take for a body that cannot be read
            raise HTTPException(503, str(error)) from error

    def _too_large(self) -> HTTPException:
        what = f"Line {self._line:,} of the body" if self._by_lines else "The body"
        return HTTPException(413, f"{what} is larger than {self._most:,} bytes; send a shorter one.")

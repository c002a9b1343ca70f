"""ASGI middleware that limits the size, the arrival time, the memory and the JSON values of a request body."""

import asyncio
import math
import re
import time
from collections.abc import Callable, Hashable
from contextlib import nullcontext
from functools import partial

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import GIVEN_UP, MemorySpent, TooCostly
from service.process.ledger import Lease, Ledger
from service.process.pass_budget import OnLeaving, PassBudget
from service.request_context import WHOLE, header, request_context
from service.security.caller_pace import CallerPace
from service.security.content_encoding import Decoded, coding_of
from service.security.json_cost import MOST_DIGITS, MOST_PLAIN, MOST_VALUES, NAME_VALUES, JsonCost

PARSED = 8_192  # bytes of bodies that are parsed in a pass of the event loop, in some milliseconds, or one larger body
SLICE = 16_384  # bytes that are counted between two readings of the clock
SMALL = 8_192  # bytes; a body up to this size is never paced, as it takes less time than a short text
BYTE_SECONDS = 1e-9  # of the event loop for each incoming byte, in addition to the measured time
TURN_SECONDS = 0.001  # of counting, before other connections continue

# A body of lines is passed on in parts that take some tenths of a millisecond to parse.
FEW_LINES = re.compile(rb"(?:[^\n]*+\n++){0,32}+")
LINE = re.compile(rb"[^\n]+")
LINE_SECONDS = 5e-5  # of the event loop for a line that is not empty
LINE_BYTE_SECONDS = 2e-8  # of the event loop for each byte of a line

TOO_MANY = (
    f"The body has more than {MOST_VALUES:,} values, where the name of a member counts as {NAME_VALUES}; "
    "send long prompts as text, not as ids, and long chats in fewer messages."
)
TOO_PLAIN = f"The body has more than {MOST_PLAIN:,} bytes outside of strings; send long prompts as text, not as ids."
TOO_LONG_A_NUMBER = f"The body has a number of more than {MOST_DIGITS} digits; send a shorter one."
NOT_UTF8 = "The body is in UTF-16 or UTF-32; send it in UTF-8."


class BodyLimit:
    """Passes on bodies of at most `max_bytes` that come within `seconds` and fit into the ledger.

    A larger body raises a 413, a slower one a 408, one for which the ledger has no room a 503. The error is raised
    where the application reads the body, so that it is answered like all errors. The announced length is used only to
    refuse. A body is charged as it comes, and its parsed values once it is complete; its lease holds both until the
    request is answered, and may be shrunk once the body has been converted.

    A compressed body is paced by its decompressed bytes, and lines by their number and bytes.

    A route that reads lines as they come may accept a body of any length (`RequestContext.take_lines`): then the
    limits apply to each line, and the seconds to each wait for more of the body.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, seconds: float, ledger: Ledger, pace: CallerPace) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.seconds = seconds
        self.ledger = ledger
        self._pace = pace
        self._parsing = PassBudget(PARSED, rest=0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application with a `receive` that counts bytes, and checks the time until the body is complete."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = header(scope, b"content-length") or "0"
        size = int(announced) if len(announced) < 20 else self.max_bytes + 1
        packed = (header(scope, b"content-encoding") or "").strip().lower() not in ("", "identity")
        if size <= SMALL and not packed and header(scope, b"transfer-encoding") is None:
            small = partial(self._run, scope, receive, size <= self.max_bytes)
            await self._pace.begin(small, request_context(scope).caller, send)
            return
        context = request_context(scope)
        work = self._run(scope, receive, size <= self.max_bytes, send)
        aside = 0.0 if packed else min(size, self.max_bytes) * BYTE_SECONDS  # compressed bodies: see `Arriving`
        await self._pace.run(work, context.caller, aside, context.on_leaving)

    async def _run(self, scope: Scope, receive: Receive, fits: bool, send: Send) -> None:
        context = request_context(scope)
        with self.ledger.take(0, context.caller) as lease, self.ledger.take(0, context.caller) as coming:
            context.lease = lease
            turns = Turns(self._pace, self._parsing, context.caller, context.on_leaving)
            body = Arriving(receive, self.max_bytes, self.seconds, (lease, coming), turns, WHOLE in scope)
            context.take_lines = body.take_lines
            body.encoding = header(scope, b"content-encoding") or ""
            if not fits:
                body.left = -1
            try:
                await self.app(scope, body.receive, send)
            finally:
                context.take_lines = None  # it refers back here: all would wait for the garbage collector


class Turns:
    """Decides when more of a body may be decompressed or passed on, by the load of other bodies and its caller's
    pace."""

    def __init__(self, pace: CallerPace, parsing: PassBudget, caller: Hashable, on_leaving: OnLeaving) -> None:
        self.parsing = parsing
        self._pace = pace
        self._caller = caller
        self._gone = False
        self._leaves: Callable[[], None] | None = None  # ends what waits now
        on_leaving(self._leave)

    def _leave(self) -> None:
        self._gone = True
        if self._leaves is not None:
            self._leaves()

    def _wait(self, leaves: Callable[[], None]) -> None:
        self._leaves = leaves

    async def take(self, size: int, seconds: float = 0.0) -> None:
        """Wait for a pass of the event loop with room for some bytes, and until its caller may use some seconds.

        Raises HTTPException where the client leaves.
        """
        if seconds and not self._gone:
            await self._pace.turn(self._caller, seconds, self._wait)
            self._leaves = None
        await self.parsing.enter(size, self._wait)
        self._leaves = None
        self.check()

    def check(self) -> None:
        """Raise HTTPException if the client has disconnected."""
        if self._gone:
            raise HTTPException(499, GIVEN_UP)


class Arriving:
    """An incoming body, with a limit of bytes and of seconds.

    leases: one for the body and its parsed values, and one for bytes that came but are not passed on yet.
    encoding: the header Content-Encoding; of a compressed body, the decompressed bytes are counted.
    there: whether all of it has come, so that no wait is needed.
    left: bytes it may still have; negative if it is already too large.
    """

    def __init__(
        self,
        receive: Receive,
        most: int,
        seconds: float,
        leases: tuple[Lease, Lease],
        turns: Turns,
        there: bool = False,
    ) -> None:
        self.left = most
        self._receive = receive
        self._most = most
        self._seconds = seconds
        self._there = there
        self._deadline: float | None = math.inf if there else asyncio.get_running_loop().time() + seconds
        self._lease, self._coming = leases
        self._turns = turns
        self._cost = JsonCost()
        self._decoded: Decoded | None = None
        self._by_lines = False
        self._line = 1
        self._piece = b""  # bytes of lines that came but are not passed on yet
        self._more = True
        self._packed = 0  # bytes charged to the lease for decompression
        self.encoding = ""

    def take_lines(self) -> None:
        """Apply the limits to each line from now on; the reader shrinks the lease by what is no longer held."""
        self._by_lines = True
        self.left = self._most

    async def receive(self) -> Message:
        """The next message, once it is counted; a few lines at a time."""
        if self.left < 0:
            raise self._too_large()
        if self._deadline is None:
            return await self._receive()  # the client goes away
        self._turns.check()
        if not self._piece:
            message = await self._next()
            self._piece, self._more = message.get("body", b""), message.get("more_body", False)
            self._hold()
        if self._by_lines:
            piece = await self._few_lines()
        else:
            piece, self._piece = self._piece, b""
            await self._count(piece, last=not self._more)
        more = self._more or bool(self._piece)
        if not more:
            self._deadline = None
            if not self._by_lines:
                await self._turns.take(self._most - self.left)
        return {"type": "http.request", "body": piece, "more_body": more}

    async def _next(self) -> Message:
        """The next message, decompressed. Raises HTTPException if it does not come in time or at all."""
        if self.encoding and (coding := coding_of(self.encoding)) is not None:
            self._decoded = Decoded(self._receive, coding)
            self._receive = self._decoded.receive
        self.encoding = ""
        if self._decoded is not None:
            await self._turn(0.0)
        if self._by_lines and self._deadline is not None:
            self._deadline = asyncio.get_running_loop().time() + self._seconds
        try:
            async with asyncio.timeout_at(self._deadline) if not self._there else nullcontext():
                message = await self._receive()
        except TimeoutError as error:
            sentence = f"The body did not come within {self._seconds:g} seconds; send it faster, or a shorter one."
            raise HTTPException(408, sentence) from error
        if message["type"] == "http.disconnect":
            raise HTTPException(499, GIVEN_UP)  # otherwise FastAPI would answer that the body is bad
        if self._decoded is not None and not self._by_lines:
            await self._turn(len(message["body"]) * BYTE_SECONDS)
        return message

    async def _turn(self, seconds: float) -> None:
        """Wait for a turn, which is not counted against the client's time."""
        clock = asyncio.get_running_loop().time
        began = clock()
        await self._turns.take(PARSED, seconds)
        if self._deadline is not None:
            self._deadline += clock() - began

    def _hold(self) -> None:
        """Charge bytes that came but are not passed on yet; in a separate lease only if the reader shrinks the
        other."""
        size = 0 if self._decoded is None else self._decoded.held
        if self._by_lines:
            size += len(self._piece)
            self._coming.shrink(size)
            self._charge(size - self._coming.size, self._coming)
        elif size > self._packed:
            self._charge(size - self._packed)
            self._packed = size

    async def _few_lines(self) -> bytes:
        """The next received lines, counted, once it is their turn."""
        most = min(len(self._piece), SLICE)
        found = FEW_LINES.match(self._piece, 0, most)
        end = found.end() if found is not None else 0
        if self._piece.find(b"\n", end, most) < 0:
            end = most
        piece, self._piece = self._piece[:end], self._piece[end:]
        if piece:
            self._charge(len(piece))
            self._hold()
            lines = self._add_lines(piece)
            await self._turn(len(piece) * LINE_BYTE_SECONDS + lines * LINE_SECONDS)
        return piece

    async def _count(self, piece: bytes, last: bool) -> None:
        """Count a part of a body, and at its end charge its parsed values."""
        self._take(len(piece))
        if last and len(piece) <= SLICE:  # true for nearly all bodies
            self._add(piece)
            self._charge(len(piece) + self._cost.parsed)
            return
        self._charge(len(piece))
        began = time.perf_counter()
        for at in range(0, len(piece), SLICE):
            self._add(piece[at : at + SLICE])
            if time.perf_counter() - began > TURN_SECONDS:
                await self._turns.take(PARSED)
                began = time.perf_counter()
        if last:
            self._charge(self._cost.parsed)

    def _add_lines(self, part: bytes) -> int:
        """Count bytes of lines, each line apart; returns how many are not empty."""
        lines = at = 0
        for line in LINE.finditer(part):
            lines += 1
            self._end_lines(part.count(b"\n", at, line.start()))
            at = line.end()
            self._take(at - line.start())
            self._add(line[0])
        self._end_lines(part.count(b"\n", at))
        return lines

    def _end_lines(self, count: int) -> None:
        if count:
            self.left, self._cost = self._most, JsonCost()
            self._line += count

    def _add(self, part: bytes) -> None:
        """Count the cost of parsing some bytes. Raises HTTPException if it is too high."""
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

    def _charge(self, size: int, lease: Lease | None = None) -> None:
        try:
            (lease or self._lease).grow(size)
        except (MemorySpent, TooCostly) as error:  # FastAPI would treat these as an unreadable body
            raise HTTPException(503, str(error)) from error

    def _too_large(self) -> HTTPException:
        what = f"Line {self._line:,} of the body" if self._by_lines else "The body"
        return HTTPException(413, f"{what} is larger than {self._most:,} bytes; send a shorter one.")

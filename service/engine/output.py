"""Passes the texts of one request from the engine to the task that answers it."""

import asyncio
from io import StringIO
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.decoding.beams import Found
from model.decoding.state import RowState
from model.errors import ServiceError
from model.text.text_stream import FinishReason
from service.process.ledger import Lease

HELD_BYTES = 4  # the most memory of a character or a number
UNCHARGED = 4096  # bytes of a stream that may wait uncharged; the request's texts are charged for them
CHARGE = 1 << 16  # bytes charged at a time
PART_BYTES = 800  # of the arrays of a text's ids of one call, in addition to their numbers
MOST_SEPARATE = 16  # such arrays of a text, until they are joined


class Logprobs(NamedTuple):
    """Some drawn ids of a text and their log-probabilities in the model's own distribution.

    ids: (T,).
    logprobs: ln p of each, (T,). top_ids, top_logprobs: of the likeliest ids at each position, (T, N).
    """

    ids: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    top_ids: NDArray[np.int32]
    top_logprobs: NDArray[np.float32]

    def part(self, start: int, end: int) -> "Logprobs":
        """The part from `start` up to `end`."""
        return Logprobs(
            self.ids[start:end], self.logprobs[start:end], self.top_ids[start:end], self.top_logprobs[start:end]
        )


class Piece(NamedTuple):
    """The growth of a text; the last piece, which may be empty, says why the text ended.

    tokens: ids drawn so far, including those whose text is held back or belongs to a stop string.
    stop_reason: the stop string that ended the text; None if an item ended by itself.
    logprobs: of the ids since the previous piece, if requested.
    state: after the text, in its last piece, if requested.
    """

    text: str
    finish_reason: FinishReason | None = None
    tokens: int = 0
    stop_reason: str | None = None
    logprobs: Logprobs | None = None
    state: RowState | None = None


def found_piece(found: Found, logprobs: int | None) -> Piece:
    """A text of a beam search as one piece, with as many of the likeliest ids as requested."""
    reported = None
    if logprobs is not None:
        reported = Logprobs(found.ids, found.logprobs, found.top_ids, found.top_logprobs)
    return Piece(found.text, found.finish_reason, found.tokens, found.stop_reason, reported)


class Output:
    """The texts of a request by their index; used in the event loop's thread only.

    texts: the number of texts of the request.
    every_piece: `take` returns for every piece; otherwise once, when all texts have ended.
    lease: is charged for pieces that wait, and for the pieces taken last; None charges nothing. Texts that are
    delivered whole are charged before they are drawn.
    """

    def __init__(self, texts: int, every_piece: bool, lease: Lease | None = None) -> None:
        self._every_piece = every_piece
        self._lease = lease if every_piece else None
        self._charged = self._charged_before = 0  # bytes: for what waits, and for the pieces taken last
        self._texts = [StringIO() for _ in range(texts)]  # text that has arrived and was not taken
        self._logprobs = [WaitingLogprobs() for _ in range(texts)]
        self._parts = 0  # parts that wait, of all texts
        self._latest: dict[int, Piece] = {}  # the last piece of each text that has grown since the last take
        self._unfinished = texts  # texts whose end has not arrived
        self._untaken = texts  # texts whose end has not been taken
        self._error: ServiceError | None = None
        self.failed = False
        """Whether there was an error."""
        self.arrived = False
        """Whether there is something to take."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._taker: asyncio.Future[bool] | None = None  # becomes true once something is there, false after a silence
        self._silent_at = 0.0
        self._silence: asyncio.TimerHandle | None = None  # one for many calls of `take`, as most end long before it
        self.held = 0
        """The amount that has arrived and was not taken, in characters; each reported number counts as one, too."""
        self.drawn = 0
        """The number of ids of all texts that have arrived."""
        self._tokens = [0] * texts

    def put(self, index: int, piece: Piece) -> None:
        """Add the next piece of one text. Raises MemorySpent if there is no room for more that waits."""
        self._texts[index].write(piece.text)
        self.held += len(piece.text)
        if piece.logprobs is not None:
            self.held += 2 * (len(piece.logprobs.ids) + piece.logprobs.top_ids.size)
            self._parts += self._logprobs[index].add(piece.logprobs)
        self._latest[index] = piece
        self.drawn += piece.tokens - self._tokens[index]
        self._tokens[index] = piece.tokens
        if piece.finish_reason is not None:
            self._unfinished -= 1
        if self._every_piece or not self._unfinished:
            self._arrive()
        waiting = HELD_BYTES * self.held + PART_BYTES * self._parts
        if self._lease is not None and waiting > self._charged + UNCHARGED:
            self._lease.grow(CHARGE)
            self._charged += CHARGE

    def _arrive(self) -> None:
        self.arrived = True
        if self._taker is not None and not self._taker.done():
            self._taker.set_result(True)

    def fail(self, error: ServiceError) -> None:
        """Make `take` raise `error` after the pieces that have arrived; after the end of all texts this has no
        effect."""
        self._error, self.failed = error, True
        self._arrive()

    def forget(self) -> None:
        """Nothing is taken any more: drop the error, which refers to the frames that it passed and so back to
        this."""
        self._error = None

    @property
    def ended(self) -> bool:
        """Whether `take` has returned the end of every text."""
        return not self._untaken

    async def take(self, timeout: float | None = None) -> list[tuple[int, Piece]]:
        """(index, piece) of each text that has grown since the last call; waits until there is one.

        timeout: seconds after which it returns nothing; None waits without a limit.

        A client that reads slowly gets longer pieces. Raises the ServiceError given to `fail`: in a stream after the
        pieces that have arrived, otherwise in place of unfinished texts.
        """
        if not self.arrived and not await self._arrival(timeout):
            return []
        if self._error is not None and self._unfinished and not (self._latest and self._every_piece):
            raise self._error.with_traceback(None)
        if self._error is None:
            self.arrived = False
        grown = [(index, self._join(index)) for index in sorted(self._latest)]
        self._latest.clear()
        self.held = self._parts = 0
        if self._lease is not None and (self._charged or self._charged_before):
            self._lease.shrink(self._lease.size - self._charged_before)
            self._charged, self._charged_before = 0, self._charged
        self._untaken -= sum(piece.finish_reason is not None for _, piece in grown)
        return grown

    async def _arrival(self, timeout: float | None) -> bool:
        """Wait until there is something to take; False if nothing has come in this many seconds."""
        loop = self._loop = self._loop or asyncio.get_running_loop()  # the lookup is a system call
        self._taker = loop.create_future()
        if timeout is not None:
            self._silent_at = loop.time() + timeout
            if self._silence is None or self._silence.when() > self._silent_at:
                self.close()
                self._silence = loop.call_at(self._silent_at, self._fall_silent, loop)
        try:
            return await self._taker
        finally:
            self._taker = None

    def _fall_silent(self, loop: asyncio.AbstractEventLoop) -> None:
        """End a wait that has lasted long enough; a wait that began later continues."""
        self._silence = None
        if self._taker is None or self._taker.done():
            return
        if loop.time() < self._silent_at:
            self._silence = loop.call_at(self._silent_at, self._fall_silent, loop)
        else:
            self._taker.set_result(False)

    def close(self) -> None:
        """Forget the timer; `take` may still be called."""
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def _join(self, index: int) -> Piece:
        text, self._texts[index] = self._texts[index].getvalue(), StringIO()
        logprobs, self._logprobs[index] = self._logprobs[index], WaitingLogprobs()
        return self._latest[index]._replace(text=text, logprobs=logprobs.joined())


class WaitingLogprobs:
    """Waiting log-probabilities of one text, in few arrays: a small array takes more memory than its numbers."""

    __slots__ = ("_blocks", "_separate")

    def __init__(self) -> None:
        self._blocks: list[Logprobs] = []
        self._separate: list[Logprobs] = []

    def add(self, part: Logprobs) -> int:
        """Add the next ones; returns the change in the number of parts."""
        self._separate.append(part)
        if len(self._separate) < MOST_SEPARATE:
            return 1
        self._blocks.append(join_logprobs(self._separate))
        self._separate = []
        return 2 - MOST_SEPARATE

    def joined(self) -> Logprobs | None:
        """All of them as one; None if there are none."""
        parts = self._blocks + self._separate
        return join_logprobs(parts) if parts else None


def join_logprobs(parts: list[Logprobs]) -> Logprobs:
    """The parts in order as one; there is at least one part."""
    return Logprobs(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


Grown = list[tuple[int, Piece]]

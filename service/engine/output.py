"""The texts of one request on their way from the engine to the task that answers it."""

import asyncio
from io import StringIO
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.errors import ServiceError
from model.text.text_stream import FinishReason


class Logprobs(NamedTuple):
    """Some drawn ids of a text and how likely they were in the model's own distribution.

    ids: (T,). logprobs: ln p of each, (T,). top_ids, top_logprobs: of the likeliest ids at each position, (T, N).
    """

    ids: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    top_ids: NDArray[np.int32]
    top_logprobs: NDArray[np.float32]

    def part(self, start: int, end: int) -> "Logprobs":
        """Those from `start` up to `end`."""
        return Logprobs(
            self.ids[start:end], self.logprobs[start:end], self.top_ids[start:end], self.top_logprobs[start:end]
        )


class Piece(NamedTuple):
    """What a text grew by; the last piece, which may be empty, says why the text ended.

    tokens: ids drawn so far, also those whose text is held back or belongs to a stop string.
    stop_reason: the stop string that ended the text. logprobs: of the ids since the piece before, if asked for.
    """

    text: str
    finish_reason: FinishReason | None = None
    tokens: int = 0
    stop_reason: str | None = None
    logprobs: Logprobs | None = None


class Output:
    """The texts of a request by their index; used in the event loop's thread only.

    texts: how many texts the request has.
    every_piece: `take` returns for every piece; otherwise once, when all texts have ended.
    """

    def __init__(self, texts: int, every_piece: bool) -> None:
        self._every_piece = every_piece
        self._texts = [StringIO() for _ in range(texts)]  # what has arrived and was not taken
        self._logprobs: list[list[Logprobs]] = [[] for _ in range(texts)]
        self._latest: dict[int, Piece] = {}  # the last piece of each text that has grown since
        self._unfinished = texts  # texts whose end has not arrived
        self._untaken = texts  # texts whose end has not been taken
        self._error: ServiceError | None = None
        self._arrived = asyncio.Event()
        self.held = 0
        """What has arrived and was not taken, in characters; each reported number counts as one, too."""
        self.tokens = [0] * texts
        """Ids drawn for each text, as far as has arrived."""

    def put(self, index: int, piece: Piece) -> None:
        """Take the next piece of one text."""
        self._texts[index].write(piece.text)
        self.held += len(piece.text)
        if piece.logprobs is not None:
            self.held += 2 * (len(piece.logprobs.ids) + piece.logprobs.top_ids.size)
            self._logprobs[index].append(piece.logprobs)
        self._latest[index] = piece
        self.tokens[index] = piece.tokens
        if piece.finish_reason is not None:
            self._unfinished -= 1
        if self._every_piece or not self._unfinished:
            self._arrived.set()

    def fail(self, error: ServiceError) -> None:
        """Let `take` raise `error` after what has arrived; after the end of all texts an error has no effect."""
        self._error = error
        self._arrived.set()

    @property
    def ended(self) -> bool:
        """Whether `take` has returned the end of every text."""
        return not self._untaken

    async def take(self, timeout: float | None = None) -> list[tuple[int, Piece]]:
        """(index, piece) of each text that grew since the last call; waits until there is one.

        timeout: seconds after which it returns nothing; None waits for as long as it takes.

        A client that reads slowly gets longer pieces. Raises the ServiceError given to `fail`: in a stream after the
        pieces that have arrived, otherwise in place of unfinished texts.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._arrived.wait()
        except TimeoutError:
            return []
        if self._error is not None and self._unfinished and not (self._latest and self._every_piece):
            raise self._error
        if self._error is None:
            self._arrived.clear()
        grown = [(index, self._join(index)) for index in sorted(self._latest)]
        self._latest.clear()
        self.held = 0
        self._untaken -= sum(piece.finish_reason is not None for _, piece in grown)
        return grown

    def _join(self, index: int) -> Piece:
        text, self._texts[index] = self._texts[index].getvalue(), StringIO()
        logprobs, self._logprobs[index] = self._logprobs[index], []
        return self._latest[index]._replace(text=text, logprobs=join_logprobs(logprobs) if logprobs else None)


def join_logprobs(parts: list[Logprobs]) -> Logprobs:
    """The parts in order as one; there is at least one part."""
    return Logprobs(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


Grown = list[tuple[int, Piece]]

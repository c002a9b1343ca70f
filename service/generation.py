"""The plain record of one text being generated, of the request it belongs to, and of where its text goes."""

import asyncio
from collections.abc import Sequence
from io import StringIO

import numpy as np
from numpy.typing import NDArray

from model.errors import ServiceError
from model.generate import Piece, Prompt
from model.sampling import RowSampling, SamplingParameters
from model.text_stream import TextStream
from model.tokenizer import Tokenizer


class Output:
    """The text of one request on its way to whoever asked; used in the event loop's thread only.

    texts: how many texts the request has.
    every_piece: wake the reader for every piece; otherwise once, when all texts have ended.
    """

    def __init__(self, texts: int, every_piece: bool) -> None:
        self._every_piece = every_piece
        self._texts = [StringIO() for _ in range(texts)]  # what has arrived and was not taken
        self._latest: dict[int, Piece] = {}  # the last piece of each text that has grown since
        self._unfinished = texts  # texts whose end has not arrived
        self._untaken = texts  # texts whose end has not been taken
        self._error: ServiceError | None = None
        self._arrived = asyncio.Event()

    def put(self, choice: int, piece: Piece) -> None:
        """Take the next piece of one text."""
        self._texts[choice].write(piece.text)
        self._latest[choice] = piece
        if piece.finish_reason is not None:
            self._unfinished -= 1
        if self._every_piece or not self._unfinished:
            self._arrived.set()

    def fail(self, error: ServiceError) -> None:
        """Let the reader raise `error` after what has arrived; an error after the end is too late to matter."""
        self._error = error
        self._arrived.set()

    @property
    def ended(self) -> bool:
        """Whether `take` has returned the end of every text."""
        return not self._untaken

    async def take(self) -> list[tuple[int, Piece]]:
        """(choice, piece) of each text that grew since the last call; waits until there is one.

        Whoever reads slowly gets longer pieces. Raises the ServiceError that `fail` was given, after the pieces of a
        stream, and instead of unfinished texts.
        """
        await self._arrived.wait()
        if self._error is not None and self._unfinished and not (self._latest and self._every_piece):
            raise self._error
        if self._error is None:
            self._arrived.clear()
        grown = [(choice, self._join(choice)) for choice in sorted(self._latest)]
        self._latest.clear()
        self._untaken -= sum(piece.finish_reason is not None for _, piece in grown)
        return grown

    def _join(self, choice: int) -> Piece:
        text, self._texts[choice] = self._texts[choice].getvalue(), StringIO()
        return self._latest[choice]._replace(text=text)


class Generation:
    """One text being generated: a row of the batch while it runs.

    request: what it is part of; choice: which of its texts this is.
    prompt: ids to read before the first draw (n,), n ≥ 1.
    read: how many of them the decoder has read, the last not counted.
    drawn: how many ids have been drawn.
    """

    __slots__ = ("choice", "drawn", "max_tokens", "prompt", "read", "request", "sampling", "stream")

    def __init__(
        self, request: "GenerationRequest", choice: int, sampling: RowSampling, stream: TextStream, max_tokens: int
    ) -> None:
        self.request = request
        self.choice = choice
        self.prompt: NDArray[np.int64] = request.prompt.ids
        self.sampling = sampling
        self.stream = stream
        self.max_tokens = max_tokens
        self.read = 0
        self.drawn = 0

    @property
    def reading(self) -> bool:
        """Whether the prompt goes on after the id at `read`, so that nothing can be drawn yet."""
        return self.read < len(self.prompt) - 1

    def accept(self, token: int) -> Piece:
        """Add a drawn id to the text; what may be shown now, and why the text ends if it does."""
        self.drawn += 1
        text = self.stream.decode(token)
        if self.stream.stopped is not None:
            return Piece(text, "stop", self.drawn)
        if self.drawn == self.max_tokens:
            return Piece(text + self.stream.flush(), "length", self.drawn)
        return Piece(text, None, self.drawn)


class GenerationRequest:
    """One prompt to be continued by `n` texts that differ only in their draws.

    ids: the id of each column of the decoder's logits (S,).
    every_piece: whether whoever asked wants the text as it comes.
    Raises ParameterError on a stop string that is empty or too long.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        ids: NDArray[np.int64],
        prompt: str,
        *,
        parameters: SamplingParameters,
        max_tokens: int,
        stop: Sequence[str] = (),
        n: int = 1,
        every_piece: bool = False,
    ) -> None:
        self.prompt = Prompt(tokenizer, ids, prompt)
        self.parameters = parameters
        self.output = Output(n, every_piece)
        self.rows = [
            Generation(
                self,
                choice,
                RowSampling(parameters, ids, self.prompt.ids, choice),
                TextStream(tokenizer, stop),
                max_tokens,
            )
            for choice in range(n)
        ]

"""Cuts a body that comes a piece at a time into lines, and the lines into blocks of texts that are scored together."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from model.errors import ParameterError
from service.analysis.score_schemas import ScoreLine
from service.api.error_responses import INVALID, Failure, openai_shape
from service.api.problems import remedy
from service.api.promises import check_promises
from service.api.sse import ENCODE
from service.inference.cost import text_bytes

MOST_LINES = 64  # of a block: side by side they keep the engine busy, and leave room for others
MOST_CHARACTERS = 1 << 16  # of a block of more than one line
PAUSE_SECONDS = 0.005  # without a line, after which a block is scored as it is
LINE_BYTES = 1_000  # of memory that a line of a block takes beside its text
FULL_LINE = re.compile(rb"[^ \t\r\n\x0b\x0c][^\n]*")  # from its first byte that is not blank


class Line(NamedTuple):
    """A line with a text. number: which of the body, from 1."""

    number: int
    asked: ScoreLine


@dataclass(slots=True)
class Block:
    """Lines that are scored together, alike but for their texts; or what is wrong with one line.

    size: characters of their texts and contexts. held: bytes of memory that they take.
    """

    lines: list[Line] = field(default_factory=list)
    size: int = 0
    held: int = 0
    wrong: bytes = b""

    @property
    def context(self) -> str:
        """What is read before each text."""
        return self.lines[0].asked.context or "" if self.lines else ""

    @property
    def memory(self) -> bool:
        """Whether the texts are read with the online memory."""
        return bool(self.lines) and self.lines[0].asked.memory

    def add(self, line: Line) -> None:
        """Let a line join."""
        texts = (line.asked.text, line.asked.context or "")
        self.lines.append(line)
        self.size += sum(map(len, texts))
        self.held += LINE_BYTES + text_bytes(texts)

    def fits(self, line: Line, most_work: int) -> bool:
        """Whether a line may join."""
        work = self.size + len(line.asked.text) + len(line.asked.context or "")
        alike = not self.lines or (line.asked.context or "", line.asked.memory) == (self.context, self.memory)
        return alike and len(self.lines) < MOST_LINES and (not self.lines or work <= min(MOST_CHARACTERS, most_work))


class LineBlocks:
    """Cuts a body into lines, and the lines into blocks, as they come.

    lacking: why the model has no memory; empty where it has one.
    """

    def __init__(self, receive: Receive, most_work: int, at_once: int, lacking: str) -> None:
        self._receive, self._most_work, self._at_once = receive, most_work, at_once
        self._lacking = lacking
        self._rest = bytearray()  # of a line whose end has not come
        self._number = 1
        self._block = Block()
        self._given = Block()  # which may wait for its turn to be read
        self._piece = 0  # bytes of the piece of the body that is cut now

    @property
    def held(self) -> int:
        """Bytes of memory that it holds, with the block that was given last."""
        return len(self._rest) + self._block.held + self._given.held + self._piece

    async def blocks(self) -> AsyncGenerator[Block, None]:
        """The blocks, each as soon as it is full or no more lines come for a moment."""
        more = True
        while more:
            arriving = asyncio.ensure_future(self._receive())
            arriving.add_done_callback(_seen)
            try:
                if self._block.lines and not (await asyncio.wait({arriving}, timeout=PAUSE_SECONDS))[0]:
                    yield self._full()
                message = await arriving
            except HTTPException:  # what is wrong with the next part of the body; this one is whole
                self._rest = bytearray()
                if self._block.lines:
                    yield self._full()
                raise
            finally:
                arriving.cancel()
                del arriving  # whose error leads back here: all would wait for the garbage collector
            more = message.get("more_body", False)
            self._piece = len(message.get("body", b""))
            for line in self._lines(message.get("body", b""), not more):
                for block in self._add(line):
                    yield block
            self._piece = 0
        if self._block.lines:
            yield self._full()

    def _lines(self, piece: bytes, end: bool) -> Iterator[bytes | bytearray]:
        """The lines that are whole with the next bytes and not blank, each while its number is `_number`."""
        at = 0
        if self._rest:
            at = piece.find(b"\n")
            if at < 0 and not end:
                self._rest += piece
                return
            at = len(piece) if at < 0 else at
            line, self._rest = self._rest, bytearray()
            line += piece[:at]
            yield line
        for found in FULL_LINE.finditer(piece, at):
            self._number += piece.count(b"\n", at, found.start())
            at = found.end()
            if at == len(piece) and not end:
                self._rest = bytearray(found[0])
                return
            yield found[0]
        self._number += piece.count(b"\n", at)

    def _add(self, line: bytes | bytearray) -> list[Block]:
        """Put a line into the block; the blocks that are full then."""
        try:
            asked = Line(self._number, self._parsed(line))
        except ParameterError as error:
            before = [self._full()] if self._block.lines else []
            failure = Failure(400, str(error), INVALID, "invalid_value", error.parameter)
            return [*before, Block(wrong=wrong_line(self._number, failure))]
        full = [] if self._block.fits(asked, self._most_work) else [self._full()]
        self._block.add(asked)
        return [*full, self._full()] if len(self._block.lines) >= self._at_once else full

    def _parsed(self, line: bytes | bytearray) -> ScoreLine:
        """What a line asks for. Raises ParameterError with its number."""
        where = f"line {self._number:,}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            raise ParameterError(
                "text", f'{where} is no JSON; send a text, or an object such as {{"text": "…"}}.'
            ) from None
        try:
            asked = ScoreLine.model_validate({"text": value} if isinstance(value, str) else value)
        except ValidationError as error:
            problem = error.errors()[0]
            name = ".".join(map(str, problem["loc"])) or "text"
            raise ParameterError(name, f"{where}, {name}: {remedy(problem)}.") from None
        check_promises(asked.model_extra, f"{where}, ")
        if asked.memory and self._lacking:
            raise ParameterError("memory", f"{where}: {self._lacking}")
        work = len(asked.text) + len(asked.context or "")
        if work > self._most_work:
            message = f"{where} would read {work:,} characters; this server's max_work is {self._most_work:,}."
            raise ParameterError("text", f"{message} Send a shorter text, or a shorter context.")
        return asked

    def _full(self) -> Block:
        self._given, self._block = self._block, Block()
        return self._given


def _seen(arriving: asyncio.Future[Message]) -> None:
    """Take note of an error that nobody waits for any more."""
    if not arriving.cancelled():
        arriving.exception()


def wrong_line(number: int | None, failure: Failure) -> bytes:
    """A line that says what is wrong with one, or with None why there are no more."""
    _, body = openai_shape(failure)
    return f"{ENCODE({'line': number, **body})}\n".encode()

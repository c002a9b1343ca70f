"""Texts that come one a line, in any number, and leave as lines of scores; few of them are held at a time."""

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fastapi import Request
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from model.errors import ParameterError, ServiceError
from model.online_memory.weights import lacking
from model.sampling.parameters import SamplingParameters
from service.analysis.score_answer import ScoreAnswer
from service.analysis.score_schemas import ScoreLine, ScoreRequest
from service.api.error_responses import FAULT, INVALID, Failure, of_http_exception, of_service_error, openai_shape
from service.api.problems import remedy
from service.api.promises import check_promises
from service.api.request_fields import origin_of
from service.api.sse import ENCODE
from service.engine.engine import SPENT, Engine
from service.engine.text_request import TextRequest
from service.errors import MemorySpent, QueueFull
from service.inference.cost import text_bytes
from service.inference.served_model import ServedModel
from service.inference.texts import Texts
from service.request_context import request_context

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/x-ndjson"
MOST_LINES = 64  # of a block: side by side they keep the engine busy, and leave room for others
MOST_CHARACTERS = 1 << 16  # of a block of more than one line
AT_ONCE = 2  # blocks that are scored at a time: rows that one leaves are filled by the next
PAUSE_SECONDS = 0.005  # without a line, after which a block is scored as it is
MOST_WAITING = 4 << 20  # bytes of scores that wait for a reader before no more lines are read
PATIENCE_SECONDS = 60.0  # that a block waits for room in the queue and in memory, which the first one does not
RETRY_SECONDS = 0.05
WORTH_KEEPING = 64  # tokens; a context of at least this many is read once for all texts, a shorter one with each text


class Line(NamedTuple):
    """A line with a text. number: which of the body, from 1."""

    number: int
    asked: ScoreLine


@dataclass(slots=True)
class Block:
    """Lines that are scored together, alike but for their texts; or what is wrong with one line."""

    lines: list[Line] = field(default_factory=list)
    size: int = 0
    wrong: bytes = b""

    @property
    def context(self) -> str:
        """What is read before each text."""
        return self.lines[0].asked.context or "" if self.lines else ""

    @property
    def memory(self) -> bool:
        """Whether the texts are read with the online memory."""
        return bool(self.lines) and self.lines[0].asked.memory

    def fits(self, line: Line, most_work: int) -> bool:
        """Whether a line may join."""
        work = self.size + len(line.asked.text) + len(line.asked.context or "")
        alike = not self.lines or (line.asked.context or "", line.asked.memory) == (self.context, self.memory)
        return alike and len(self.lines) < MOST_LINES and (not self.lines or work <= min(MOST_CHARACTERS, most_work))


class Reading(NamedTuple):
    """A block whose texts are read, or a line that is there already.

    first: index of the block's first score. charged: bytes for it, that are given back once its scores are there.
    """

    block: Block
    answer: ScoreAnswer | None = None
    texts: Texts | None = None
    first: int = 0
    charged: int = 0

    async def scores(self) -> bytes:
        """Its lines, once all its texts are read."""
        if self.answer is None or self.texts is None:
            return self.block.wrong
        await self.texts.take()
        self.release()
        results = zip(self.block.lines, self.answer.results(), strict=True)
        return "".join(
            f"{ENCODE({**result, 'line': line.number, 'index': index})}\n"
            for index, (line, result) in enumerate(results, self.first)
        ).encode()

    def release(self) -> None:
        """Have no more of its texts read; again does nothing."""
        if self.texts is not None:
            self.texts.release()


class LineBlocks:
    """Cuts a body into lines, and the lines into blocks, as they come.

    lacking: why the model has no memory; empty where it has one.
    """

    def __init__(self, receive: Receive, most_work: int, at_once: int, lacking: str) -> None:
        self._receive, self._most_work, self._at_once = receive, most_work, at_once
        self._lacking = lacking
        self._rest: list[bytes] = []  # of a line whose end has not come
        self._number = 0
        self._block = Block()
        self._piece = 0  # bytes of the piece of the body that is cut now

    @property
    def held(self) -> int:
        """Bytes of the body that are held beside the block that was given last."""
        return sum(map(len, self._rest)) + self._block.size + self._piece

    async def blocks(self) -> AsyncIterator[Block]:
        """The blocks, each as soon as it is full or no more lines come for a moment."""
        more = True
        while more:
            arriving = asyncio.ensure_future(self._receive())
            try:
                if self._block.lines and not (await asyncio.wait({arriving}, timeout=PAUSE_SECONDS))[0]:
                    yield self._full()
                message = await arriving
            except HTTPException:  # what is wrong with the next part of the body; this one is whole
                if self._block.lines:
                    yield self._full()
                raise
            finally:
                arriving.cancel()
            more = message.get("more_body", False)
            self._piece = len(message.get("body", b""))
            for line in self._lines(message.get("body", b""), not more):
                self._number += 1
                if line.strip():
                    for block in self._add(line):
                        yield block
            self._piece = 0
        if self._block.lines:
            yield self._full()

    def _lines(self, piece: bytes, end: bool) -> list[bytes]:
        """The lines that are whole with the next bytes."""
        whole, found, rest = piece.rpartition(b"\n")
        lines: list[bytes] = []
        if found:
            lines = b"".join([*self._rest, whole]).split(b"\n")
            self._rest = []
        self._rest.append(rest)
        if end:
            lines.append(b"".join(self._rest))
            self._rest = []
        return lines

    def _add(self, line: bytes) -> list[Block]:
        """Put a line into the block; the blocks that are full then."""
        try:
            asked = Line(self._number, self._parsed(line))
        except ParameterError as error:
            before = [self._full()] if self._block.lines else []
            failure = Failure(400, str(error), INVALID, "invalid_value", error.parameter)
            return [*before, Block(wrong=wrong_line(self._number, failure))]
        full = [] if self._block.fits(asked, self._most_work) else [self._full()]
        self._block.lines.append(asked)
        self._block.size += len(asked.asked.text) + len(asked.asked.context or "")
        return [*full, self._full()] if len(self._block.lines) >= self._at_once else full

    def _parsed(self, line: bytes) -> ScoreLine:
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
        block, self._block = self._block, Block()
        return block


def wrong_line(number: int | None, failure: Failure) -> bytes:
    """A line that says what is wrong with one, or with None why there are no more."""
    _, body = openai_shape(failure)
    return f"{ENCODE({'line': number, **body})}\n".encode()


class LineScores(Response):
    """An answer of lines, each sent as soon as its block is scored.

    `prepare` scores the first block, and raises what has a status of its own. The body is read on only while less than
    `MOST_WAITING` waits for the reader, so that a client that sends and does not read is held up, not stored.
    """

    media_type = MEDIA_TYPE

    def __init__(self, model: ServedModel, engine: Engine, request: Request, most_work: int, most_texts: int) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._model, self._engine, self._request = model, engine, request
        context = request_context(request.scope)
        assert context.take_lines is not None
        context.take_lines()
        at_once = max(1, min(MOST_LINES, most_texts // (2 * AT_ONCE)))
        without = lacking(model.tokenizer.frame.items) if model.memory is None else ""
        self._lines = LineBlocks(request.receive, most_work, at_once, without)
        self._blocks = self._lines.blocks()
        self._lease = context.lease
        self._base = 0 if context.lease is None else context.lease.size
        self._index = 0
        self._reading: deque[Reading] = deque()  # in the order of their lines
        self._beginning = False  # whether a block is being charged
        self._waiting: list[bytes] = []
        self._size = 0  # of what waits
        self._changed = asyncio.Condition()
        self._all_read = self._ended = False

    async def prepare(self) -> None:
        """Score the first block."""
        async for block in self._blocks:
            await self._begin(block)
            try:
                self._put(await self._reading[0].scores())
            finally:
                self._reading.popleft().release()
            return
        self._all_read = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send the lines until there are no more or the client leaves."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        working = [asyncio.create_task(self._read_all()), asyncio.create_task(self._score_all())]
        try:
            while not (self._ended and not self._waiting):
                async with self._changed:
                    await self._changed.wait_for(lambda: self._waiting or self._ended)
                    body, self._waiting = b"".join(self._waiting), []
                    self._size = 0
                    self._changed.notify_all()
                await send({"type": "http.response.body", "body": body, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            for task in working:
                task.cancel()
            await asyncio.gather(*working, return_exceptions=True)
            for reading in self._reading:
                reading.release()

    async def _read_all(self) -> None:
        """Begin block after block while there is room; what goes wrong becomes the last line."""
        last = b""
        try:
            async for block in self._blocks:
                async with self._changed:
                    await self._changed.wait_for(lambda: self._size < MOST_WAITING and len(self._reading) < AT_ONCE)
                await self._patiently(block)
                async with self._changed:
                    self._changed.notify_all()
        except Exception as error:
            last = self._last_line(error)
        async with self._changed:
            if last:
                self._reading.append(Reading(Block(wrong=last)))
            self._all_read = True
            self._changed.notify_all()

    async def _score_all(self) -> None:
        """Have the lines of block after block sent; what goes wrong becomes the last line."""
        while not self._ended:
            async with self._changed:
                await self._changed.wait_for(lambda: self._reading or self._all_read)
            if not self._reading:
                lines, over = b"", True
            else:
                try:
                    lines, over = await self._reading[0].scores(), False
                except Exception as error:
                    lines, over = self._last_line(error), True
            async with self._changed:
                if self._reading:
                    self._reading.popleft().release()
                self._put(lines)
                self._ended = over
                self._changed.notify_all()

    def _last_line(self, error: Exception) -> bytes:
        """The line that says why there are no more."""
        if isinstance(error, ServiceError):
            failure = of_service_error(error)
        elif isinstance(error, MemoryError):
            failure = of_service_error(SPENT)
        elif isinstance(error, HTTPException):
            failure = of_http_exception(self._request, error)
        else:
            logger.error("Scoring lines failed.", exc_info=error)
            failure = FAULT
        request_context(self._request.scope).failure = failure.code
        return wrong_line(None, failure)

    def _put(self, lines: bytes) -> None:
        if lines:
            self._waiting.append(lines)
            self._size += len(lines)
        self._give_back()

    def _give_back(self) -> None:
        """Give back what was charged for what is no longer held."""
        if self._lease is not None and not self._beginning:
            reading = sum(reading.charged for reading in self._reading)
            self._lease.shrink(self._base + self._lines.held + reading + self._size)

    async def _patiently(self, block: Block) -> None:
        """Have a block read, once there is room for it."""
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return await self._begin(block)
            except (QueueFull, MemorySpent):
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(RETRY_SECONDS)

    async def _begin(self, block: Block) -> None:
        """Have a block read. Raises what `Texts.prepare` and `Texts.submit` do."""
        before = 0 if self._lease is None else self._lease.size
        self._beginning = True
        try:
            answer, texts = await self._submitted(block) if block.lines else (None, None)
            charged = 0 if self._lease is None else self._lease.size - before
            self._reading.append(Reading(block, answer, texts, self._index, charged))
            self._index += len(block.lines)
        finally:
            self._beginning = False
            self._give_back()

    async def _submitted(self, block: Block) -> tuple[ScoreAnswer, Texts]:
        """The texts of a block, which are read from now on, and what takes their scores."""
        texts = [line.asked.text for line in block.lines]
        context = block.context or None
        body = ScoreRequest.model_construct(
            texts=texts, context=context, memory=block.memory, details=False, top_logprobs=0
        )
        answer = ScoreAnswer(self._model, body)
        origin = {**origin_of(self._request), "arrived": time.monotonic()}
        if self._lease is not None:
            self._lease.grow(2 * text_bytes([*texts, *[block.context] * len(texts)]))
        if answer.before.context_tokens >= WORTH_KEEPING and not block.memory and self._engine.cache.capacity:
            asked = TextRequest(prompts=[answer.before.text], parameters=SamplingParameters(), max_tokens=1, **origin)
            await self._done(await Texts.prepare(self._model, self._engine, asked))
        prepared = await Texts.prepare(self._model, self._engine, answer.request(origin))
        answer.expect(prepared)
        prepared.submit()
        return answer, prepared

    async def _done(self, texts: Texts) -> None:
        """Have some texts read."""
        texts.submit()
        try:
            await texts.take()
        finally:
            texts.release()


def is_lines(headers: Mapping[str, Any]) -> bool:
    """Whether a body is announced as JSON, one value a line."""
    kind = str(headers.get("content-type", "")).partition(";")[0].strip().lower()
    return kind in (MEDIA_TYPE, "application/ndjson", "application/jsonl", "application/x-jsonlines")

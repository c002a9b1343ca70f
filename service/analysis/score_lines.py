"""Texts that come one a line, in any number, and leave as lines of scores; few of them are held at a time."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from model.errors import ServiceError
from model.online_memory.weights import lacking
from model.sampling.parameters import SamplingParameters
from service.analysis.line_blocks import MOST_LINES, Block, LineBlocks, wrong_line
from service.analysis.score_answer import ScoreAnswer
from service.analysis.score_schemas import ScoreRequest
from service.api.error_responses import FAULT, of_http_exception, of_service_error
from service.api.request_fields import origin_of
from service.api.sse import ENCODE
from service.engine.engine import SPENT, Engine
from service.engine.text_request import TextRequest
from service.errors import GIVEN_UP, Disconnected, MemorySpent, QueueFull
from service.inference.cost import text_bytes
from service.inference.served_model import ServedModel
from service.inference.texts import Texts
from service.request_context import request_context

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/x-ndjson"
AT_ONCE = 2  # blocks that are scored at a time: rows that one leaves are filled by the next
MOST_WAITING = 4 << 20  # bytes of scores that wait for a reader before no more lines are read
PATIENCE_SECONDS = 60.0  # that a block waits for room in the queue and in memory, which the first one does not
RETRY_SECONDS = 0.05
WORTH_KEEPING = 64  # tokens; a context of at least this many is read once for all texts, a shorter one with each text


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
        self._working: asyncio.Task[None] | None = None
        self._gone = False
        context.on_leaving(self._leave)

    def _leave(self) -> None:
        """End all work, since the client is gone."""
        self._gone = True
        if self._working is not None:
            self._working.cancel()

    async def _attended(self, work: Coroutine[Any, Any, None]) -> None:
        """Do some work; raises Disconnected where the client leaves before it is done."""
        self._working = asyncio.create_task(work)
        if self._gone:
            self._working.cancel()
        try:
            await self._working
        except asyncio.CancelledError:
            if self._gone:
                raise Disconnected(GIVEN_UP) from None
            raise
        finally:
            self._working = None

    async def prepare(self) -> None:
        """Score the first block."""
        await self._attended(self._first())

    async def _first(self) -> None:
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
        with suppress(Disconnected):
            await self._attended(self._send_all(send))

    async def _send_all(self, send: Send) -> None:
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
            await self._blocks.aclose()

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
            failure = of_service_error(MemorySpent(SPENT))
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

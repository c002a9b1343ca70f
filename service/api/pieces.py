"""JSON that is made and sent in pieces, so that no whole answer is in memory and none blocks the event loop."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping

from fastapi import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from model.errors import ServiceError
from service.api.error_responses import NO_MEMORY, of_service_error
from service.api.sse import ENCODE_TEXT
from service.api.streaming import AttendedResponse
from service.engine.engine import Engine
from service.errors import MemorySpent
from service.request_context import request_context

logger = logging.getLogger(__name__)

PIECE = 65_536  # characters of JSON, or bytes of any answer, that are sent at a time
ENTRIES = 4_096  # numbers or short strings that are written as JSON in one call, in about a millisecond


def json_text(text: str) -> Iterator[str]:
    """A string in JSON, in pieces."""
    if len(text) <= PIECE:
        yield ENCODE_TEXT(text)
        return
    yield '"'
    for start in range(0, len(text), PIECE):
        yield ENCODE_TEXT(text[start : start + PIECE])[1:-1]
    yield '"'


def separated(parts: Iterable[str]) -> Iterator[str]:
    """The parts that are not empty, with commas between them."""
    comma = ""
    for part in parts:
        if part:
            yield comma + part
            comma = ","


def gathered(parts: Iterable[str]) -> Iterator[bytes]:
    """The same text in UTF-8, in pieces of about `PIECE` bytes."""
    waiting: list[str] = []
    size = 0
    for part in parts:
        waiting.append(part)
        size += len(part)
        if size >= PIECE:
            yield "".join(waiting).encode()
            waiting.clear()
            size = 0
    if waiting:
        yield "".join(waiting).encode()


async def json_answer(
    parts: Iterator[str], instant: bool, engine: Engine, request: Request, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer of JSON: sent whole if it is made in an instant, otherwise in pieces as they are made.

    Raises DeadlineExceeded if the request's time is over before the first piece, and the errors of what makes it.
    """
    if instant:
        return Response("".join(parts), headers=headers, media_type="application/json")
    context = request_context(request.scope)
    deadline = engine.deadline(context.arrived)
    pieces = engine.background.each(gathered(parts), context.caller)
    try:
        async with asyncio.timeout_at(None if deadline == math.inf else deadline):
            first = await anext(pieces)
    except TimeoutError:
        raise engine.late() from None
    return PieceResponse(first, pieces, engine, deadline, headers)


class PieceResponse(AttendedResponse):
    """An answer that is sent in pieces. If it cannot be finished in time it is cut off, so that it is not valid
    JSON."""

    media_type = "application/json"

    def __init__(
        self,
        first: bytes,
        others: AsyncIterator[bytes],
        engine: Engine,
        deadline: float,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(_chained(first, others), headers=headers)
        self._engine = engine
        self._deadline = deadline

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer until it ends, its time is over, or the client leaves."""
        failure: ServiceError
        try:
            async with asyncio.timeout_at(None if self._deadline == math.inf else self._deadline):
                await super().__call__(scope, receive, send)
        except TimeoutError:
            failure = self._engine.late()
        except MemoryError:
            failure = MemorySpent(NO_MEMORY)
        except ServiceError as error:
            failure = error
        else:
            return
        request_context(scope).failure = of_service_error(failure).code
        logger.warning("An answer was cut off: %s", failure)


async def _chained(first: bytes, others: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in others:
        yield piece


async def in_pieces(message: Message, send: Send) -> None:
    """Send a long part of a body in pieces."""
    body = message["body"]
    last = (len(body) - 1) // PIECE * PIECE
    for at in range(0, last, PIECE):
        await send({"type": message["type"], "body": body[at : at + PIECE], "more_body": True})
    await send({**message, "body": body[last:]})

"""Streams an answer over HTTP: begins its texts, notices a client that leaves, and sends events until the end."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from typing import Any, Protocol

from fastapi import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from model.errors import ServiceError
from service.api.error_responses import Failure, of_service_error, openai_shape
from service.api.sse import DONE, ServerSentEvent
from service.engine.engine import SPENT, Engine
from service.engine.output import Grown
from service.engine.text_request import TextRequest
from service.errors import Disconnected
from service.inference.served_model import ServedModel
from service.inference.texts import INSTANT, Texts
from service.process.background import Result

BROKEN = b"\n\n"
"""The end of an event that was cut off."""
KEEP_ALIVE = b": keep-alive\n\n"
"""A comment, which clients skip: it shows proxies on the way that the stream is alive."""


GIVEN_UP = "The request was given up."


async def begin(texts: Texts, request: Request) -> Grown:
    """Submit the texts and wait for the first pieces; an error until here still has a status of its own.

    The texts have to be released later, but not where this raises. It does as `Texts.submit` and `Texts.take` do, and
    raises Disconnected when the client leaves meanwhile.
    """
    texts.submit()
    listener = asyncio.create_task(_listen(request, texts))
    try:
        return await texts.take()
    except BaseException:
        texts.release()
        raise
    finally:
        listener.cancel()


async def attended(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of some work, which is cancelled when the client leaves; raises Disconnected then."""
    task = asyncio.create_task(work)
    listener = asyncio.create_task(_left(request))
    listener.add_done_callback(lambda _: task.cancel())
    try:
        return await task
    except asyncio.CancelledError:
        if listener.done() and not listener.cancelled():
            raise Disconnected(GIVEN_UP) from None
        raise
    finally:
        task.cancel()
        listener.cancel()


async def prepare(model: ServedModel, engine: Engine, asked: TextRequest, request: Request) -> Texts:
    """The texts of a request, as `Texts.prepare` has them; raises Disconnected where the client leaves meanwhile."""
    preparing = Texts.prepare(model, engine, asked)
    instant = asked.effort <= INSTANT and asked.constraint is None
    return await (preparing if instant else attended(request, preparing))


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _listen(request: Request, texts: Texts) -> None:
    await _left(request)
    texts.fail(Disconnected(GIVEN_UP))


StreamBytes = bytes | Iterator[bytes]
"""Some bytes of a stream, or what makes some more of it piece by piece, in another thread."""


class StreamWriter(Protocol):
    """How a dialect writes a stream of events; each part is sent before the next one is asked for."""

    def grown(self, grown: Grown) -> Iterator[StreamBytes]:
        """The events of texts that have grown or ended."""

    def silence(self) -> bytes:
        """The bytes that are sent when no text has grown for a while."""

    def error(self, failure: Failure) -> Iterator[bytes]:
        """The last events of a stream that cannot go on."""

    def end(self) -> Iterator[StreamBytes]:
        """The last events of a stream whose texts have all ended."""


def openai_error(failure: Failure) -> Iterator[bytes]:
    """The last events of a stream in OpenAI's dialect that cannot go on."""
    _, body = openai_shape(failure)
    yield ServerSentEvent.of_json(body).encode()
    yield DONE.encode()


async def events(texts: Texts, writer: StreamWriter, grown: Grown, silence_seconds: float) -> AsyncIterator[bytes]:
    """The bytes of a stream; an error in its middle becomes its last event.

    grown: the first pieces; without any the stream begins with `writer.silence`, which is also sent after every
    `silence_seconds` in which no text grows.
    """
    try:
        while True:
            if not grown:
                yield writer.silence()
            async for piece in _written(texts, writer.grown(grown)):
                yield piece
            if texts.ended:
                break
            grown = await texts.take(silence_seconds)
        texts.release()
        async for piece in _written(texts, writer.end()):
            yield piece
    except (ServiceError, MemoryError) as error:
        for event in writer.error(of_service_error(error if isinstance(error, ServiceError) else SPENT)):
            yield event


async def _written(texts: Texts, parts: Iterator[StreamBytes]) -> AsyncIterator[bytes]:
    """The bytes of some parts; others have their turn between two of them. Raises DeadlineExceeded."""
    waiting = False
    for part in parts:
        if waiting:
            await asyncio.sleep(0)
            texts.check_time()
        waiting = True
        if isinstance(part, bytes):
            yield part
            continue
        try:
            async for piece in texts.beside(part):
                yield piece
                texts.check_time()
        except (ServiceError, MemoryError):
            yield BROKEN  # so that the error is an event of its own
            raise


class EventStream(StreamingResponse):
    """A stream of server-sent events whose texts are released when it ends, however it ends; see `events`."""

    media_type = "text/event-stream"

    def __init__(
        self,
        texts: Texts,
        writer: StreamWriter,
        first: Grown,
        silence_seconds: float,
        headers: Mapping[str, str] | None = None,
        status_code: int = 200,  # which FastAPI reads from here to document the route
    ) -> None:
        own = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        content = events(texts, writer, first, silence_seconds)
        super().__init__(content, status_code, headers={**own, **(headers or {})})
        self._texts = texts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream until it ends or the client leaves."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._texts.release()

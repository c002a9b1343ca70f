"""Streams an answer over HTTP: starts its texts, detects a client that leaves, and sends events until the end."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast

from fastapi import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from model.errors import ServiceError
from service.api.error_responses import Failure, of_exception, openai_shape
from service.api.sse import EventIds, ServerSentEvent, done_event
from service.engine.engine import Engine
from service.engine.output import Grown
from service.engine.text_request import TextRequest
from service.errors import GIVEN_UP, Disconnected
from service.inference.served_model import ServedModel
from service.inference.texts import INSTANT, Texts
from service.process.background import Result
from service.request_context import request_context

BROKEN = b"\n\n"
"""The end of an event that was cut off."""
KEEP_ALIVE = b": keep-alive\n"
"""A comment, which clients skip: it shows proxies that the stream is alive. No empty line follows it: OpenAI's Python
package would read that as an event without data once an event had an id."""


LISTENS_AFTER = 0.02  # seconds until the server checks whether the client leaves; a short text has begun by then


async def begin(texts: Texts, request: Request, until: float = math.inf) -> Grown:
    """Submit the texts and wait for the first pieces; an error before that still sets the status.

    until: by `time.monotonic`; at that time it returns nothing if there is no piece yet.

    The caller must release the texts later, but not if this raises. It raises the errors of `Texts.submit` and
    `Texts.take`, and Disconnected if the client leaves meanwhile.
    """
    texts.submit()
    listeners: list[asyncio.Task[None]] = []

    def listen() -> None:
        listeners.append(asyncio.create_task(_listen(request, texts)))

    later = asyncio.get_running_loop().call_later(LISTENS_AFTER, listen)
    try:
        return await texts.take(None if until == math.inf else max(0.0, until - time.monotonic()))
    except BaseException:
        texts.release()
        raise
    finally:
        later.cancel()
        for listener in listeners:
            listener.cancel()


async def attended(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of some work. If the client leaves, the work is cancelled and this raises Disconnected."""
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
    """The texts of a request, from `Texts.prepare`; raises Disconnected if the client leaves meanwhile."""
    preparing = Texts.prepare(model, engine, asked)
    return await (preparing if is_instant(asked) else attended(request, preparing))


def is_instant(asked: TextRequest) -> bool:
    """Whether the texts of a request are prepared in about a millisecond."""
    return asked.effort <= INSTANT and asked.constraint is None


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _listen(request: Request, texts: Texts) -> None:
    await _left(request)
    texts.fail(Disconnected(GIVEN_UP))


StreamBytes = bytes | Iterator[bytes]
"""Some bytes of a stream, or an iterator that makes some, piece by piece, in another thread."""


class StreamWriter(Protocol):
    """How a dialect writes a stream of events; each part is sent before the next one is asked for."""

    def grown(self, grown: Grown) -> Iterator[StreamBytes]:
        """The events of texts that have grown or ended."""

    def silence(self) -> bytes:
        """The bytes to send when no text has grown for a while."""

    def end(self) -> Iterator[StreamBytes]:
        """The last events of a stream whose texts have all ended."""


Errors = Callable[[Failure], Iterator[bytes]]
"""Makes the last events of a stream that cannot continue, in a dialect."""


def openai_error(ids: EventIds, failure: Failure) -> Iterator[bytes]:
    """The last events of a stream in OpenAI's dialect that cannot continue; they have the id of the event before."""
    (_, body), line = openai_shape(failure), ids.line()
    yield ServerSentEvent.of_json(body, line).encode()
    yield done_event(line)


class Opened(NamedTuple):
    """A stream that can be written: its texts, its writer, and the first pieces, if there are any yet."""

    texts: Texts
    writer: StreamWriter
    grown: Grown


@dataclass(frozen=True, slots=True)
class Pace:
    """When a stream sends a sign of life.

    first: seconds from the request to the first bytes of its answer.
    silence: seconds between two signs of life.
    """

    first: float
    silence: float

    def until(self, request: Request) -> float:
        """The time by which a stream must begin, by `time.monotonic`."""
        return request_context(request.scope).arrived + self.first


async def open_stream(
    opening: Coroutine[Any, Any, Opened],
    instant: bool,
    request: Request,
    pace: Pace,
    errors: Errors,
    headers: Mapping[str, str] | None = None,
) -> "EventStream":
    """The stream that `opening` gives. An error before `pace.first` is raised; a later one becomes an event.

    opening: waits for the first pieces at most until `pace.until`.
    instant: whether it takes only a moment.
    """
    if instant:
        return EventStream(await opening, pace, errors, headers)
    task = asyncio.create_task(opening)
    try:
        await asyncio.wait((task,), timeout=max(0.0, pace.until(request) - time.monotonic()))
    except BaseException:
        task.cancel()
        raise
    return EventStream(task.result() if task.done() else task, pace, errors, headers)


async def events(coming: "Opened | asyncio.Task[Opened]", pace: Pace, errors: Errors) -> AsyncIterator[bytes]:
    """The bytes of a stream; an error in its middle becomes its last event.

    Without first pieces it begins with a sign of life, and sends one after every `pace.silence` seconds without an
    event.
    """
    try:
        if not isinstance(coming, Opened):
            yield KEEP_ALIVE
            while not (await asyncio.wait((coming,), timeout=pace.silence))[0]:
                yield KEEP_ALIVE
            coming = coming.result()
        texts, writer, grown = coming
        written = -math.inf  # when the last bytes were
        while True:
            async for piece in _written(texts, writer.grown(grown)):
                written = time.monotonic()
                yield piece
            if texts.ended:
                break
            if not grown or time.monotonic() - written > pace.silence:
                written = time.monotonic()
                yield writer.silence()
            grown = await texts.take(pace.silence)
        texts.release()
        async for piece in _written(texts, writer.end()):
            yield piece
    except Exception as error:
        for event in errors(of_exception(error)):
            yield event


async def _written(texts: Texts, parts: Iterator[StreamBytes]) -> AsyncIterator[bytes]:
    """The bytes of some parts; other tasks run between two of them. Raises DeadlineExceeded."""
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


class AttendedResponse(StreamingResponse):
    """A streamed answer that ends when its client leaves.

    Starlette's runs in a task group. When an answer is broken off, the end of that group keeps the answer's frames:
    all that they hold would wait for the garbage collector, which then stops the process for a tenth of a second.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send the answer as long as the client is there."""
        own = cast("asyncio.Task[None]", asyncio.current_task())
        left = False

        def leaves(listener: "asyncio.Task[None]") -> None:
            nonlocal left
            if not listener.cancelled():
                left = True
                own.cancel()

        listener = asyncio.create_task(self.listen_for_disconnect(receive))
        listener.add_done_callback(leaves)
        try:
            await self.stream_response(send)
        except asyncio.CancelledError:
            if not left or own.uncancel():
                raise
        finally:
            listener.remove_done_callback(leaves)
            listener.cancel()


class EventStream(AttendedResponse):
    """A stream of server-sent events; however it ends, its texts are released; see `events`."""

    media_type = "text/event-stream"

    def __init__(
        self,
        coming: "Opened | asyncio.Task[Opened]",
        pace: Pace,
        errors: Errors,
        headers: Mapping[str, str] | None = None,
        status_code: int = 200,  # FastAPI reads this default to document the route
    ) -> None:
        own = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(events(coming, pace, errors), status_code, headers={**own, **(headers or {})})
        self._coming = coming

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream until it ends or the client leaves."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._release()

    def _release(self) -> None:
        """Release the texts, or cancel what makes them."""
        coming = self._coming
        if isinstance(coming, Opened):
            coming.texts.release()
        elif not coming.done():
            coming.cancel()
        elif not coming.cancelled() and coming.exception() is None:
            coming.result().texts.release()

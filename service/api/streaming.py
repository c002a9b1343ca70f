"""Streams an answer over HTTP: begins its texts, notices a client that leaves, and sends events until the end."""

import asyncio
from collections.abc import AsyncIterator, Mapping

from fastapi import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from service.engine.output import Grown
from service.errors import Disconnected
from service.inference.texts import Texts

KEEP_ALIVE = b": keep-alive\n\n"
"""A comment, which readers of server-sent events skip: bytes that tell everybody on the way that the stream lives."""


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


async def _listen(request: Request, texts: Texts) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    texts.fail(Disconnected("The request was given up."))


class EventStream(StreamingResponse):
    """A stream of server-sent events whose texts are let go when it ends, however it ends."""

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncIterator[bytes],
        texts: Texts,
        headers: Mapping[str, str] | None = None,
        status_code: int = 200,  # which FastAPI reads from here to document the route
    ) -> None:
        own = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(events, status_code, headers={**own, **(headers or {})})
        self._texts = texts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream until it ends or its reader leaves."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._texts.release()

"""What every dialect needs to answer over HTTP: a listener for those who leave, streams that stay alive, checks."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping
from urllib.parse import quote

from fastapi import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from service.errors import Disconnected, UnknownModel
from service.served_model import ServedModel
from service.texts import Grown, Texts

SEED_BITS = 53  # of a seed made here: a number every JSON reader keeps exact, JavaScript's included

LONGEST_HEADER = 1000  # bytes of the names of ignored fields

KEEP_ALIVE = b": keep-alive\n\n"
"""A comment, which readers of server-sent events skip: bytes that tell everybody on the way that the stream lives."""


def random_seed() -> int:
    """A seed for a request that has none."""
    return secrets.randbits(SEED_BITS)


def check_model(name: str | None, model: ServedModel) -> None:
    """Raise UnknownModel where a request names another model than the one that is served."""
    if name is not None and name != model.name:
        raise UnknownModel(f"There is no model {name[:100]!r}; this server has {model.name!r}.")


def namespace_of(request: Request) -> bytes:
    """Whose prompts are kept together: how long an answer takes tells nobody what was asked with another key.

    Where the server knows no keys, whatever a client sends as one keeps its prompts apart.
    """
    holder: bytes | None = request.scope.get("unroll.holder")
    return holder or hashlib.sha256(request.headers.get("authorization", "").encode("latin-1")).digest()


def ignored_fields(names: Iterable[str]) -> dict[str, str]:
    """The header that names fields which are not known: some ASCII of bounded length, whatever they are called."""
    value = ", ".join(quote(name[:LONGEST_HEADER], safe="", errors="surrogatepass") or '""' for name in names)
    if len(value) > LONGEST_HEADER:
        value = value[: LONGEST_HEADER - 5].rpartition(",")[0] + ", ..." if "," in value else value[:LONGEST_HEADER]
    return {"X-Unroll-Ignored-Fields": value} if value else {}


async def begin(texts: Texts, request: Request) -> Grown:
    """Submit the texts and wait for the first pieces; an error until here still has a status of its own.

    The texts have to be released later, but not where this raises. It does as `Texts.submit` and `Texts.take` do, and
    raises Disconnected when whoever asked goes away meanwhile.
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
        """Send the stream until it ends or whoever reads it goes away."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._texts.release()

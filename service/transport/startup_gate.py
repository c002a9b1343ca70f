"""Answers from the first moment that the model is being loaded, until the application takes over."""

import asyncio
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from fastapi import FastAPI
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from service.api.error_responses import Failure, openai_shape
from service.api.routing import without_prefix
from service.security.auth import PUBLIC

LOADING = Failure(503, "The server is loading its model; try again in a moment.", "server_error", "loading")
WAITS = {"Retry-After": "1"}


class Loadable(Protocol):
    """What can be loaded: an ASGI application, and all that belongs to it."""

    @property
    def asgi(self) -> FastAPI:
        """The application that answers."""


Loaded = TypeVar("Loaded", bound=Loadable)


class Gate(Generic[Loaded]):
    """An ASGI application that loads another one and then passes everything on to it.

    load: makes the other one, in a thread, as it may take long. prefix: of paths that come by a proxy.
    patient: whether to let the server begin to listen only once it is loaded, as other processes answer meanwhile.
    loaded: what it made, once it answers. error: what `load` raised; the gate never opens then.
    """

    def __init__(self, load: Callable[[], Loaded], prefix: str = "", patient: bool = False) -> None:
        self.loaded: Loaded | None = None
        self.error: Exception | None = None
        self._load = load
        self.patient = patient
        self._prefix = prefix
        self._then: list[Callable[[Loaded], None]] = []
        self._closing = asyncio.Event()
        self._settled = asyncio.Event()  # once it is open, or never will be

    def when_open(self, call: Callable[[Loaded], None]) -> None:
        """Have `call` called with what was loaded once it answers."""
        self._then.append(call)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on to the application, or answer that it is being loaded."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self.loaded is not None:
            await self.loaded.asgi(scope, receive, send)
        elif scope["type"] == "http":
            await _while_loading(without_prefix(scope["path"], self._prefix))(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Load while the server answers already, and end the application when the server ends."""
        await receive()
        running = asyncio.create_task(self._run())
        if self.patient:
            await self._settled.wait()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._closing.set()
        await running
        await send({"type": "lifespan.shutdown.complete"})

    async def _run(self) -> None:
        """Raises nothing; the server reports `error`."""
        try:
            loaded = await asyncio.to_thread(self._load)
            async with loaded.asgi.router.lifespan_context(loaded.asgi):
                self.loaded = loaded
                for call in self._then:
                    call(loaded)
                self._settled.set()
                await self._closing.wait()
        except Exception as error:
            self.error = error
            self._settled.set()


def _while_loading(path: str) -> JSONResponse:
    """The answer while loading: alive, but not ready."""
    if path in PUBLIC:
        return JSONResponse({"status": "loading"}, 200 if path == "/health/live" else 503, WAITS)
    status, body = openai_shape(LOADING)
    return JSONResponse(body, status, WAITS)

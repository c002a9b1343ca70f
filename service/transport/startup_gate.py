"""Answers that the model is still loading, from the first moment until the application takes over."""

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
    """What can be loaded: an ASGI application with everything that belongs to it."""

    @property
    def asgi(self) -> FastAPI:
        """The application that answers."""


Loaded = TypeVar("Loaded", bound=Loadable)


class Gate(Generic[Loaded]):
    """An ASGI application that loads another one and then passes everything on to it.

    load: makes the other one, in a thread, as it may take long. prefix: of paths that come by a proxy.
    patient: whether the server begins to listen only after loading, while other processes answer.
    loaded: the result, once it answers. error: what `load` raised; then the gate never opens.
    """

    def __init__(self, load: Callable[[], Loaded], prefix: str = "", patient: bool = False) -> None:
        self.loaded: Loaded | None = None
        self.error: Exception | None = None
        self._load = load
        self.patient = patient
        self._prefix = prefix
        self._then: list[Callable[[Loaded], None]] = []
        self._closing = asyncio.Event()
        self._settled = asyncio.Event()  # set once it is open or has failed

    def when_open(self, call: Callable[[Loaded], None]) -> None:
        """Call `call` with the loaded application once it answers."""
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
        """Load while the server already answers, and end the application with the server."""
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

"""Runs the application on a socket, and ends it in stages: refuse what is new, let running texts end, then stop."""

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from model.native import processors
from service.app import create_app
from service.engine import Engine
from service.errors import Draining, EngineStopped, SettingsError
from service.settings import Settings, is_loopback

logger = logging.getLogger(__name__)

BACKLOG = 2048  # connections that wait to be taken
LAST_LOOK_SECONDS = 1  # for telling a failed engine to whoever asks how the server is, before it ends
LAST_WORDS_SECONDS = 2  # for sending what is written to those who read slowly, once the grace is over


class DrainingServer(uvicorn.Server):
    """Uvicorn, but a first SIGTERM or SIGINT lets texts end for `grace_seconds`, and a second one ends at once.

    Meanwhile the socket stays open, so that new requests are answered with 503 and not with silence.
    """

    def __init__(
        self, config: uvicorn.Config, engine: Engine, grace_seconds: float, announce: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._engine = engine
        self._grace_seconds = grace_seconds
        self._announce = announce

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Note a signal. Uvicorn would raise it again at the end; this server ends with status 0."""
        self.force_exit = self.should_exit
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve, and say so."""
        await super().startup(sockets)
        self._announce()

    async def on_tick(self, counter: int) -> bool:
        """Whether to stop: when told to, and when no more text can be generated."""
        return await super().on_tick(counter) or self._engine.died

    async def main_loop(self) -> None:
        """Serve until told to stop, then until the running texts have ended."""
        await super().main_loop()
        if self._engine.died:
            await asyncio.sleep(LAST_LOOK_SECONDS)
            return
        self._engine.drain()
        logger.info("Stopping: running texts have %g s to end; send the signal again to end now.", self._grace_seconds)
        deadline = time.monotonic() + self._grace_seconds
        while self.server_state.tasks and not self.force_exit and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        self._engine.abandon(Draining("The server stopped before this text had ended; ask again in a moment."))
        # Every stream now ends by itself, so the application can be shut down in order; a third signal still forces.
        self.force_exit = False


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections. Raises SettingsError where there can be none."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # The protocol by its number: asyncio sends small pieces at once only on sockets that say they are TCP.
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except BaseException:
            listener.close()
            raise
    except (OSError, UnicodeError) as error:  # a name that is none fails in its encoding
        reason = getattr(error, "strerror", None) or "it is no address"
        raise SettingsError(
            f"The server cannot listen on {host} port {port} ({reason}); "
            "choose another with --host and --port, or stop what uses it."
        ) from error
    return listener


def make_server(app: FastAPI, settings: Settings, announce: Callable[[], None]) -> DrainingServer:
    """The server of an application from `create_app`; its `run` takes the sockets to serve on."""
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level=max(logging.WARNING, logging.getLogger().level),
        access_log=False,
        server_header=False,
        lifespan="on",
        ws="none",
        timeout_graceful_shutdown=LAST_WORDS_SECONDS,
    )
    return DrainingServer(config, app.state.engine, settings.grace_seconds, announce)


def run(settings: Settings, announce: Callable[[FastAPI, str], None]) -> None:
    """Serve until a signal says to stop.

    announce: called with the application and its URL once it answers.
    Raises SettingsError, CheckpointError, and EngineStopped when no more text could be generated.
    """
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    app = create_app(settings)
    if not processors():
        logger.warning(
            "No kernel was compiled for this processor, so steps run in numpy, a tenth as fast, with the same "
            "texts; there are kernels for x86-64 with AVX2 and for Arm: install a C compiler and then Unroll again."
        )
    listener = listen(settings.host, settings.port)
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    if not is_loopback(settings.host):
        logger.warning("Listening on %s: everyone who can reach %s can use this server; it asks for no key.", host, url)
    make_server(app, settings, lambda: announce(app, url)).run(sockets=[listener])
    if app.state.engine.died:
        raise EngineStopped(
            "The server ended because a thread that generates has died, as the log says; start it again."
        )

"""Runs the application on a socket, and ends it in stages: refuse what is new, let running texts end, then stop."""

import asyncio
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, cast

import uvicorn

from service.app import Application
from service.engine.engine import Engine
from service.errors import Draining
from service.garbage import Garbage
from service.process.watchdog import LOST, SPENT, Watchdog
from service.settings import Settings
from service.siblings.siblings import Siblings
from service.transport.connections import Connection, bounded
from service.transport.entrance import LOOKED, OPENED, Entrance
from service.transport.listeners import BACKLOG
from service.transport.refusals import CROWDED, whole
from service.transport.shared_limits import SharedLimits
from service.transport.startup_gate import Gate
from service.transport.tls import secured, tls_context

logger = logging.getLogger(__name__)

ENGINE_FAILED_SECONDS = 1  # for probes to see that the engine has failed, before the server ends
LAST_BODY_SECONDS = 0.5  # for bodies that are on their way when the server stops
FLUSH_SECONDS = 2  # for slow clients to read what is written, at the end of the grace: of it at most half
LEAST_FLUSH_SECONDS = 0.1


class DrainingServer(uvicorn.Server):
    """Uvicorn, except that the first SIGTERM or SIGINT gives texts time to end, and the second ends at once. All is
    over after `grace_seconds`: texts still running end a moment before, for their clients to read that.

    Meanwhile the socket stays open, so that new requests are answered with 503 and not with silence. SIGQUIT is another
    SIGTERM, SIGHUP calls `hang_up`, SIGUSR1 and SIGUSR2 do nothing.

    enter: makes what takes the connections of a socket, and opens each with a new protocol.
    parent: where there are several processes, a pipe that ends with their parent, which is like SIGTERM. A supervisor
    may send its signal to all of them, and the parent passes it on as well, so then the end comes at once with SIGUSR2.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        gate: Gate[Application],
        grace_seconds: float,
        hang_up: Callable[[], None] | None,
        enter: Callable[[socket.socket, Callable[[], asyncio.Protocol]], Entrance],
        parent: int | None = None,
    ) -> None:
        super().__init__(config)
        self._gate = gate
        self._grace_seconds = grace_seconds
        self._hang_up = hang_up
        self._parent = parent
        self._enter = enter
        self._entrances: list[Entrance] = []
        self.beats: list[Callable[[], None]] = []
        """Called some times a second, also while the last texts end."""
        self.watchdog: Watchdog | None = None
        """Notified each time that the server runs."""

    @property
    def _engine(self) -> Engine | None:
        """The engine, once there is one."""
        return self._gate.loaded.engine if self._gate.loaded is not None else None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Note a signal. Uvicorn would raise it again at the end; this server ends with status 0."""
        self.force_exit = self.force_exit or (self.should_exit and self._parent is None)
        self.should_exit = True

    def _end_now(self, *_: Any) -> None:
        self.force_exit = self.should_exit = True

    def _orphaned(self) -> None:
        """The parent has died: nobody would start this process anew, or pass signals on."""
        assert self._parent is not None
        asyncio.get_running_loop().remove_reader(self._parent)
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, before there is a model."""
        await super().startup(sockets)
        if self._parent is not None:
            asyncio.get_running_loop().add_reader(self._parent, self._orphaned)
        for one in sockets or ():
            self._entrances.append(self._enter(one, self._connection))
            self._entrances[-1].start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, end those that are open, and then the application."""
        for entrance in self._entrances:
            entrance.close()
        await super().shutdown(sockets)
        if self.force_exit:  # uvicorn leaves the application to be cancelled, and logs that as an error
            await self.lifespan.shutdown()

    def _connection(self) -> asyncio.Protocol:
        """The protocol of another connection, as uvicorn makes it."""
        make: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle all signals of a supervisor until the server has ended; uvicorn handles SIGTERM and SIGINT."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        handlers: dict[int, Any] = {signal.SIGQUIT: self.handle_exit}
        if self._parent is not None:
            handlers[signal.SIGUSR2] = self._end_now
        if self._hang_up is not None:
            handlers[signal.SIGHUP] = lambda *_: loop.call_soon_threadsafe(self._reload)
        with super().capture_signals():
            before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

    def _reload(self) -> None:
        """Call `hang_up` in a thread: it reads a file, which may take long."""
        threading.Thread(target=self._hang_up, name="reload", daemon=True).start()

    def lost(self) -> bytes | None:
        """What the process cannot go on without: a thread that generates, or memory. None while it has all."""
        loaded = self._gate.loaded
        if loaded is None or self.should_exit or loaded.engine.died:
            return None
        if loaded.engine.threads < loaded.engine.started:
            return LOST
        return SPENT if loaded.ledger.starved else None

    async def on_tick(self, counter: int) -> bool:
        """Whether to stop: after a signal, when there will be no model, or when no more text can be generated."""
        self._beat()
        died = self._engine is not None and self._engine.died
        return await super().on_tick(counter) or died or self._gate.error is not None

    async def main_loop(self) -> None:
        """Serve until a signal, then until the running texts have ended."""
        await super().main_loop()
        engine = self._engine
        if engine is None:
            return
        if engine.died:
            await asyncio.sleep(ENGINE_FAILED_SECONDS)
            return
        engine.drain()
        seconds = self._grace_seconds - min(FLUSH_SECONDS, self._grace_seconds / 2)
        logger.info("Stopping: running texts have %g s to end; send the signal again to end now.", seconds)
        began = time.monotonic()
        deadline = began + seconds
        while self.server_state.tasks and not self.force_exit and time.monotonic() < deadline:
            self._beat()
            if time.monotonic() > began + LAST_BODY_SECONDS:
                self._give_up_bodies()
            await asyncio.sleep(0.05)
        engine.abandon(Draining("The server stopped before this text had ended; ask again in a moment."))
        left = max(LEAST_FLUSH_SECONDS, min(FLUSH_SECONDS, began + self._grace_seconds - time.monotonic()))
        self.config.timeout_graceful_shutdown = cast("int", left)
        # Every stream now ends by itself, so the application can be shut down in order; a third signal still forces.
        self.force_exit = False

    def _beat(self) -> None:
        if self.watchdog is not None:
            self.watchdog.beat()
        for beat in self.beats:
            beat()

    def _give_up_bodies(self) -> None:
        """Refuse requests that have not come whole: nothing would be generated for them."""
        for connection in list(self.server_state.connections):
            if isinstance(connection, Connection):
                connection.give_up_body()


def make_server(
    gate: Gate[Application],
    settings: Settings,
    hang_up: Callable[[], None] | None = None,
    management: int | None = None,
    siblings: Siblings | None = None,
    parent: int | None = None,
) -> DrainingServer:
    """The server of an application behind its gate; its `run` takes the sockets to serve on.

    management: the port of that socket which answers only for health and metrics. siblings: the processes behind its
    port, where there are several; parent: then a pipe that ends with their parent.
    Raises SettingsError where the certificate cannot be used.
    """
    context = tls_context(settings)

    def refused(code: str) -> None:
        if gate.loaded is not None:
            gate.loaded.metrics.refused(code)

    shared = SharedLimits(settings, management, siblings)
    plain = bounded(settings, shared, refused)
    config = uvicorn.Config(
        gate,
        http=plain if context is None else secured(context, settings, shared, plain),
        loop="asyncio",
        log_config=None,
        log_level=max(logging.WARNING, logging.getLogger().level),
        access_log=False,
        server_header=False,
        lifespan="on",
        backlog=BACKLOG,
        ws="none",
        proxy_headers=settings.trusted_proxies is not None,
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_graceful_shutdown=FLUSH_SECONDS,
    )

    def crowded(network: str | None) -> bool:
        made = gate.loaded
        if shared.public.full(network):  # further ones may only be probes, and these go first
            return True
        if made is None:
            return False
        return made.pace.crowded(network) or (bool(made.engine.running) and shared.refused.crowded(network))

    def refuse(connection: socket.socket) -> None:
        refused(CROWDED.code or "")
        with suppress(OSError), connection:
            if context is None:
                connection.send(too_many)

    def enter(listener: socket.socket, make: Callable[[], asyncio.Protocol]) -> Entrance:
        own = shared.is_managements(listener.getsockname())
        limit = shared.management if own else shared.public
        looked = LOOKED if siblings is None else OPENED  # others may open them sooner
        crowd = (lambda _: False) if own else crowded
        return Entrance(listener, make, limit.network, crowd, refuse, settings.prefix, looked)

    too_many = whole(CROWDED)
    server = DrainingServer(config, gate, settings.grace_seconds, hang_up, enter, parent)

    def count(application: Application) -> None:
        application.metrics.connections = lambda: len(server.server_state.connections)
        server.beats.append(application.beat)
        application.beat()
        garbage = Garbage(lambda: len(server.server_state.tasks))
        garbage.start()
        server.beats.append(garbage.beat)

    gate.when_open(count)
    return server

"""Checks the settings, listens, and serves: in this process, or in several that it starts and watches."""

import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from model.checkpoint import check
from model.decoding.kernel_library import processors
from service.app import Application, create_application
from service.errors import EngineStopped
from service.inference.served_model import load_limit
from service.models.naming import named_places
from service.monitoring import logs
from service.parent import Parent
from service.process import allocator
from service.process.address_space import enough_to_run, too_little
from service.process.background import SWITCH_SECONDS
from service.process.watchdog import Watchdog
from service.security.api_keys import ApiKeys
from service.server import make_server
from service.settings import Settings, is_loopback
from service.siblings.siblings import Siblings
from service.transport.listeners import FairListener, listen, listen_unix
from service.transport.startup_gate import Gate
from service.transport.tls import tls_context

logger = logging.getLogger(__name__)

OPEN = (
    "OPEN TO EVERYONE. Listening on %s: everyone who can reach %s can use this server; it asks for no key. "
    "Give it keys with --api-keys-file or UNROLL_API_KEYS_FILE."
)

Announce = Callable[[Application, str], None]
"""Called with the application and its URL once it answers."""


@dataclass(frozen=True)
class Place:
    """Where the server listens: its sockets, its URL, and the port of the socket for health and metrics alone."""

    listeners: list[socket.socket]
    url: str
    management: int | None


@dataclass(frozen=True)
class Process:
    """One of several processes behind a port.

    parent: a pipe that ends with their parent. first: whether it answers while it loads its model, as nobody else does.
    """

    siblings: Siblings
    parent: int
    first: bool


def run(settings: Settings, announce: Announce) -> None:
    """Serve until a signal says to stop.

    Raises SettingsError, CheckpointError, and EngineStopped when no more text could be generated.
    """
    with enough_to_run():
        _run(settings, announce)


def _run(settings: Settings, announce: Announce) -> None:
    hung_up = _hear_hang_ups()
    allocator.configure()
    logs.configure(settings, at_once=settings.processes > 1)
    if not processors():
        logger.warning(
            "No kernel was compiled for this processor, so steps run in numpy, a tenth as fast, with the same "
            "texts; there are kernels for x86-64 with AVX2 and for Arm: install a C compiler and then Unroll again."
        )
    keys = ApiKeys(settings)
    tls_context(settings)  # a fault of it, or of the checkpoint, ends the program before the port is open
    for named in named_places(settings):
        check(named.checkpoint, load_limit(settings))
    place = _listen(settings)
    if settings.uds is None and not is_loopback(settings.host) and not keys.needed:
        logger.warning(OPEN, place.listeners[0].getsockname()[0], place.url)
    try:
        if settings.processes == 1:
            _serve(settings, place, keys, announce, hung_up)
        else:
            _serve_in_several(settings, place, announce)
    finally:
        if settings.uds is not None:
            settings.uds.unlink(missing_ok=True)


def _serve_in_several(settings: Settings, place: Place, announce: Announce) -> None:
    """Start processes that serve, and watch them until a signal says to stop."""
    siblings = Siblings(settings.processes, settings.max_connections)

    def serve(parent: int, first: bool) -> None:
        hung_up = _hear_hang_ups()
        logs.configure(settings)
        process = Process(siblings, parent, first)
        listeners: list[socket.socket] = [FairListener(one, lambda: siblings.crowded) for one in place.listeners]
        _serve(
            _of_each(settings),
            replace(place, listeners=listeners),
            ApiKeys(settings),
            announce if first else _tell_nobody,
            hung_up,
            process,
        )

    Parent(siblings, settings, serve).run()


def _serve(
    settings: Settings,
    place: Place,
    keys: ApiKeys,
    announce: Announce,
    hung_up: list[int],
    process: Process | None = None,
) -> None:
    """Serve in this process."""
    sys.setswitchinterval(SWITCH_SECONDS)
    siblings = None if process is None else process.siblings
    load = partial(create_application, settings, keys=keys, siblings=siblings)
    gate = Gate(load, settings.prefix, patient=process is not None and not process.first)
    gate.when_open(_check_memory)
    gate.when_open(lambda application: announce(application, place.url))

    def hang_up() -> None:
        read = keys.reload()
        if gate.loaded is not None:
            registry = gate.loaded.registry
            registry.look_now()
            if read:
                keys.tell_of_unknown_models(registry.knows, registry.offer)

    gate.when_open(lambda _: hang_up() if hung_up else None)

    parent = None if process is None else process.parent
    server = make_server(gate, settings, hang_up, place.management, siblings, parent)
    if settings.watchdog_seconds:
        server.watchdog = Watchdog(settings.watchdog_seconds, server.lost)
        if gate.patient:  # it makes no pass before
            gate.when_open(lambda _: server.watchdog.start() if server.watchdog is not None else None)
        else:
            server.watchdog.start()
    try:
        server.run(sockets=place.listeners)
    finally:
        if server.watchdog is not None:
            server.watchdog.stop()
    if gate.error is not None:
        raise gate.error
    if gate.loaded is not None and gate.loaded.engine.died:
        raise EngineStopped(
            "The server ended because a thread that generates has died, as the log says; start it again."
        )


def _of_each(settings: Settings) -> Settings:
    """The settings of each of several processes: its share of what they divide.

    A process takes as many texts at once as one that serves alone, so that it refuses no other requests.
    """
    rows = -(-settings.max_rows // settings.processes)
    return replace(
        settings,
        threads=max(1, settings.workers // settings.processes),
        max_rows=rows,
        max_waiting=settings.max_waiting + settings.max_rows - rows,
        prefix_cache_bytes=settings.prefix_cache_bytes // settings.processes,
    )


def _tell_nobody(application: Application, url: str) -> None:
    """Say nothing."""


def _check_memory(application: Application) -> None:
    """Raise SettingsError where all is loaded and nothing is left of the process's own limit for requests."""
    if application.ledger.starved:
        raise too_little()


def _listen(settings: Settings) -> Place:
    """Where the server listens; the URL of a Unix socket is unix: and its path."""
    if settings.uds is not None:
        listeners, url = [listen_unix(settings.uds)], f"unix:{settings.uds}"
    else:
        listeners = listen(settings.host, settings.port)
        host, port = listeners[0].getsockname()[:2]
        scheme = "http" if settings.tls_certificate is None else "https"
        url = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
    management = None
    if settings.management_port is not None:
        listeners += listen(settings.host, settings.management_port)
        management = listeners[-1].getsockname()[1]
        logger.info("Health and metrics are also told on port %d, to connections of its own.", management)
    return Place(listeners, url, management)


def _hear_hang_ups() -> list[int]:
    """The SIGHUPs until the server hears them itself; they, SIGUSR1 and SIGUSR2 end the process no more."""
    numbers: list[int] = []
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGHUP, lambda number, _: numbers.append(number))
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
    return numbers

"""Opens waiting connections of a listener: probes first, and others a few at a time."""

import asyncio
import errno
import logging
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice

from service.api.routing import without_prefix
from service.process.turns import Turns
from service.security.auth import PUBLIC
from service.transport.connection_limit import PROXIES

logger = logging.getLogger(__name__)

PROBES = (*sorted(PUBLIC), "/metrics")  # paths that are answered under any load
LOOKED = 64  # connections that are accepted in a pass of the event loop, in about a millisecond
OPENED = 8  # probes that are opened in a pass, and as many others
WAITING = 1_024  # connections that may wait to be opened; each has a descriptor
PEEKED = 256  # bytes of a request that show whether it is a probe
SETTLED = 4  # passes from opening a connection until its request is read
LOOKED_AGAIN = 16  # silent connections that are checked again in a pass

SHARE = 0.1  # of a processor, to open connections while a crowd waits
OPENING_SECONDS = 0.0004  # of the event loop for a connection until its request waits
BURST_SECONDS = 0.02  # of a processor that may be used at once

REFUSED_RATE = 100  # connections a second of a network that may be refused for what they sent; more are a crowd
REFUSED_SECONDS = 1.0  # the burst that a network may have, and how long it stays a crowd after the last refusal
MOST_NETWORKS = 4_096  # networks that are remembered

SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
SHORT_SECONDS = 1.0  # until the next connection is accepted when descriptors or memory are short


class Refused:
    """Networks with many connections that were refused for what they sent: for a while, further ones are a crowd.

    Such a connection costs as much as one that is served, but does not count against the limits of requests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._earned: dict[str, float] = {}  # when the refusals of each network will be paid for
        self._until = 0.0  # until then some network is a crowd

    def note(self, network: str) -> None:
        """Count another refused connection of a network."""
        now = self._clock()
        earned = max(now, self._earned.get(network, 0.0)) + 1 / REFUSED_RATE
        self._earned[network] = min(earned, now + 2 * REFUSED_SECONDS)
        self._until = max(self._until, self._earned[network] - REFUSED_SECONDS)
        if len(self._earned) > MOST_NETWORKS:
            self._earned = {one: at for one, at in self._earned.items() if at > now + REFUSED_SECONDS}

    def crowded(self, network: str | None) -> bool:
        """Whether a network is a crowd; with None, whether any is."""
        now = self._clock()
        if network is None or now >= self._until:
            return now < self._until
        return self._earned.get(network, 0.0) > now + REFUSED_SECONDS


class Entrance:
    """Accepts the connections of a listener and decides in which order they are opened.

    make: makes the protocol of a connection. network: names the network of an address. crowded: whether a network is
    a crowd, with requests that already wait, so that more of its connections would only take time from those who are
    served; with None, whether there is a crowd. refuse: refuses a connection for which there is no room. prefix: of
    paths that come by a proxy.
    looked: the most connections that are accepted in a pass.

    To accept a connection costs a twentieth of opening it. So a probe does not wait behind many that came before it.
    Connections of a crowd are opened after all others, with at most `SHARE` of a processor, and its networks take
    turns; if more than `WAITING` of them wait, the last of the network with most is refused. Proxies, which carry
    many clients, never wait. With TLS a probe looks like any other request.
    """

    def __init__(
        self,
        listener: socket.socket,
        make: Callable[[], asyncio.BaseProtocol],
        network: Callable[[str], str],
        crowded: Callable[[str | None], bool],
        refuse: Callable[[socket.socket], None],
        prefix: str = "",
        looked: int = LOOKED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._listener, self._make = listener, make
        self._network, self._crowded, self._refuse = network, crowded, refuse
        self._prefix, self._looked, self._clock = prefix, looked, clock
        self._first: Turns[socket.socket] = Turns()  # probes and connections of proxies
        self._others: Turns[socket.socket] = Turns()
        self._crowd: Turns[socket.socket] = Turns()
        self._silent: dict[socket.socket, str] = {}  # the network of each silent connection, the oldest first
        self._earned = 0.0  # when the connections opened for crowds will be paid for
        self._opened = 0  # in this pass, without probes
        self._settling = self._held = 0  # passes until probes are read; passes for which others were held
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.Handle | None = None  # opens more
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        """Accept connections from now on, instead of asyncio's server."""
        self._loop.remove_reader(self._listener)
        self._loop.add_reader(self._listener, self._arrived)

    def close(self) -> None:
        """Accept no more, and close those that wait."""
        self._loop.remove_reader(self._listener)
        if self._timer is not None:
            self._timer.cancel()
        for turns in (self._first, self._others, self._crowd):
            while turns:
                turns.take()[1].close()
        self._silent.clear()

    def _arrived(self) -> None:
        for _ in range(self._looked):
            if len(self._first) + len(self._others) >= WAITING:
                break
            try:
                connection, address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                break
            except OSError as error:
                if error.errno not in SHORT:
                    raise
                logger.warning("No connection can be taken now: %s.", error.strerror)
                self._loop.remove_reader(self._listener)
                self._loop.call_later(SHORT_SECONDS, self.start)
                break
            connection.setblocking(False)
            self._take(connection, self._network(address[0] if isinstance(address, tuple) else ""))
        self._open_some()

    def _take(self, connection: socket.socket, network: str) -> None:
        """Open a connection, or put it in the right queue."""
        crowd = self._crowded(network)
        if self._opened < OPENED and not crowd and not self._settling and not self._others:
            self._open(connection)
            return
        start = _start_of(connection)
        if network == PROXIES or self._is_probe(start):
            self._first.add(network, connection)
            return
        if not start:
            self._silent[connection] = network
        (self._crowd if crowd else self._others).add(network, connection)
        if len(self._crowd) > WAITING:
            last = self._crowd.drop()
            self._silent.pop(last, None)
            self._refuse(last)

    def _is_probe(self, start: bytes) -> bool:
        method, _, rest = start.partition(b" ")
        if method not in (b"GET", b"HEAD"):
            return False
        return without_prefix(rest.partition(b" ")[0].decode("latin-1"), self._prefix) in PROBES

    def _look_again(self) -> None:
        """Find probes among the connections that were silent."""
        for connection, network in list(islice(self._silent.items(), LOOKED_AGAIN)):
            start = _start_of(connection)
            if not start:
                continue
            del self._silent[connection]
            if self._is_probe(start):
                self._others.remove(network, connection)
                self._crowd.remove(network, connection)
                self._first.add(network, connection)

    def _open_some(self) -> None:
        """Open the connections of this pass, and schedule the rest."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._look_again()
        if self._first:
            self._settling = SETTLED
        for _ in range(min(OPENED, len(self._first))):
            self._open(self._first.take()[1], first=True)
        late = 0.0 if self._hold() else self._open_others()
        if self._first or self._others or self._crowd or self._settling:
            soon = late <= 0 or bool(self._first)
            self._timer = (
                self._loop.call_soon(self._open_some) if soon else self._loop.call_later(late, self._open_some)
            )

    def _hold(self) -> bool:
        """Whether others wait in this pass: each beyond a limit would cut off the oldest one without a request."""
        if not self._settling or self._held == 2 * SETTLED:
            self._held = 0
            return False
        self._settling -= 1
        self._held += 1
        return True

    def _open_others(self) -> float:
        """Open some connections that are not probes; returns the seconds until more may be opened."""
        while self._others and self._opened < OPENED:
            self._open(self._others.take()[1])
        while self._crowd and self._opened < OPENED:
            late = self._late()
            if late > 0:
                return late
            self._open(self._crowd.take()[1])
        return 0.0

    def _late(self) -> float:
        """Seconds until one more of a crowd may be opened; charges for it if that is now."""
        if not self._crowded(None):
            return 0.0
        now = self._clock()
        earned = max(self._earned, now - BURST_SECONDS / SHARE)
        if earned <= now:
            self._earned = earned + OPENING_SECONDS / SHARE
        return earned - now

    def _open(self, connection: socket.socket, first: bool = False) -> None:
        self._silent.pop(connection, None)
        if not first:
            if not self._opened:
                self._loop.call_soon(self._pass)
            self._opened += 1
        task = self._loop.create_task(self._connect(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, connection: socket.socket) -> None:
        with suppress(OSError):  # it is gone
            await self._loop.connect_accepted_socket(self._make, connection)

    def _pass(self) -> None:
        """A new pass begins."""
        self._opened = 0


def _start_of(connection: socket.socket) -> bytes:
    """The first received bytes, without consuming them."""
    try:
        return connection.recv(PEEKED, socket.MSG_PEEK)
    except OSError:
        return b""

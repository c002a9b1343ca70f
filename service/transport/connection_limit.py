"""Limits on open connections, in all and from one address, with additional ones for probes."""

import logging
import resource
from collections.abc import Callable
from typing import Protocol

from service.security.client_identity import network_of
from service.siblings.sums import OwnSums, Sums

logger = logging.getLogger(__name__)

DESCRIPTORS = 64  # for everything but connections: listener, event loop, logs, checkpoint
PROXIES = "proxies"  # the network under which all connections of proxies are counted


class Limited(Protocol):
    """A connection that is counted."""

    def cut_off(self) -> None:
        """End at once."""


class ConnectionLimit:
    """Counts connections; one beyond a limit may only ask for health and metrics.

    most: connections that may request everything. each: of these, the most from one address; 0 = any number. exempt:
    whether an address is that of a proxy, which many clients share. beyond: additional connections that may be open.
    When one more comes, a connection without a request is cut off for it: the oldest of the address that has most of
    them. So many silent or quick connections cannot shut out a probe. sums: the connections of each network, if they
    are shared with other processes; each process cuts off only its own.
    """

    def __init__(
        self,
        most: int,
        each: int,
        beyond: int,
        exempt: Callable[[str], bool] = lambda _: False,
        sums: Sums | None = None,
    ) -> None:
        self.most = most
        self._each = each
        self._beyond = beyond
        self._exempt = exempt
        self._addresses: dict[Limited, str] = {}
        self._sums = sums or OwnSums()
        self._idle: dict[Limited, None] = {}  # beyond a limit and without a request, the oldest first

    @property
    def open(self) -> int:
        """The number of open connections."""
        return self._sums.whole

    @property
    def idle(self) -> int:
        """The number of connections beyond a limit that have no request."""
        return len(self._idle)

    def network(self, address: str) -> str:
        """The name under which connections of an address are counted."""
        return PROXIES if self._exempt(address) else network_of(address)

    def full(self, network: str | None) -> bool:
        """Whether a network has as many connections as it may have; with None, whether this is possible at all."""
        count = self.open if network is None else self._sums.of(network)
        return bool(self._each) and network != PROXIES and count >= self._each

    def enter(self, connection: Limited, address: str) -> bool:
        """Count a connection; returns whether it is within the limits."""
        network = self.network(address)
        self._addresses[connection] = network
        with self._sums.lock:
            self._sums.add(network, 1)
        if self.within(connection):
            return True
        self._idle[connection] = None
        if self.open > self.most + self._beyond:
            max(self._idle, key=lambda one: self._sums.of(self._addresses[one])).cut_off()
        return False

    def within(self, connection: Limited) -> bool:
        """Whether the limits hold with this connection, in all and for its address."""
        network = self._addresses.get(connection, "")
        crowd = self._each and network != PROXIES and self._sums.of(network) > self._each
        return not crowd and self.open <= self.most

    def busy(self, connection: Limited) -> None:
        """A connection has a request, and will not be cut off."""
        self._idle.pop(connection, None)

    def rest(self, connection: Limited) -> None:
        """A connection beyond a limit has got its answer."""
        if connection in self._addresses:
            self._idle[connection] = None

    def leave(self, connection: Limited) -> None:
        """A connection has ended; a second call does nothing."""
        self._idle.pop(connection, None)
        network = self._addresses.pop(connection, None)
        if network is not None:
            with self._sums.lock:
                self._sums.add(network, -1)


def fitting(connections: int, beside: int) -> int:
    """How many of `connections` the process can open besides `beside` others; raises its soft limit if needed."""
    wanted = connections + beside + DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < wanted:
        soft = wanted if hard == unlimited else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == unlimited or soft >= wanted:
        return connections
    fit = max(1, soft - (wanted - connections))
    logger.warning(
        "This process may open %d files, which is room for %d connections and not for %d; raise its limit (ulimit -n).",
        soft, fit, connections,
    )  # fmt: skip
    return fit

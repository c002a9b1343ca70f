"""How many connections there may be, in all and from one address, and how many more for probes."""

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from service.security.client_identity import network_of

PROXIES = "proxies"  # where all connections of proxies are counted


class Limited(Protocol):
    """A connection that is counted."""

    def cut_off(self) -> None:
        """End at once."""


class ConnectionLimit:
    """Counts connections; one beyond a limit may only ask for health and metrics.

    most: connections that may ask for everything. each: of them from one address, 0 = any number. exempt: whether an
    address is that of a proxy, which many clients share. beyond: connections that may be open in addition. When one
    more comes, a connection without a request is cut off for it: the oldest of the address that has most of them. A
    crowd of silent or quick connections so cannot shut out a probe.
    """

    def __init__(self, most: int, each: int, beyond: int, exempt: Callable[[str], bool] = lambda _: False) -> None:
        self.most = most
        self._each = each
        self._beyond = beyond
        self._exempt = exempt
        self._addresses: dict[Limited, str] = {}
        self._counts: Counter[str] = Counter()
        self._idle: dict[Limited, None] = {}  # beyond a limit and without a request, the oldest first

    def __len__(self) -> int:
        return len(self._addresses)

    @property
    def idle(self) -> int:
        """Connections beyond a limit that have no request."""
        return len(self._idle)

    def enter(self, connection: Limited, address: str) -> bool:
        """Count a connection; whether it is within the limits."""
        network = PROXIES if self._exempt(address) else network_of(address)
        self._addresses[connection] = network
        self._counts[network] += 1
        if self.within(connection):
            return True
        self._idle[connection] = None
        if len(self._addresses) > self.most + self._beyond:
            max(self._idle, key=lambda one: self._counts[self._addresses[one]]).cut_off()
        return False

    def within(self, connection: Limited) -> bool:
        """Whether there are no more connections than there may be, in all and from its address."""
        network = self._addresses.get(connection, "")
        crowd = self._each and network != PROXIES and self._counts[network] > self._each
        return not crowd and len(self._addresses) <= self.most

    def busy(self, connection: Limited) -> None:
        """A connection has a request, and will not be cut off."""
        self._idle.pop(connection, None)

    def rest(self, connection: Limited) -> None:
        """A connection beyond a limit is answered."""
        if connection in self._addresses:
            self._idle[connection] = None

    def leave(self, connection: Limited) -> None:
        """A connection has ended; again does nothing."""
        self._idle.pop(connection, None)
        network = self._addresses.pop(connection, None)
        if network is not None:
            self._counts[network] -= 1
            if not self._counts[network]:
                del self._counts[network]

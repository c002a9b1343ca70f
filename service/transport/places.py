"""Who may have a connection: so many in all, so many from one address, and some beyond for probes."""

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from service.security.callers import network_of

PROXIES = "proxies"  # where all connections of proxies are counted


class Guest(Protocol):
    """A connection as far as places are concerned."""

    def cut_off(self) -> None:
        """End at once."""


class Places:
    """Counts connections, and tells those that are beyond a limit, which may only ask how the server is.

    most: connections that may ask for everything. each: of them from one address, 0 = any number. exempt: whether an
    address is that of a proxy, behind which many clients are. beyond: connections that may be open in addition; when
    one more comes, one that says nothing is cut off for it, the oldest of the address that has most, so that no crowd,
    however silent or quick, keeps a probe out.
    """

    def __init__(self, most: int, each: int, beyond: int, exempt: Callable[[str], bool] = lambda _: False) -> None:
        self.most = most
        self._each = each
        self._beyond = beyond
        self._exempt = exempt
        self._addresses: dict[Guest, str] = {}
        self._counts: Counter[str] = Counter()
        self._idle: dict[Guest, None] = {}  # beyond a limit and without a request, the oldest first

    def __len__(self) -> int:
        return len(self._addresses)

    @property
    def idle(self) -> int:
        """Connections beyond a limit that have no request."""
        return len(self._idle)

    def enter(self, guest: Guest, address: str) -> bool:
        """Count a connection; whether it is within the limits."""
        network = PROXIES if self._exempt(address) else network_of(address)
        self._addresses[guest] = network
        self._counts[network] += 1
        if self.within(guest):
            return True
        self._idle[guest] = None
        if len(self._addresses) > self.most + self._beyond:
            max(self._idle, key=lambda one: self._counts[self._addresses[one]]).cut_off()
        return False

    def within(self, guest: Guest) -> bool:
        """Whether there are no more connections than there may be, in all and from its address."""
        network = self._addresses.get(guest, "")
        crowd = self._each and network != PROXIES and self._counts[network] > self._each
        return not crowd and len(self._addresses) <= self.most

    def busy(self, guest: Guest) -> None:
        """A connection has a request, and will not be cut off."""
        self._idle.pop(guest, None)

    def rest(self, guest: Guest) -> None:
        """A connection beyond a limit is answered."""
        if guest in self._addresses:
            self._idle[guest] = None

    def leave(self, guest: Guest) -> None:
        """A connection has ended; again does nothing."""
        self._idle.pop(guest, None)
        network = self._addresses.pop(guest, None)
        if network is not None:
            self._counts[network] -= 1
            if not self._counts[network]:
                del self._counts[network]

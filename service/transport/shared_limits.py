"""The limits that all connections of a server share: their number, and their time for parsing."""

import asyncio
from typing import Any

from service.process.pass_budget import PassBudget
from service.security.client_identity import among
from service.settings import Settings
from service.siblings.siblings import Siblings
from service.transport.connection_limit import ConnectionLimit, fitting
from service.transport.entrance import WAITING, Refused
from service.transport.parser import PASS_SECONDS

PROBE_CONNECTIONS = 32  # beyond the limit, for probes: more than a server's monitors open at once
# In addition to those for probes. With more, each new one cuts off the oldest without a request: descriptors are
# few.
REFUSED_CONNECTIONS = 256
MANAGEMENT_CONNECTIONS = 64  # on the management port
LEAVING = 8  # disconnected clients whose requests are ended in a pass, and as many of those that had to wait


class SharedLimits:
    """The shared limit and parsing time of all connections of a server, separate for the management port.

    management: the number of that port; None = there is none. siblings: other processes with which counts are shared.
    """

    def __init__(self, settings: Settings, management: int | None = None, siblings: Siblings | None = None) -> None:
        beyond = PROBE_CONNECTIONS + REFUSED_CONNECTIONS
        beside = beyond + WAITING + (0 if management is None else MANAGEMENT_CONNECTIONS)
        most = fitting(settings.max_connections, beside=beside)
        each = settings.max_address_connections
        proxies = among(settings.trusted_proxies)
        # A client without an address comes by the Unix socket, that is, from a proxy.
        self.public = ConnectionLimit(
            most,
            each,
            beyond,
            lambda address: not address or proxies(address),
            None if siblings is None else siblings.connections,
        )
        self.management = ConnectionLimit(
            MANAGEMENT_CONNECTIONS - PROBE_CONNECTIONS,
            0,
            PROBE_CONNECTIONS,
            sums=None if siblings is None else siblings.management,
        )
        self.management_port = management
        self.parsing = PassBudget(PASS_SECONDS)
        self.management_parsing = PassBudget(PASS_SECONDS)
        self.leaving = PassBudget(LEAVING, rest=0)
        self.refused = Refused()

    def is_management(self, transport: asyncio.BaseTransport) -> bool:
        """Whether a connection came by the management port."""
        return self.is_managements(transport.get_extra_info("sockname"))

    def is_managements(self, name: Any) -> bool:
        """Whether a socket with that name is one of the management port."""
        return self.management_port is not None and isinstance(name, tuple) and name[1] == self.management_port

    def limit_of(self, transport: asyncio.BaseTransport) -> ConnectionLimit:
        """The limit that counts a connection."""
        return self.management if self.is_management(transport) else self.public

"""Which requests count as one client's: those of a key, of an IPv4 address, or of an IPv6 network (/64)."""

import ipaddress
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache

from starlette.types import Scope

from service.request_context import request_context
from service.settings import listed

HOST_BITS = 64  # of an IPv6 address: every customer has that many, and may use another address for each request
LONGEST = 64  # characters of a client's name from a proxy that is not an address


@lru_cache(4096)
def network_of(address: str) -> str:
    """The network under which an address is counted: the /64 of an IPv6 address, any other address itself."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:LONGEST]
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(parsed) >> HOST_BITS << HOST_BITS))


def among(addresses: str | None) -> Callable[[str], bool]:
    """Whether an address is one of those between commas: addresses, networks such as 10.0.0.0/8, or * for all."""
    names = listed(addresses or "")
    networks = []
    for name in names:
        with suppress(ValueError):
            networks.append(ipaddress.ip_network(name, strict=False))

    @lru_cache(4096)
    def found(address: str) -> bool:
        if "*" in names or address in names:
            return True
        try:
            parsed = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        return any(parsed in network for network in networks)

    return found


def caller_of(scope: Scope) -> bytes | str:
    """The digest of a request's key, or its network if it has no key."""
    client = scope.get("client")
    return request_context(scope).holder or (network_of(client[0]) if client else "")

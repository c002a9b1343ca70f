"""Connections that take up a running server, and how many it counts."""

import socket
from contextlib import ExitStack

from tests.service.raw_client import connected
from tests.service.serving import Running, eventually


def taken(server: Running) -> int:
    return len(server.server.server_state.connections)


def fill(server: Running, stack: ExitStack, count: int) -> list[socket.socket]:
    """So many more connections, which say nothing."""
    before = taken(server)
    opened = [stack.enter_context(connected(server)) for _ in range(count)]
    assert eventually(lambda: taken(server) == before + count)
    return opened

"""Connections that wait are opened in an order of their own: a probe waits behind no crowd."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import ExitStack

import pytest

from service.transport import entrance
from service.transport.connection_limit import ConnectionLimit
from service.transport.entrance import (
    BURST_SECONDS,
    MOST_NETWORKS,
    OPENED,
    OPENING_SECONDS,
    REFUSED_RATE,
    REFUSED_SECONDS,
    SHARE,
    Entrance,
    Refused,
)
from service.transport.listeners import listen

CROWD, ANOTHER, NEWCOMER, PROXY = "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"
PROBE = b"GET /health/live HTTP/1.1\r\n"
ASKING = b"POST /v1/completions HTTP/1.1\r\n"
AT_ONCE = int(BURST_SECONDS / OPENING_SECONDS)  # in a crowd


class House:
    """A listener with an entrance. opened: the local ports of its clients, in the order in which they are let in."""

    def __init__(self, stack: ExitStack, crowded: bool = True) -> None:
        self.opened: list[int] = []
        self.refused: list[int] = []
        self.now = 1_000.0
        self.crowded = crowded
        self._stack = stack
        self._listener = stack.enter_context(listen("127.0.0.1", 0)[0])
        self._listener.setblocking(False)
        limit = ConnectionLimit(10_000, 0, 0, lambda address: address == PROXY)
        self.entrance = Entrance(
            self._listener,
            lambda: Guest(self),
            limit.network,
            lambda network: self.crowded and network != NEWCOMER,
            self._refuse,
            clock=lambda: self.now,
        )
        stack.callback(self.entrance.close)

    def _refuse(self, connection: socket.socket) -> None:
        self.refused.append(connection.getpeername()[1])
        connection.close()

    def come(self, address: str, data: bytes = ASKING) -> socket.socket:
        """A client connects, before anything is taken."""
        client = self._stack.enter_context(socket.socket())
        client.bind((address, 0))
        client.connect(self._listener.getsockname())
        client.sendall(data)
        return client

    async def passes(self, count: int = 40) -> None:
        """Let the event loop go round."""
        self.entrance.start()
        for _ in range(count):
            await asyncio.sleep(0)


class Guest(asyncio.Protocol):
    """A connection."""

    def __init__(self, house: House) -> None:
        self._house = house

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._house.opened.append(transport.get_extra_info("peername")[1])


def port(client: socket.socket) -> int:
    return int(client.getsockname()[1])


def in_house(test: Callable[[House], Awaitable[None]]) -> Callable[[], None]:
    async def main() -> None:
        with ExitStack() as stack:
            await test(House(stack))

    def run() -> None:
        asyncio.run(main())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@in_house
async def test_without_a_crowd_all_are_opened_in_turn(house: House) -> None:
    house.crowded = False
    clients = [house.come(CROWD) for _ in range(3 * OPENED)]
    await house.passes()
    assert house.opened == [port(client) for client in clients]


@in_house
async def test_a_probe_a_newcomer_and_a_proxy_go_before_a_crowd_that_came_first(house: House) -> None:
    crowd = [house.come(CROWD) for _ in range(20)]
    newcomer, proxied, probe = house.come(NEWCOMER), house.come(PROXY), house.come(CROWD, PROBE)
    await house.passes()
    assert set(house.opened[:3]) == {port(probe), port(newcomer), port(proxied)}
    assert house.opened[3:] == [port(client) for client in crowd]


@in_house
async def test_in_a_crowd_so_many_are_opened_as_are_earned(house: House) -> None:
    for _ in range(AT_ONCE + 30):
        house.come(CROWD)
    await house.passes()
    assert len(house.opened) in (AT_ONCE, AT_ONCE + 1)  # by a rounding
    before = len(house.opened)
    house.now += 10 * OPENING_SECONDS / SHARE
    house.come(CROWD, PROBE)  # which has the next look at the clock
    await house.passes()
    assert 10 <= len(house.opened) - before - 1 <= 11


@in_house
async def test_networks_have_their_turns_in_a_crowd(house: House) -> None:
    crowd = [house.come(CROWD) for _ in range(10)]
    others = [house.come(ANOTHER) for _ in range(2)]
    await house.passes()
    for at, client in enumerate(others):
        assert house.opened.index(port(client)) == 2 * at + 1
    assert [one for one in house.opened if one not in map(port, others)] == [port(client) for client in crowd]


def test_where_no_more_may_wait_the_last_of_the_network_with_most_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrance, "WAITING", 5)

    @in_house
    async def test(house: House) -> None:
        house.entrance._earned = 1e9  # nothing is opened
        crowd = [house.come(CROWD) for _ in range(6)]
        another = house.come(ANOTHER)
        await house.passes()
        assert house.refused == [port(crowd[5]), port(crowd[4])]
        house.crowded = False
        house.come(CROWD, PROBE)
        await house.passes()
        assert port(another) in house.opened
        assert len(house.opened) == 6

    test()


@in_house
async def test_one_that_says_late_that_it_is_a_probe_is_seen(house: House) -> None:
    house.entrance._earned = 1e9
    house.come(CROWD)
    late = house.come(CROWD, b"")
    await house.passes()
    assert house.opened == []
    late.sendall(PROBE)
    house.come(CROWD)
    await house.passes()
    assert house.opened == [port(late)]


@in_house
async def test_those_that_wait_are_dropped_at_the_end(house: House) -> None:
    house.entrance._earned = 1e9
    client = house.come(CROWD)
    await house.passes()
    house.entrance.close()
    client.settimeout(10)
    with pytest.raises(ConnectionResetError):  # its bytes are not read
        client.recv(1)
    assert house.opened == []


def test_a_network_whose_connections_are_refused_again_and_again_is_a_crowd_for_a_while() -> None:
    now = 1_000.0
    refused = Refused(lambda: now)
    at_once = int(REFUSED_RATE * REFUSED_SECONDS)
    for _ in range(at_once):
        refused.note(CROWD)
    assert not refused.crowded(CROWD)
    for _ in range(100 * at_once):
        refused.note(CROWD)
    refused.note(ANOTHER)
    assert refused.crowded(CROWD)
    assert refused.crowded(None)
    assert not refused.crowded(ANOTHER)
    assert not refused.crowded(NEWCOMER)
    now += REFUSED_SECONDS + 0.01  # as long after ten thousand as after a few
    assert not refused.crowded(CROWD)
    assert not refused.crowded(None)


def test_networks_that_are_refused_now_and_then_are_forgotten() -> None:
    now = 1_000.0
    refused = Refused(lambda: now)
    for number in range(3 * MOST_NETWORKS):
        refused.note(f"10.0.{number}")
    assert len(refused._earned) <= MOST_NETWORKS

"""However small the chunks of bodies are, they are parsed a little at a time, and of strangers not at all."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.settings import Settings
from service.transport.parse_budget import PASS_SECONDS, ParseBudget, Parser
from tests.service.raw_client import answer, connected, rest
from tests.service.serving import Running, serving

KEY = "k" * 32
HEAD = b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
EVENT = 0.0001  # seconds an event takes by the clock of these tests


class Work:
    """A connection with so many events to parse, by a clock that only parsing moves."""

    def __init__(self, clock: list[float], events: int) -> None:
        self.clock = clock
        self.left = events

    def parse(self, seconds: float) -> bool:
        until = self.clock[0] + seconds
        while self.left and self.clock[0] <= until:
            self.clock[0] += EVENT
            self.left -= 1
        return self.left > 0


@given(st.lists(st.integers(0, 200), max_size=20))
def test_a_pass_parses_so_long_for_all_connections_together(amounts: list[int]) -> None:
    clock = [0.0]

    async def run() -> list[float]:
        turns = ParseBudget(lambda: clock[0])
        works = [Work(clock, amount) for amount in amounts]
        for work in works:
            turns.take(work.parse)
        passes = [clock[0]]
        while any(work.left for work in works):
            before = clock[0]
            await asyncio.sleep(0)
            passes.append(clock[0] - before)
        return passes

    passes = asyncio.run(run())
    assert max(passes) <= PASS_SECONDS + 2 * EVENT
    assert round(sum(passes) / EVENT) == sum(amounts)


def test_a_newcomer_parses_beside_those_who_have_much() -> None:
    clock = [0.0]

    async def run() -> int:
        turns = ParseBudget(lambda: clock[0])
        for _ in range(100):
            turns.take(Work(clock, 10_000).parse)
        for passes in range(10):
            await asyncio.sleep(0)
            newcomer = Work(clock, 2)
            turns.take(newcomer.parse)
            if not newcomer.left:
                return passes
        return -1

    assert asyncio.run(run()) == 0


def chunks(body: bytes) -> bytes:
    return b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"


@pytest.fixture(scope="module")
def locked(checkpoint_folder: Path) -> Iterator[Running]:
    with serving(Settings(checkpoint=checkpoint_folder, api_keys=KEY)) as running:
        yield running


def test_a_body_in_chunks_of_a_byte_is_read_whole_and_so_is_what_follows(locked: Running) -> None:
    head = HEAD + f"Authorization: Bearer {KEY}\r\n\r\n".encode()
    text = "abc" * 5_000
    sent = head + chunks(f'{{"prompt": "{text}"}}'.encode())
    with ExitStack() as stack:
        clients = [stack.enter_context(connected(locked)) for _ in range(4)]
        for client in clients:
            client.sendall(sent * 2)
        for client in clients:
            for _ in range(2):
                assert b'"count":15000' in answer(client).body


def test_nothing_of_a_stranger_s_body_is_parsed(locked: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    def counted(parser: Parser) -> Any:
        events.append(type(event := plain(parser)).__name__)
        return event

    plain = Parser.next_event
    monkeypatch.setattr(Parser, "next_event", counted)
    for head, most in ((HEAD, 0), (HEAD.replace(b"Transfer-Encoding: chunked", b"Content-Length: 50000"), 5)):
        events.clear()
        with connected(locked) as client:
            client.sendall(head + b"\r\n" + b"1\r\na\r\n" * 8_000)
            refused = answer(client)
            assert refused.status == 401
            assert refused.headers["connection"] == "close"
            assert rest(client) == b""
        assert events.count("Data") <= most

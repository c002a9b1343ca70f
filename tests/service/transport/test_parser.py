"""However small the chunks of bodies are, they are parsed a little at a time, and of strangers not at all."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import h11
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.settings import Settings
from service.transport.parser import Parser
from tests.service.raw_client import answer, connected, rest, vanish
from tests.service.serving import Running, eventually, serving, serving_process

KEY = "k" * 32
HEAD = b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"


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


def pour(client: socket.socket) -> None:
    """Send a body that takes seconds to parse and does not end, or as much of it as is taken."""
    client.settimeout(0.05)
    with suppress(TimeoutError):
        client.sendall(HEAD + f"Authorization: Bearer {KEY}\r\n\r\n".encode() + b"1\r\na\r\n" * 100_000)


@pytest.mark.parametrize("leave", [socket.socket.close, vanish], ids=["end", "reset"])
def test_nothing_is_parsed_for_long_for_clients_that_are_gone(
    leave: Callable[[socket.socket], None], locked: Running
) -> None:
    """Though the end of what they sent lies behind bytes that are not read yet; all of them take a minute."""
    state = locked.server.server_state
    assert eventually(lambda: locked.ledger.held == 0)
    with ExitStack() as stack:
        clients = [stack.enter_context(connected(locked)) for _ in range(24)]
        for client in clients:
            pour(client)
        assert eventually(lambda: locked.ledger.held > 0 and len(state.tasks) == len(clients))
        for client in clients:
            leave(client)
        assert eventually(lambda: not state.tasks and locked.ledger.held == 0, seconds=10)


def test_a_client_that_waits_while_it_is_parsed_is_answered_though_it_sends_no_more(locked: Running) -> None:
    text = "abc" * 10_000
    with ExitStack() as stack:
        clients = [stack.enter_context(connected(locked)) for _ in range(3)]
        for client in clients:
            client.settimeout(30)
            client.sendall(HEAD + f"Authorization: Bearer {KEY}\r\n\r\n".encode())
            client.sendall(chunks(f'{{"prompt": "{text}"}}'.encode()))
            client.shutdown(socket.SHUT_WR)
        for client in clients:
            received = rest(client)
            while received.startswith(b"HTTP/1.1 100 "):
                received = received.partition(b"\r\n\r\n")[2]
            assert received.startswith(b"HTTP/1.1 200 ")
            assert b'"count":30000' in received


def test_a_body_that_does_not_end_does_not_keep_a_server_that_stops(checkpoint_folder: Path) -> None:
    arguments = (str(checkpoint_folder), "--port", "0", "--grace-seconds", "60")
    with serving_process(*arguments, UNROLL_API_KEYS=KEY) as (process, url), ExitStack() as stack:
        host, port = url.rpartition("/")[2].split(":")
        for _ in range(8):
            pour(stack.enter_context(socket.create_connection((host, int(port)))))
        waiting = stack.enter_context(socket.create_connection((host, int(port)), timeout=10))
        waiting.sendall(HEAD + f"Authorization: Bearer {KEY}\r\n\r\n1\r\n{{\r\n".encode())
        assert httpx.get(f"{url}/health/live").status_code == 200  # so that those before it have been taken
        process.terminate()
        refused = answer(waiting)
        assert refused.status == 503
        assert refused.error["code"] == "draining"
        assert process.wait(timeout=30) == 0


@given(
    st.sampled_from(["GET", "HEAD"]),
    st.sampled_from(["1.0", "1.1"]),
    st.booleans(),
    st.lists(st.binary(max_size=300), max_size=5),
)
def test_answers_are_written_as_h11_writes_them(method: str, version: str, known: bool, parts: list[bytes]) -> None:
    def written(connection: h11.Connection) -> list[bytes | None]:
        connection.receive_data(f"{method} / HTTP/{version}\r\nHost: localhost\r\n\r\n".encode())
        if isinstance(connection, Parser):
            connection.begin(60)
        while type(connection.next_event()) is not h11.EndOfMessage:
            pass
        length = [("Content-Length", str(sum(map(len, parts))))] if known else []
        sent = [connection.send(h11.Response(status_code=200, headers=length))]
        sent += [connection.send(h11.Data(data=b"" if method == "HEAD" else part)) for part in parts]
        return [*sent, connection.send(h11.EndOfMessage())]

    ours, theirs = written(Parser(16_384)), written(h11.Connection(h11.SERVER))
    assert b"".join(filter(None, ours)) == b"".join(filter(None, theirs))
    if known:  # the head goes out with what follows
        assert not ours[0]
        assert (ours[1] or b"").startswith(theirs[0] or b"?")
    else:
        assert ours == theirs

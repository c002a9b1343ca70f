"""Clients that send slowly, read slowly or are gone: each is let go in time, and costs little until then (P5)."""

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings
from service.transport import staged_transport
from service.transport.connections import Connection
from service.transport.staged_transport import StagedTransport
from tests.service.raw_client import answer, asking, connected, rest, vanish
from tests.service.serving import ENDLESS, Running, SlowDecoder, SlowRows, eventually, serving, serving_process
from tests.service.taking import taken

PROBE = asking("/health")
FREE_SECONDS = 0.05  # P5: for a gone client's place
ATTEMPTS = 20  # of which one has to be that quick: a busy machine makes some slow, a mistake all
SMALL = 4_096  # bytes of a reader's own buffer in the kernel

USER_TIMEOUT = socket.TCP_USER_TIMEOUT  # which most tests here do without
TCP_REPAIR = 19  # of linux/tcp.h: a socket closed in this state sends neither FIN nor RST

READERS = 20
MEMORY = 400  # kilobytes a reader may cost who takes nothing: two buffers of 64 KiB, and the text so far


@pytest.fixture(scope="module")
def strict(checkpoint_folder: Path) -> Iterator[Running]:
    """A server that waits for nobody, and takes its time to write; on a system whose kernel gives no reader up."""
    settings = Settings(
        checkpoint=checkpoint_folder,
        stream_interval=0,
        header_seconds=0.3,
        body_seconds=0.3,
        idle_seconds=0.3,
        send_seconds=0.5,
    )
    with pytest.MonkeyPatch.context() as patch, serving(settings, SlowDecoder) as running:
        patch.delattr(socket, "TCP_USER_TIMEOUT")
        running.client.close()
        yield running


def is_idle(server: Running) -> bool:
    return server.engine.running == server.engine.waiting == 0


def drip(connection: socket.socket, data: bytes) -> bytes:
    """Send a byte now and then until there is an answer, and give what came of it."""
    connection.settimeout(0.02)
    for byte in data:
        try:
            connection.sendall(bytes([byte]))
            received = connection.recv(65_536)
        except TimeoutError:
            continue
        except ConnectionError:
            return b""
        connection.settimeout(5)
        return received + rest(connection)
    raise AssertionError("all was taken")


@pytest.mark.parametrize("sent", [b"", PROBE[:-2], PROBE + PROBE[:-2]])
def test_headers_that_do_not_come_are_waited_for_for_a_time(sent: bytes, strict: Running) -> None:
    with connected(strict) as client:
        client.sendall(sent)
        if sent.startswith(PROBE):
            assert answer(client).status == 200
        began = time.monotonic()
        late = answer(client)
        assert late.status == 408
        assert late.error["code"] == "headers_too_slow"
        assert late.headers["connection"] == "close"
        assert 0.1 < time.monotonic() - began < Settings().header_seconds
        assert rest(client) == b""


def test_a_byte_now_and_then_wins_no_time(strict: Running) -> None:
    with connected(strict) as client:
        assert drip(client, PROBE[:20] + b"a" * 500).startswith(b"HTTP/1.1 408 ")
    with connected(strict) as client:
        client.sendall(PROBE)
        assert answer(client).status == 200
        assert drip(client, PROBE[:20] + b"a" * 500).startswith(b"HTTP/1.1 408 ")


def test_an_idle_connection_is_kept_for_a_time(strict: Running) -> None:
    with connected(strict) as client:
        for _ in range(3):
            client.sendall(PROBE)
            assert answer(client).status == 200
            time.sleep(0.1)
        began = time.monotonic()
        assert rest(client) == b""
        assert 0.1 < time.monotonic() - began < Settings().idle_seconds


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_does_not_come_in_time_is_answered_with_408(chunked: bool, strict: Running) -> None:
    head, _, body = asking("/v1/completions", prompt="a" * 2_000).partition(b"\r\n\r\n")
    if chunked:
        head = head.partition(b"Content-Length")[0] + b"Transfer-Encoding: chunked"
        body = b"1\r\na\r\n" * 2_000
    with connected(strict) as client:
        client.sendall(head + b"\r\n\r\n")
        late = drip(client, body)
        assert late.startswith(b"HTTP/1.1 408 ")
        assert b"0.3 seconds" in late
    assert eventually(lambda: not strict.server.server_state.tasks)


@pytest.mark.parametrize("stream", [False, True])
def test_the_time_for_a_body_ends_with_the_body_and_not_the_answer(stream: bool, strict: Running) -> None:
    """Nor does it end the watch for a client that goes away."""
    with connected(strict) as client:
        client.sendall(asking("/v1/completions", prompt="a", max_tokens=ENDLESS, stream=stream))
        time.sleep(0.6)
        assert strict.engine.running == 1
    assert eventually(lambda: is_idle(strict))


def long_stream(**fields: Any) -> bytes:
    return asking("/v1/completions", prompt="a", max_tokens=ENDLESS, stream=True, **fields)


@pytest.mark.parametrize("taking", [0, 1])
def test_a_stream_nobody_takes_frees_its_places(taking: int, strict: Running) -> None:
    """Nor one of which a byte is taken now and then."""
    with connected(strict, SMALL) as client:
        client.sendall(long_stream(n=4, logprobs=5))
        assert eventually(lambda: strict.engine.running == 4)
        began = time.monotonic()
        while not is_idle(strict):
            assert time.monotonic() - began < 30
            if taking:
                client.recv(1)
            time.sleep(0.05)
        assert eventually(lambda: taken(strict) == 0)
        assert time.monotonic() - began > 0.5


def test_a_slow_reader_who_goes_on_reading_gets_everything(strict: Running) -> None:
    """Though all of it takes longer than any of it may."""
    count, seconds = 50, 1.5
    request = asking("/openapi.json")
    with connected(strict, 50 * SMALL) as client:
        client.sendall(request)
        page = answer(client).body
        client.sendall(request * (count - 1) + request[:-2] + b"Connection: close\r\n\r\n")
        received, began = bytearray(), time.monotonic()
        while piece := client.recv(32_768):
            received += piece
            time.sleep(max(0.0, len(received) / (count * len(page)) * seconds - (time.monotonic() - began)))
        assert received.count(page) == count
        assert time.monotonic() - began > seconds * 0.9


def test_answers_nobody_takes_end_their_connection(strict: Running) -> None:
    with connected(strict, SMALL) as client:
        client.sendall(asking("/openapi.json") * 20)
        assert eventually(lambda: taken(strict) == 1)
        assert eventually(lambda: taken(strict) == 0, seconds=10)


def test_an_answer_that_only_the_kernel_still_holds_ends_its_connection_too(
    checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "TCP_USER_TIMEOUT", USER_TIMEOUT, raising=False)
    with (
        serving(Settings(checkpoint=checkpoint_folder, send_seconds=0.5)) as running,
        connected(running, SMALL) as client,
    ):
        running.client.close()
        client.sendall(asking("/openapi.json"))
        assert eventually(lambda: taken(running) == 1)
        time.sleep(0.2)
        (connection,) = running.server.server_state.connections
        assert isinstance(connection, Connection)
        assert not connection.flow.write_paused
        assert taken(running) == 1
        assert eventually(lambda: taken(running) == 0, seconds=10)


def test_closing_does_not_wait_for_a_reader_for_ever() -> None:
    async def close(unread: int) -> float:
        """Seconds until a transport with so many unread bytes was lost."""
        loop = asyncio.get_running_loop()
        lost = loop.create_future()
        ours, theirs = socket.socketpair()

        class Protocol(asyncio.Protocol):
            def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
                lost.set_result(loop.time())

        with theirs:
            transport, _ = await loop.create_connection(Protocol, sock=ours)
            staged = StagedTransport(transport, lambda: False, 0.2)
            staged.write(b"a" * unread)
            began = loop.time()
            staged.close()
            assert staged.is_closing()
            return float(await asyncio.wait_for(lost, 5)) - began

    assert asyncio.run(close(1 << 24)) >= 0.19
    assert asyncio.run(close(10)) < 0.19


def test_closing_to_one_who_still_sends_and_has_reset_the_connection_ends_it() -> None:
    """The event loop has not seen the reset yet; `shutdown` of such a socket is an error."""

    async def close() -> None:
        loop = asyncio.get_running_loop()
        lost = loop.create_future()

        class Protocol(asyncio.Protocol):
            def connection_lost(self, exc: Exception | None) -> None:
                lost.set_result(exc)

        with socket.create_server(("127.0.0.1", 0)) as listener:
            theirs = socket.create_connection(listener.getsockname())
            ours, _ = listener.accept()
        transport, _ = await loop.create_connection(Protocol, sock=ours)
        vanish(theirs)
        staged = StagedTransport(transport, lambda: True, 10)
        staged.close()
        assert staged.is_closing()
        await asyncio.wait_for(lost, 5)

    asyncio.run(close())


def quickest(go: Callable[[], None], freed: Callable[[], bool]) -> float:
    """The least seconds from when a client was gone until its place was free; `go` lets it go, and others come."""
    times = []
    for _ in range(ATTEMPTS):
        go()
        began = time.monotonic()
        while not freed():
            assert time.monotonic() - began < 10
            time.sleep(0.001)
        times.append(time.monotonic() - began)
        if times[-1] <= FREE_SECONDS:
            break
    return min(times)


ASKED = {
    "streamed": asking("/v1/completions", prompt="a", max_tokens=ENDLESS, stream=True),
    "not streamed": asking("/v1/completions", prompt="a", max_tokens=ENDLESS),
    "streamed, prompt being read": asking("/v1/completions", prompt="a" * 20_000, stream=True),
    "not streamed, prompt being read": asking("/v1/completions", prompt="a" * 20_000),
    "another request sent ahead": asking("/v1/completions", prompt="a", max_tokens=ENDLESS) + PROBE * 3,
    "a part of one sent ahead": asking("/v1/completions", prompt="a", max_tokens=ENDLESS, stream=True) + b"GET",
    "four texts": asking("/v1/completions", prompt="a", max_tokens=ENDLESS, n=4),
}


@pytest.mark.parametrize("leave", [socket.socket.close, vanish], ids=["end", "reset"])
@pytest.mark.parametrize("request_", ASKED.values(), ids=ASKED)
def test_p5_a_gone_client_frees_its_place_within_50_ms(
    request_: bytes, leave: Callable[[socket.socket], None], slow_server: Running
) -> None:
    def go() -> None:
        with connected(slow_server) as client:
            client.sendall(request_)
            assert eventually(lambda: slow_server.engine.running > 0)
            time.sleep(0.02)
            client.sendall(b"" if request_.endswith(b"}") else PROBE)
            leave(client)

    assert quickest(go, lambda: is_idle(slow_server)) <= FREE_SECONDS


def test_p5_a_gone_client_frees_its_place_in_the_queue_within_50_ms(slow_server: Running) -> None:
    with connected(slow_server) as other:
        other.sendall(long_stream(n=4))
        assert eventually(lambda: slow_server.engine.running == 4)

        def go() -> None:
            with connected(slow_server) as client:
                client.sendall(asking("/v1/completions", prompt="a", n=2))
                assert eventually(lambda: slow_server.engine.waiting == 2)

        assert quickest(go, lambda: slow_server.engine.waiting == 0) <= FREE_SECONDS
        assert slow_server.engine.running == 4
    assert eventually(lambda: is_idle(slow_server))


def test_p5_a_client_gone_in_the_middle_of_its_body_leaves_nothing_within_50_ms(slow_server: Running) -> None:
    tasks = slow_server.server.server_state.tasks

    def go() -> None:
        with connected(slow_server) as client:
            client.sendall(ASKED["streamed"][:-10])
            assert eventually(lambda: len(tasks) == 1)

    assert quickest(go, lambda: not tasks) <= FREE_SECONDS
    assert is_idle(slow_server)


def test_a_peer_that_vanished_without_a_word_is_noticed(
    checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though its answer is not streamed, so that nothing is sent for long."""
    monkeypatch.setattr(staged_transport, "QUIET_SECONDS", 1)
    with serving(Settings(checkpoint=checkpoint_folder), SlowDecoder) as running, connected(running) as client:
        client.sendall(ASKED["not streamed"])
        assert eventually(lambda: running.engine.running == 1)
        try:
            client.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        except OSError:
            pytest.skip("only the system's administrator may let a socket vanish")
        client.close()
        time.sleep(0.2)
        assert running.engine.running == 1
        assert eventually(lambda: is_idle(running), seconds=10)


def test_readers_who_take_nothing_cost_little_memory_and_only_for_a_time(checkpoint_folder: Path) -> None:
    arguments = (str(checkpoint_folder), "--port", "0", "--stream-interval", "0", "--send-seconds", "1")
    with serving_process(*arguments, rows=SlowRows) as (process, url):

        def memory() -> int:
            """Kilobytes the server has in memory."""
            status = Path(f"/proc/{process.pid}/status").read_text("ascii")
            return int(status.partition("VmRSS:")[2].split()[0])

        def opened() -> int:
            count = 0
            for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
                with suppress(FileNotFoundError):  # closed since the folder was listed
                    count += "socket" in str(descriptor.readlink())
            return count

        host, port = url.rpartition("/")[2].split(":")
        descriptors = opened()

        def most_with(count: int) -> int:
            """The most memory while so many readers were connected, until the server had let them all go."""
            readers = [socket.socket() for _ in range(count)]
            for reader in readers:
                reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
                reader.connect((host, int(port)))
                reader.sendall(long_stream(logprobs=5))
            assert eventually(lambda: opened() == descriptors + count)
            most = 0
            while opened() > descriptors:
                most = max(most, memory())
                time.sleep(0.05)
            for reader in readers:
                reader.close()
            return most

        first = most_with(1)  # which pays for what is made once
        assert (most_with(1 + READERS) - first) / READERS < MEMORY


def test_what_waits_for_a_slow_reader_is_bounded(checkpoint_folder: Path) -> None:
    """A stream that nobody takes ends with an error and gives its place back, while its reader may still be patient."""
    settings = Settings(checkpoint=checkpoint_folder, max_untaken_characters=20_000)
    fields: dict[str, Any] = {"prompt": "a", "max_tokens": ENDLESS, "stream": True, "logprobs": 5, "stream_interval": 0}
    with serving(settings) as running, connected(running, SMALL) as client:
        client.sendall(asking("/v1/completions", **fields))
        assert eventually(lambda: running.engine.running == 1)
        assert eventually(lambda: running.engine.running == 0, 20)
        assert running.engine.counters.finished["error"] == 1
        received = client.recv(1 << 20)
        while b"data: [DONE]" not in received:
            received += client.recv(1 << 20)
        assert b'"code":"reader_too_slow"' in received
        assert running.complete(max_tokens=50)["usage"]["completion_tokens"] == 50

"""What strangers send: bytes that are no HTTP, or too much of it, and descriptors a process may have."""

import re
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.settings import Settings
from service.transport import staged_transport
from service.transport.connection_limit import DESCRIPTORS, fitting
from service.transport.staged_transport import ASK_SECONDS, ASK_TIMES, QUIET_SECONDS
from tests.service.raw_client import answer, asking, connected, rest
from tests.service.serving import REPOSITORY, Running, eventually, serving

PROBE = asking("/health")
SMALL: dict[str, Any] = {"max_header_bytes": 2_048, "max_body_bytes": 100_000}
MINUTE = 60.0  # seconds: a limit no test reaches


@pytest.fixture(scope="module")
def strict(checkpoint_folder: Path) -> Iterator[Running]:
    """A server that takes small headers and bodies, and keeps no idle connection for long."""
    with serving(Settings(checkpoint=checkpoint_folder, **SMALL, idle_seconds=0.2)) as running:
        yield running


@pytest.fixture(scope="module")
def hasty(checkpoint_folder: Path) -> Iterator[Running]:
    """A server that waits for nobody."""
    hasty = Settings(checkpoint=checkpoint_folder, **SMALL, header_seconds=0.03, idle_seconds=0.03, body_seconds=0.03)
    with serving(hasty) as running:
        yield running


def test_the_limit_of_open_files_is_raised_for_the_connections_or_bounds_them() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    program = (
        "import resource, service.transport.connection_limit as t;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, {hard}));"
        "print(t.fitting({wanted}, beside=10), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    for limit, wanted, expected in (
        (400, 200, (200, 200 + 10 + DESCRIPTORS)),
        (400, 900, (400 - 10 - DESCRIPTORS, 400)),
    ):
        command = [sys.executable, "-c", program.format(hard=limit, wanted=wanted)]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
        assert tuple(map(int, done.stdout.split())) == expected
        assert ("ulimit" in done.stderr) == (wanted == 900)
    assert fitting(1, beside=1) == 1
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)


def test_the_kernel_asks_whether_a_silent_peer_still_is_there(server: Running) -> None:
    """And ends what it cannot send: a peer that vanished sends no FIN, and a shut window no error."""
    with connected(server) as client:
        client.sendall(PROBE)
        assert answer(client).status == 200
        name = client.getsockname()
        peers = [one.transport.get_extra_info("socket") for one in server.server.server_state.connections]
        (peer,) = [one for one in peers if one.getpeername() == name]
        assert peer.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert peer.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 1 << 18
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
        found = tuple(peer.getsockopt(socket.IPPROTO_TCP, option) for option in options)
        assert found == (QUIET_SECONDS, ASK_SECONDS, ASK_TIMES, 30_000)


GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
MALFORMED = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "no request line": b"\r\n\r\n",
    "no version": b"GET /health\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "two hosts": GET + b"Host: y\r\n\r\n",
    "NUL in a header": GET + b"X: a\x00b\r\n\r\n",
    "NUL in the path": b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "carriage return in a header": GET + b"X: a\rb\r\n\r\n",
    "space before the colon": GET + b"X : a\r\n\r\n",
    "fold before the first header": b"GET /health HTTP/1.1\r\n Host: localhost\r\n\r\n",
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a list of lengths": POST + b"Content-Length: 2, 3\r\n\r\n{}",
    "a negative length": POST + b"Content-Length: -2\r\n\r\n{}",
    "a length with a sign": POST + b"Content-Length: +2\r\n\r\n{}",
    "a length of 40 digits": POST + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n{}",
    "length and chunks": POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunks twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks by another name": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunks inside something": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "no chunk": POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a chunk that goes on": POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}zz",
}
LARGE = {
    "a path": b"GET /" + b"a" * 300_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a path without end": b"GET /" + b"a" * 300_000,
    "a header": GET + b"X: " + b"a" * 300_000 + b"\r\n\r\n",
    "a name": GET + b"a" * 300_000 + b": a\r\n\r\n",
    "folds": GET + b"X: a\r\n" + b" a\r\n" * 10_000 + b"\r\n",
    "10,000 headers": GET + b"X: a\r\n" * 10_000 + b"\r\n",
    "just too many headers": GET + b"a:\r\n" * 100 + b"\r\n",
    "just too long headers": GET + b"X: " + b"a" * 2_048 + b"\r\n\r\n",
    "an endless chunk extension": POST + b"Transfer-Encoding: chunked\r\n\r\n2;" + b"a" * 300_000,
    "endless trailers": POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n" + b"X: a\r\n" * 50_000,
}


@pytest.mark.parametrize("request_", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_http_gets_one_short_400(request_: bytes, strict: Running) -> None:
    with connected(strict) as client:
        client.sendall(request_)
        refused = answer(client)
        assert refused.status == 400
        assert refused.error["code"] == "malformed_request"
        assert refused.headers["connection"] == "close"
        assert rest(client) == b""


def test_nobody_waits_for_the_rest_of_a_body_that_is_none(strict: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staged_transport, "LINGER_SECONDS", MINUTE)
    with connected(strict) as client:
        client.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}")
        assert eventually(lambda: len(strict.server.server_state.tasks) == 1)
        time.sleep(0.05)
        client.sendall(b"zz")
        assert answer(client).status == 400
        assert eventually(lambda: not strict.server.server_state.tasks)


@pytest.mark.parametrize("request_", LARGE.values(), ids=LARGE)
def test_headers_have_bounds_even_when_they_come_whole(request_: bytes, strict: Running) -> None:
    began = time.monotonic()
    with connected(strict) as client:
        client.sendall(request_)
        assert ((refused := answer(client)).status, refused.error["code"]) == (431, "headers_too_large")
        assert time.monotonic() - began < 5  # and not when the headers' time is over
        assert rest(client) == b""


def test_headers_that_come_whole_cost_no_more_than_their_bounds(strict: Running) -> None:
    """In processor time: h11 takes what ends in the read it began in, and 20 ms for 16,000 headers."""
    seconds = []
    for _ in range(5):
        began = time.process_time()
        with connected(strict) as client:
            client.sendall(GET + b"a:\r\n" * 16_000 + b"\r\n")
            assert answer(client).status == 431
            seconds.append(time.process_time() - began)
    assert min(seconds) < 0.012


def test_headers_at_their_bounds_are_read(strict: Running) -> None:
    with connected(strict) as client:
        for headers in (b"a:\r\n" * 99, b"X: " + b"a" * 1_900 + b"\r\n"):
            client.sendall(GET + headers + b"\r\n")
            assert answer(client).status == 200


@pytest.mark.parametrize(
    "request_",
    [
        GET.replace(b"\r\n", b"\n") + b"\n",  # RFC 9112, section 2.2, lets a server take these
        GET + b"X: a\r\n b\r\n\r\n",  # section 5.2
        GET + b"Upgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        GET + b"Upgrade: h2c\r\nConnection: upgrade, HTTP2-Settings\r\n\r\n",
        GET + b"X: \xff\x1b[31m\r\n\r\n",
    ],
)
def test_odd_requests_that_may_be_read_are_answered_once(
    request_: bytes, strict: Running, caplog: pytest.LogCaptureFixture
) -> None:
    with connected(strict) as client:
        client.sendall(request_)
        assert answer(client).status == 200
        assert rest(client) == b""
    assert [record.getMessage() for record in caplog.records if record.name.startswith("uvicorn")] == []


@pytest.mark.parametrize(
    "target", [b"ftp://elsewhere/health", b"*", b"elsewhere:443", b"health", b"/%00%ff", b"//health"]
)
@pytest.mark.parametrize("method", [b"GET", b"CONNECT", b"DELETE", b"PRI"])
def test_no_other_target_than_a_path_leads_anywhere(method: bytes, target: bytes, strict: Running) -> None:
    with connected(strict) as client:
        client.sendall(method + b" " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer(client).status in (400, 404, 405)


def test_requests_sent_ahead_are_answered_in_order(strict: Running) -> None:
    with connected(strict) as client:
        asked = [asking("/v1/completions", prompt="a" * length, max_tokens=1) for length in range(1, 40)]
        client.sendall(b"".join(asked) + PROBE[:20])
        lengths = [re.search(rb'"prompt_tokens":(\d+)', answer(client).body) for _ in asked]
        assert [int(length[1]) for length in lengths if length] == list(range(1, 40))
        client.sendall(PROBE[20:])
        assert answer(client).status == 200


CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
TOO_LONG = {
    "announced": (POST + b"Content-Length: 100000000\r\n\r\n", 413),
    "chunked": (CHUNKED, 413),
    "announced to nobody": (POST.replace(b"/v1", b"/v2") + b"Content-Length: 100000000\r\n\r\n", 404),
    "chunked to nobody": (CHUNKED.replace(b"/v1", b"/v2"), 404),
    "announced and asking first": (POST + b"Content-Length: 100000000\r\nExpect: 100-continue\r\n\r\n", 413),
}


@pytest.mark.parametrize(("head", "status"), TOO_LONG.values(), ids=TOO_LONG)
def test_a_long_upload_is_answered_and_not_read_to_its_end(
    head: bytes, status: int, strict: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staged_transport, "LINGER_SECONDS", 0.2)
    piece = b"8000\r\n" + b"a" * 0x8000 + b"\r\n" if b"chunked" in head else b"a" * 0x8000
    with connected(strict) as client:
        client.sendall(head)
        if b"Expect" not in head:
            client.sendall(piece * 8)
        refused = answer(client)
        assert refused.status == status
        assert refused.headers["connection"] == "close"
        assert client.recv(1) == b""  # an end and no reset, which could have overtaken the answer
        with pytest.raises(ConnectionError):
            send_on(client, piece)


def send_on(client: socket.socket, piece: bytes) -> None:
    """Send until the server has had enough."""
    while True:
        client.sendall(piece)
        time.sleep(0.01)


def test_the_short_rest_of_an_answered_upload_is_read_and_the_connection_stays(strict: Running) -> None:
    """As of clients that send headers and body apart: many refusals would cost them many connections."""
    request = asking("/v2/completions", prompt="a" * 100)
    with connected(strict) as client:
        for _ in range(2):
            client.sendall(request[:-50])
            assert answer(client).status == 404
            client.sendall(request[-50:])
        client.sendall(PROBE)
        assert answer(client).status == 200


@pytest.mark.parametrize("sent", [-50, None])
def test_the_rest_of_an_answered_upload_is_not_waited_for(sent: int | None, hasty: Running) -> None:
    """Nor is another request after it."""
    request = asking("/v2/completions", prompt="a" * 100)
    with connected(hasty) as client:
        client.sendall(request[:-60])
        assert answer(client).status == 404
        client.sendall(request[-60:sent])
        assert rest(client) == b""


HEADERS = st.lists(
    st.tuples(
        st.sampled_from([b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Upgrade", b"Expect", b"X"]),
        st.sampled_from(
            [b"x", b"2", b"chunked", b"close", b"keep-alive", b"upgrade", b"100-continue", b"websocket", b""]
        )
        | st.binary(max_size=6),
    ),
    max_size=5,
)
REQUESTS = st.builds(
    lambda method, path, version, headers, end, body: (
        b"%s %s HTTP/%s" % (method, path, version)
        + end
        + b"".join(name + b": " + value + end for name, value in headers)
        + end
        + body
    ),
    st.sampled_from([b"GET", b"POST", b"HEAD", b"CONNECT", b"OPTIONS", b"TRACE"]) | st.binary(max_size=3),
    st.sampled_from([b"/health", b"/v1/completions", b"/", b"*", b"/tokenize", b"http://x/"]) | st.binary(max_size=6),
    st.sampled_from([b"1.1", b"1.0", b"2.0", b"0.9", b"9.9"]),
    HEADERS,
    st.sampled_from([b"\r\n", b"\r\n", b"\n"]),
    st.sampled_from([b"", b"{}", b"2\r\n{}\r\n0\r\n\r\n", b"0\r\n\r\n", GET + b"\r\n"]) | st.binary(max_size=20),
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(REQUESTS | st.binary(max_size=40), min_size=1, max_size=3), half_closed=st.booleans())
def test_any_bytes_are_answered_below_500_and_let_go(
    pieces: list[bytes], half_closed: bool, hasty: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    with connected(hasty) as client:
        for piece in pieces:
            try:
                client.sendall(piece)
            except ConnectionError:
                break
        if half_closed:
            with suppress(OSError):
                client.shutdown(socket.SHUT_WR)
        received = rest(client)  # raises where the connection hangs
    statuses = [int(status) for status in re.findall(rb"^HTTP/1.1 (\d+)", received, re.MULTILINE)]
    assert all(100 <= status < 500 for status in statuses), received
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []

"""What HTTP allows and clients seldom do: HEAD, OPTIONS, whole URLs as targets, HTTP/1.0, and no more to send."""

import json
import re
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings
from tests.service.raw_client import Answer, answer, asking, connected, rest
from tests.service.serving import ENDLESS, Running, SlowDecoder, eventually, serving

GETS = [
    *("/health", "/health/live", "/health/ready", "/metrics", "/v1/models", "/v1/models/small", "/info", "/version"),
    *("/tokenizer_info", "/docs", "/openapi.json", "/static-offline-docs/favicon.png"),
]
POSTS = ["/v1/completions", "/v1/score", "/generate", "/generate_stream", "/tokenize", "/detokenize"]
VARIES = re.compile(rb"\d")


def split(received: bytes) -> Answer:
    """One answer that ended with its connection."""
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return Answer(int(status.split()[1]), headers, body)


def alone(server: Running, request: bytes, half_close: bool = False) -> bytes:
    """All that comes for a request, until the server closes."""
    with connected(server) as client:
        client.sendall(request)
        if half_close:
            client.shutdown(socket.SHUT_WR)
        return rest(client)


@pytest.mark.parametrize("path", GETS)
def test_head_is_get_without_the_body(path: str, server: Running) -> None:
    wanted = server.client.get(path)
    assert wanted.status_code == 200
    bare = f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    found = split(alone(server, bare))
    assert (found.status, found.body) == (200, b"")
    changing = {"x-request-id", "date", "connection"} | ({"content-length"} if path == "/metrics" else set())
    assert {name: value for name, value in found.headers.items() if name not in changing} == {
        name: value for name, value in wanted.headers.items() if name not in changing
    }
    with connected(server) as client:  # and the next answer on the connection is where it has to be
        client.sendall(f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() + asking("/version"))
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(1)
        assert json.loads(answer(client).body)["version"]


@pytest.mark.parametrize("path", POSTS)
def test_a_route_that_only_takes_post_says_so(path: str, server: Running) -> None:
    for method in ("HEAD", "GET", "PUT", "DELETE"):
        refused = server.client.request(method, path)
        assert (refused.status_code, refused.headers["allow"]) == (405, "OPTIONS, POST")
    asked = server.client.options(path)
    assert (asked.status_code, asked.headers["allow"], asked.content) == (204, "OPTIONS, POST", b"")


@pytest.mark.parametrize("path", GETS)
def test_options_lists_the_methods_of_a_route(path: str, server: Running) -> None:
    asked = server.client.options(path)
    assert (asked.status_code, asked.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
    assert server.client.post(path).headers["allow"] == "GET, HEAD, OPTIONS"


def test_options_of_nothing_and_of_everything(server: Running) -> None:
    assert server.client.options("/no/such/route").status_code == 404
    assert server.client.head("/no/such/route").status_code == 404
    every = split(alone(server, b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    assert (every.status, every.headers["allow"]) == (204, "GET, HEAD, OPTIONS, POST")


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://localhost/version", 200),
        ("HTTP://LOCALHOST:8000/version", 200),
        ("https://localhost/version", 200),
        ("http://me@localhost/version", 200),
        ("http://localhost/version?x=1", 200),
        ("http://localhost/v1/models/small", 200),
        ("http://localhost/none", 404),
        ("http://evil.example/version", 421),
        ("ftp://localhost/version", 404),
        ("http:///version", 404),
    ],
)
def test_a_target_may_be_a_whole_url_whose_host_counts(target: str, status: int, server: Running) -> None:
    request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    assert split(alone(server, request)).status == status
    if status == 200:  # the header does not count beside it
        assert split(alone(server, request.replace(b"Host: localhost", b"Host: evil.example"))).status == 200


def test_a_completion_by_its_whole_url(server: Running) -> None:
    body = b'{"prompt": "abc", "seed": 1}'
    head = b"POST http://127.0.0.1/v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    with connected(server) as client:
        client.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert json.loads(answer(client).body)["choices"] == server.complete("abc", seed=1)["choices"]


def old(path: str, **fields: Any) -> bytes:
    """A request in HTTP/1.0, which has no Host header."""
    return asking(path, **fields).replace(b"HTTP/1.1\r\nHost: 127.0.0.1", b"HTTP/1.0")


@pytest.mark.parametrize("half_close", [False, True])
def test_http_1_0_is_answered_and_closed(half_close: bool, server: Running) -> None:
    text = server.complete("abc", seed=1, max_tokens=30)["choices"][0]["text"]
    assert split(alone(server, old("/version"), half_close)).status == 200
    whole = split(alone(server, old("/v1/completions", prompt="abc", seed=1, max_tokens=30), half_close))
    assert json.loads(whole.body)["choices"][0]["text"] == text
    stream = split(alone(server, old("/v1/completions", prompt="abc", seed=1, max_tokens=30, stream=True), half_close))
    assert "transfer-encoding" not in stream.headers
    data = [line[6:] for line in stream.body.decode().split("\n") if line.startswith("data: ")]
    assert data[-1] == "[DONE]"
    assert "".join(json.loads(one)["choices"][0]["text"] for one in data[:-1]) == text


def test_a_client_that_sends_no_more_gets_its_answers(server: Running) -> None:
    """Also to requests that were sent ahead."""
    request = asking("/v1/completions", prompt="abc", seed=1, max_tokens=3_000)
    expected = server.complete("abc", seed=1, max_tokens=3_000)["choices"]
    with connected(server) as client:
        client.sendall(request * 3 + asking("/version"))
        client.shutdown(socket.SHUT_WR)
        found: list[Any] = []
        while len(found) < 4:
            one = answer_after_continue(client)
            found.append(json.loads(one.body))
        assert [one["choices"] for one in found[:3]] == [expected] * 3
        assert rest(client) == b""


def answer_after_continue(client: socket.socket) -> Answer:
    """The next answer; those that only say to go on are skipped, as every client does."""
    head = b""
    while b"\r\n\r\n" not in head:
        head += client.recv(1)
    if head.startswith(b"HTTP/1.1 100 "):
        return answer_after_continue(client)
    length = re.search(rb"(?i)content-length: (\d+)", head)
    assert length is not None
    body = b""
    while len(body) < int(length[1]):
        body += client.recv(int(length[1]) - len(body))
    return split(head + body)


def test_a_stream_goes_on_for_who_sends_no_more(server: Running) -> None:
    fields: dict[str, Any] = {"prompt": "abc", "seed": 1, "max_tokens": 5_000, "stream": True}
    received = alone(
        server, asking("/v1/completions", **fields).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), True
    )
    assert received.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


@pytest.mark.parametrize("part", [asking("/v1/completions", prompt="abc")[:-5], asking("/version")[:-2], b""])
def test_half_a_request_is_not_waited_for(part: bytes, server: Running) -> None:
    began = time.monotonic()
    assert alone(server, part, half_close=True) == b""
    assert time.monotonic() - began < 4  # and not when the body's time is over
    assert eventually(lambda: not server.server.server_state.tasks)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("first_half", [False, True])
def test_who_is_gone_is_told_from_who_sends_no_more(first_half: bool, stream: bool, checkpoint_folder: Path) -> None:
    with serving(Settings(checkpoint=checkpoint_folder, keep_alive_seconds=0.05), SlowDecoder) as running:
        with connected(running) as client:
            client.sendall(asking("/v1/completions", prompt="a", max_tokens=ENDLESS, stream=stream))
            assert eventually(lambda: running.engine.running == 1)
            if first_half:
                client.shutdown(socket.SHUT_WR)
                time.sleep(0.3)
                assert running.engine.running == 1  # it may still be read
        assert eventually(lambda: running.engine.running == 0, 8)

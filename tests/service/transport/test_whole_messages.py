"""Requests and answers that are read and written in one step are those that h11 would read and write."""

import socket
from pathlib import Path
from typing import Any

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.settings import Settings
from service.transport.whole_messages import WholeParser, WholeRequest, head_of, whole_request
from tests.service.raw_client import answer, connected
from tests.service.serving import serving

BODY = b'{"prompt": "a", "max_tokens": 1}'
POST = b"POST /v1/completions?a=%20 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 32\r\nX-Case: Kept\r\n\r\n" + BODY
JSON = b"Content-Type: application/json"

NAMES = [b"Host", b"host", b"Content-Length", b"Connection", b"Transfer-Encoding", b"Expect", b"Upgrade", b"Accept"]
names = st.sampled_from([*NAMES, b"X-1", b"", b"a b"])
VALUES = [b"localhost", b"5", b"05", b"+5", b"5, 5", b"4", b"keep-alive", b"close", b"chunked", b"100-continue", b"h2c"]
ODD = [b"a: b", b"a  b", b"", b" x", b"x ", b"\tx", b"caf\xc3\xa9", b"a\x00b", b"a\rb", b"a\nb"]
values = st.sampled_from([*VALUES, *ODD])
lines = st.builds(
    lambda name, between, value: name + between + value, names, st.sampled_from([b": ", b":", b" : ", b":  "]), values
)
ends = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r"])
targets = st.sampled_from([b"/", b"/a%20b?c=d", b"*", b"http://x/", b"/a b", b"/\xc3", b"", b"/a#b"])


def by_h11(data: bytes) -> WholeRequest | None:
    """The only request of some bytes, as h11 reads it; None where they are not one, or the connection ends with it."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    try:
        request, body = connection.next_event(), b""
        assert type(request) is h11.Request
        while type(event := connection.next_event()) is h11.Data:
            body += event.data
    except (h11.RemoteProtocolError, AssertionError):
        return None
    if type(event) is not h11.EndOfMessage or connection.trailing_data[0] or connection.their_state is not h11.DONE:
        return None
    return WholeRequest(request.method, request.target, list(request.headers), body)


@given(
    st.sampled_from([b"GET", b"POST", b"HEAD", b"CONNECT", b"post", b""]),
    targets,
    st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"http/1.1"]),
    st.lists(st.tuples(lines, ends), max_size=4),
    st.sampled_from([b"", b"abcd", b"abcde", b"abcdef"]),
    st.booleans(),
)
def test_a_request_that_is_read_at_once_is_what_h11_reads(
    method: bytes, target: bytes, version: bytes, fields: list[tuple[bytes, bytes]], body: bytes, host: bool
) -> None:
    sent = method + b" " + target + b" " + version + b"\r\n" + b"Host: localhost\r\n" * host
    sent += b"".join(line + end for line, end in fields) + b"\r\n" + body
    assert (read := whole_request(sent)) is None or read == by_h11(sent)


@pytest.mark.parametrize(
    "sent",
    [
        POST,
        POST.replace(b"X-Case: Kept", b"Connection: keep-alive"),
        b"GET /health HTTP/1.1\r\nHost: localhost:8000\r\nAccept: */*\r\n\r\n",
    ],
)
def test_what_clients_usually_send_is_read_at_once(sent: bytes) -> None:
    assert (read := whole_request(sent)) is not None
    assert read == by_h11(sent)
    assert all(whole_request(sent[:end]) is None for end in range(len(sent)))
    assert whole_request(sent + b"G") is None


@pytest.mark.parametrize(
    "line",
    [b"Connection: close", b"Transfer-Encoding: chunked", b"Expect: 100-continue", b"Upgrade: h2c", b"Host: other",
     b"Content-Length: 32", b" folded", b"X: ", b"X : y", b"X: caf\xc3\xa9"],
)  # fmt: skip
def test_what_has_to_be_known_of_a_request_is_left_to_h11(line: bytes) -> None:
    assert whole_request(POST.replace(b"X-Case: Kept", line)) is None


@given(
    st.sampled_from([200, 201, 204, 304, 404, 503]),
    st.lists(
        st.tuples(
            st.sampled_from([*NAMES, b"content-length", b"x", b"a:b", b"a b", b"x\r\n"]),
            st.sampled_from([*VALUES, *ODD, b"y\r\nz: w"]),
        ),
        max_size=4,
    ),
    st.booleans(),
)  # fmt: skip
@example(200, [(b"x", b"y\r\nz: w")], True)
def test_an_answer_that_is_written_at_once_is_what_h11_writes(
    status: int, headers: list[tuple[bytes, bytes]], known: bool
) -> None:
    headers = [*headers, (b"content-length", b"5")] if known else headers
    written = WholeParser(16_384), h11.Connection(h11.SERVER)
    for connection in written:
        connection.receive_data(POST)
    ours, theirs = written
    assert ours.take_whole() == by_h11(POST)
    while type(theirs.next_event()) is not h11.EndOfMessage:
        pass
    head = ours.begin_answer(status, b"Why", headers, 5 if known else None)
    if head is None:
        return
    ours.end_answer()
    sent = head + (b"abcde" if known else b"5\r\nabcde\r\n0\r\n\r\n")
    events: list[Any] = [h11.Response(status_code=status, reason=b"Why", headers=headers), h11.Data(data=b"abcde")]
    assert sent == b"".join(theirs.send(event) or b"" for event in [*events, h11.EndOfMessage()])
    for connection in written:
        connection.start_next_cycle()
        connection.receive_data(POST)
    assert ours.states == theirs.states
    assert type(ours.next_event()) is type(theirs.next_event()) is h11.Request


def test_what_the_server_usually_answers_is_written_at_once() -> None:
    headers = [(b"date", b"Sat, 28 Nov 2026 13:00:00 GMT"), (b"x-request-id", b"a")]
    known = [*headers, (b"content-length", b"2")]
    assert head_of(200, b"OK", known, 2) is not None
    assert head_of(200, b"OK", known, 3) is None
    assert head_of(200, b"OK", known, None) is None
    assert (head_of(200, b"OK", headers, None) or b"").endswith(
        b"\r\nx-request-id: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    assert head_of(200, b"OK", headers, 2) is None
    assert head_of(200, b"OK", [*known, (b"x", b"y\r\nz: w")], 2) is None


def test_after_a_whole_request_any_other_may_follow_on_its_connection(checkpoint_folder: Path) -> None:
    """In every order, at once or byte by byte, with answers that are streamed and whole, until one ends it."""
    whole = POST.replace(b"X-Case: Kept", JSON)
    in_chunks = whole.replace(b"Content-Length: 32", b"Transfer-Encoding: chunked")
    in_chunks = in_chunks.replace(BODY, b"20\r\n" + BODY + b"\r\n0\r\n\r\n")
    streamed = whole.replace(BODY, BODY[:-1] + b', "stream": true}').replace(b": 32", b": 48")
    head = b"HEAD /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with serving(Settings(checkpoint=checkpoint_folder)) as running, connected(running) as client:
        for sent, ends in (
            (whole, 1), (in_chunks, 1), (whole, 1), (whole + whole, 2), (head, b"\r\n\r\n"), (whole, 1),
            (streamed, b"0\r\n\r\n"), (whole, 1), (in_chunks + whole + streamed, 2), (b"", b"0\r\n\r\n"), (whole, 1),
        ):  # fmt: skip
            client.sendall(sent)
            if isinstance(ends, bytes):
                assert until(client, ends).startswith(b"HTTP/1.1 200 ")
            else:
                assert [answer(client).status for _ in range(ends)] == [200] * ends
        for byte in whole:
            client.sendall(bytes([byte]))
        assert answer(client).status == 200
        client.sendall(whole.replace(b"Host", b"Connection: close\r\nHost"))
        last = answer(client)
        assert (last.status, last.headers["connection"]) == (200, "close")
        assert client.recv(1) == b""


def until(client: socket.socket, end: bytes) -> bytes:
    received = b""
    while not received.endswith(end):
        received += client.recv(1)
    return received

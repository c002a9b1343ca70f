"""Server-sent events, byte for byte."""

import json

import pytest

from service.api.sse import ServerSentEvent, done_event


@pytest.mark.parametrize(
    ("data", "encoded"),
    [
        ("", b"data: \n\n"),
        ("a", b"data: a\n\n"),
        ("a\nb", b"data: a\ndata: b\n\n"),
        ("a\r\nb\rc\n", b"data: a\ndata: b\ndata: c\ndata: \n\n"),
        ("é\u2028\u0085\x0b\x0c\x1c", "data: é\u2028\u0085\x0b\x0c\x1c\n\n".encode()),
    ],
)
def test_an_event_has_a_line_for_each_line_of_its_data(data: str, encoded: bytes) -> None:
    assert ServerSentEvent(data).encode() == encoded


def test_json_is_one_line_of_ascii() -> None:
    value = {"text": "a\n\r\u2028\u2029\u0085é😀\x00"}
    encoded = ServerSentEvent.of_json(value).encode()
    assert encoded.isascii()
    assert encoded.decode().splitlines() == [encoded.decode().removesuffix("\n\n"), ""]
    assert json.loads(encoded.removeprefix(b"data: ")) == value


def test_done_is_what_clients_wait_for() -> None:
    assert done_event("id: a\n") == b"id: a\ndata: [DONE]\n\n"

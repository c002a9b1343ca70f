"""Scores by lines: the figures of single requests, for any number of texts, in flat memory."""

import gzip
import json
import socket
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.analysis import score_lines
from service.analysis.line_blocks import MOST_LINES
from service.analysis.score_schemas import LineScore
from service.settings import Settings
from tests.model.small import CHARACTERS
from tests.service.crowd import is_idle
from tests.service.serving import Running, SlowDecoder, eventually, serving

LINES = {"content-type": "application/x-ndjson"}


def texts_of(count: int, longest: int = 60) -> list[str]:
    random = np.random.default_rng(5)
    letters = list(CHARACTERS + "ŵ日\t")
    return ["".join(random.choice(letters, random.integers(0, longest))) for _ in range(count)]


def sent(texts: list[Any]) -> bytes:
    return "".join(f"{json.dumps(text)}\n" for text in texts).encode()


def scored(server: Running, content: Any, **headers: str) -> list[dict[str, Any]]:
    response = server.client.post("/v1/score", content=content, headers={**LINES, **headers})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in response.text.splitlines()]
    for line in lines:
        LineScore.model_validate(line)
    return lines


def alone(server: Running, texts: list[str], **fields: Any) -> list[dict[str, Any]]:
    results = []
    for start in range(0, len(texts), 100):
        body = {"texts": texts[start : start + 100], **fields}
        response = server.client.post("/v1/score", json=body).raise_for_status().json()
        results += [
            {name: one[name] for name in one if name not in ("details", "index")} for one in response["results"]
        ]
    return results


def figures(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: one[name] for name in one if name not in ("line", "index")} for one in lines]


def send_all(connection: socket.socket, content: bytes, times: int) -> None:
    for _ in range(times):
        connection.sendall(content)


def test_thousands_of_lines_have_the_scores_of_single_requests(server: Running) -> None:
    texts = texts_of(3000)
    lines = scored(server, sent(texts))
    assert figures(lines) == alone(server, texts)
    assert [line["index"] for line in lines] == list(range(3000))
    assert [line["line"] for line in lines] == list(range(1, 3001))
    assert is_idle(server)
    assert eventually(lambda: server.ledger.held == 0)


def test_contexts_and_the_ways_a_body_comes_change_nothing(server: Running) -> None:
    """Long and short contexts, blank lines, no last line break, cut anywhere, compressed, Windows' line ends."""
    texts, contexts = texts_of(12), ["once\n"] * 4 + ["x" * 200] * 4 + ["", "é"] * 2
    asked = [{"text": text, "context": context} for text, context in zip(texts, contexts, strict=True)]
    expected = [alone(server, [text], context=context)[0] for text, context in zip(texts, contexts, strict=True)]
    content = b"\n" + sent(asked).replace(b"\n", b"\r\n").rstrip()
    lines = scored(server, content)
    assert figures(lines) == expected
    assert [line["line"] for line in lines] == list(range(2, 14))

    def cut() -> Iterator[bytes]:
        for start in range(0, len(content), 7):
            yield content[start : start + 7]

    assert scored(server, cut()) == lines
    assert scored(server, gzip.compress(content), **{"content-encoding": "gzip"}) == lines
    assert scored(server, b"") == []


def test_what_is_wrong_with_a_line_is_said_in_its_place(server: Running) -> None:
    wrong = [b"nonsense", b"[1]", b'{"txt": "a"}', b'{"text": 3}', b'"\\ud800"', b"\xff", b"17"]
    lines = scored(server, b"\n".join([b'"a"', *wrong, b'"b"']))
    assert [line["line"] for line in lines] == list(range(1, 10))
    assert (lines[0]["index"], lines[-1]["index"]) == (0, 1)
    assert figures([lines[0], lines[-1]]) == alone(server, ["a", "b"])
    for line in lines[1:-1]:
        assert f"line {line['line']}" in line["error"]["message"]
        assert (line["error"]["code"], line["error"]["type"]) == ("invalid_value", "invalid_request_error")
    assert lines[3]["error"]["param"] == "text"


def test_a_line_that_asks_for_what_is_not_done_is_told(server: Running) -> None:
    lines = scored(
        server, sent([{"text": "a", "state": "x"}, {"text": "a", "return_state": True}, {"text": "a", "tag": 1}])
    )
    assert [line["error"]["param"] for line in lines[:2]] == ["line 1, state", "line 2, return_state"]
    assert all("is not supported" in line["error"]["message"] for line in lines[:2])
    assert figures(lines[2:]) == alone(server, ["a"])


def test_answers_come_while_the_body_does(server: Running) -> None:
    """A line is answered before the next one is sent, on one connection."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        head = f"POST /v1/score HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/x-ndjson\r\n"
        connection.sendall(f"{head}transfer-encoding: chunked\r\n\r\n".encode())
        seen = b""
        for at, text in enumerate(["one", "two", "three"]):
            line = sent([text])
            connection.sendall(b"%x\r\n%s\r\n" % (len(line), line))
            while seen.count(b'"index":') <= at:
                seen += connection.recv(65536)
        connection.sendall(b"0\r\n\r\n")
        while not seen.endswith(b"0\r\n\r\n"):
            seen += connection.recv(65536)
    assert seen.startswith(b"HTTP/1.1 200")


def test_the_next_lines_are_read_beside_those_before(checkpoint_folder: Path) -> None:
    """So that no row waits until the longest line of a block is read."""
    texts = ["the cat sat on the mat"] * 6 * MOST_LINES
    with serving(Settings(checkpoint=checkpoint_folder), SlowDecoder) as slow:
        with slow.client.stream("POST", "/v1/score", content=sent(texts), headers=LINES) as response:
            assert eventually(lambda: slow.engine.running + slow.engine.waiting > MOST_LINES)
            lines = [json.loads(line) for line in response.iter_lines()]
        assert [line["index"] for line in lines] == list(range(len(texts)))
        assert eventually(lambda: is_idle(slow) and slow.ledger.held == 0)


def test_scores_that_come_at_once_are_those_that_come_in_parts(server: Running) -> None:
    """Those of short texts come at once, those of long ones and those with details in parts."""
    [long] = texts_of(1, 9000)
    texts = [long[:length] for length in (1, 2, 1000, *range(1018, 1028), 3000)]
    assert figures(scored(server, sent(texts))) == alone(server, texts, details=True)


@pytest.fixture
def small(checkpoint_folder: Path) -> Iterator[Running]:
    settings = Settings(
        checkpoint=checkpoint_folder, max_rows=4, max_waiting=4, max_body_bytes=20_000, max_work=15_000, send_seconds=2
    )
    with serving(settings) as running:
        yield running


def test_limits_are_of_each_line(small: Running) -> None:
    """The body is many times as long as one may be; one long line ends the answer with the reason."""
    texts = ["the " * 300] * 200
    lines = scored(small, sent(texts))
    assert len(lines) == 200
    assert len({line["bits"] for line in lines}) == 1
    lines = scored(small, sent(["a", "b" * 16_000, "c"]))
    assert [line["line"] for line in lines] == [1, 2, 3]
    assert "max_work is 15,000" in lines[1]["error"]["message"]
    before = small.engine.counters.submitted

    def in_time() -> Iterator[bytes]:
        yield sent(texts)
        assert eventually(lambda: small.engine.counters.submitted == before + 200)
        yield sent(["d" * 30_000, "e"])

    lines = scored(small, in_time())
    assert [line["line"] for line in lines] == [*range(1, 201), None]
    assert "Line 201 of the body is larger than 20,000 bytes" in lines[-1]["error"]["message"]
    response = small.client.post("/v1/score", content=sent(["d" * 30_000]), headers=LINES)
    assert response.status_code == 413
    response = small.client.post("/v1/completions", content=sent(texts), headers=LINES)
    assert response.status_code in (413, 415)
    assert small.ledger.held == 0


def test_a_client_that_leaves_ends_it(checkpoint_folder: Path) -> None:
    with serving(Settings(checkpoint=checkpoint_folder), SlowDecoder) as running:

        def endless() -> Iterator[bytes]:
            for _ in range(5):
                yield sent(["the cat sat"] * 100)
            raise ConnectionAbortedError

        with pytest.raises(ConnectionAbortedError):
            running.client.post("/v1/score", content=endless(), headers=LINES)
        assert eventually(lambda: is_idle(running) and running.ledger.held == 0)
        assert running.complete("a", max_tokens=2)


def test_memory_does_not_grow_with_the_body_nor_with_what_is_not_read(
    small: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that sends and reads nothing is held up, and given up in the end."""
    monkeypatch.setattr(score_lines, "MOST_WAITING", 1 << 18)
    line = sent(["the cat " * 4])
    held = 0

    def many(count: int) -> Iterator[bytes]:
        nonlocal held
        for _ in range(count):
            held = max(held, small.ledger.held)
            yield line * 50

    def read(count: int) -> int:
        with small.client.stream("POST", "/v1/score", content=many(count), headers=LINES) as response:
            return sum(piece.count(b"\n") for piece in response.iter_raw())

    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            assert read(count) == 50 * count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert read(20) == 1000
    assert peak(60) < 1.5 * peak(20) + 1_000_000  # of three times as many
    assert held < 3_000_000
    host, port = small.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        head = f"POST /v1/score HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/x-ndjson\r\n"
        connection.sendall(f"{head}transfer-encoding: chunked\r\n\r\n".encode())
        chunk = line * 50
        with pytest.raises(ConnectionError):  # once nothing was read for send_seconds
            send_all(connection, b"%x\r\n%s\r\n" % (len(chunk), chunk), 20_000)
    assert eventually(lambda: is_idle(small) and small.ledger.held == 0)


def test_a_busy_server_is_waited_for(checkpoint_folder: Path) -> None:
    """The first lines find room or are refused; those after them wait for it."""
    body = {"prompt": "a", "n": 7, "max_tokens": 200, "stream": True}
    settings = Settings(checkpoint=checkpoint_folder, max_rows=4, max_waiting=4)
    with serving(settings, SlowDecoder) as slow, ExitStack() as crowd:

        def come() -> None:
            stream = httpx.stream("POST", f"{slow.url}/v1/completions", json=body)
            assert crowd.enter_context(stream).status_code == 200

        def in_time() -> Iterator[bytes]:
            yield sent(["one"])
            assert eventually(lambda: slow.engine.counters.submitted == 1 and is_idle(slow))
            come()
            yield sent(["one"] * 40)

        lines = scored(slow, in_time())
        assert slow.engine.counters.refused["queue_full"] > 1
        assert len(lines) == 41
        assert {line["bits"] for line in lines} == {lines[0]["bits"]}
        assert eventually(lambda: is_idle(slow))
        come()
        response = slow.client.post("/v1/score", content=sent(["one"] * 4), headers=LINES)
        assert response.status_code == 429


@pytest.mark.parametrize(
    "content", [b'"the cat sat"\n' * 200_000, b"[" * 50 + b"\n" + b'"a"\n' * 200_000], ids=["texts", "wrong"]
)
def test_nothing_more_is_scored_for_a_client_that_left_a_whole_compressed_body(
    content: bytes, checkpoint_folder: Path
) -> None:
    """All of the body is there, so that nothing that is read of it tells of the leaving."""
    packed = gzip.compress(content)
    with serving(Settings(checkpoint=checkpoint_folder), SlowDecoder) as running:
        host, port = running.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            head = f"POST /v1/score HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/x-ndjson\r\n"
            head += f"content-encoding: gzip\r\ncontent-length: {len(packed)}\r\n\r\n"
            connection.sendall(head.encode() + packed)
            assert eventually(lambda: running.engine.counters.submitted > 0)
        assert eventually(lambda: is_idle(running) and running.ledger.held == 0)
        submitted = running.engine.counters.submitted
        assert submitted < 20_000
        assert running.complete("a", max_tokens=2)
        assert running.engine.counters.submitted == submitted + 1


def test_the_line_after_many_that_are_empty_has_its_number(server: Running) -> None:
    lines = 300_000
    [line] = scored(server, gzip.compress(b"\n" * lines + b'"a"'), **{"content-encoding": "gzip"})
    assert line["line"] == lines + 1
    [line] = scored(server, b"\n" * lines + b'"a"')
    assert line["line"] == lines + 1

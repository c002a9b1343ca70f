"""Compressed bodies: read as if they had been sent plain, counted as what they become, and bombs refused."""

import asyncio
import gzip
import json
import time
import zlib
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.process.ledger import Ledger
from service.process.pass_budget import OnLeaving, PassBudget
from service.request_context import begin_request
from service.security.body_limit import BYTE_SECONDS, LINE_BYTE_SECONDS, LINE_SECONDS, Arriving, BodyLimit, Turns
from service.security.caller_pace import CallerPace, Work
from service.security.content_encoding import DECODER_BYTES, MOST_MEMBERS, PART
from service.settings import Settings
from tests.service.error_cases import COMPLETIONS, JSON, check
from tests.service.serving import Running, eventually, serving

BODY = json.dumps({"prompt": "abc", "seed": 1, "max_tokens": 20}).encode()


def post(server: Running, content: Any, coding: str, path: str = COMPLETIONS) -> httpx.Response:
    return server.client.post(path, content=content, headers={**JSON, "Content-Encoding": coding})


@pytest.fixture(scope="module")
def plain(server: Running) -> Any:
    return server.client.post(COMPLETIONS, content=BODY, headers=JSON).json()["choices"]


def named(value: str | bytes) -> str:
    """A test's name, the same in every process: what gzip writes has the time in it."""
    return value if isinstance(value, str) else f"{len(value)} bytes"


@pytest.mark.parametrize(
    ("coding", "content"),
    [
        ("gzip", gzip.compress(BODY)),
        ("GZIP", gzip.compress(BODY, 0)),
        ("x-gzip", gzip.compress(BODY)),
        ("gzip", gzip.compress(BODY[:9]) + gzip.compress(b"") + gzip.compress(BODY[9:])),
        ("deflate", zlib.compress(BODY)),
        ("identity", BODY),
        ("", BODY),
    ],
    ids=named,
)
def test_a_compressed_body_is_read_as_if_it_were_plain(
    coding: str, content: bytes, server: Running, plain: Any
) -> None:
    def drops() -> Iterator[bytes]:
        for at in range(len(content)):
            yield content[at : at + 1]

    for sent in (content, drops()):
        answer = post(server, sent, coding)
        assert answer.status_code == 200
        assert answer.json()["choices"] == plain


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, gzip", "gzip, br", "x" * 300, "*"])
@pytest.mark.parametrize("path", [COMPLETIONS, "/v1/score", "/tokenize"])
def test_another_coding_is_refused_by_name(coding: str, path: str, server: Running) -> None:
    answer = post(server, gzip.compress(BODY), coding, path)
    error = check(answer, 415)
    assert error["code"] == "unsupported_media_type"
    assert f"encoded with {coding[:40]};" in error["message"]
    assert answer.headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    ("content", "how"),
    [
        (BODY, "is not"),
        (gzip.compress(BODY)[:-1], "is cut short"),
        (gzip.compress(BODY)[:15], "is cut short"),
        (b"", "is cut short"),
        (gzip.compress(BODY)[:-8] + bytes(8), "is not"),  # its checksum is wrong
        (gzip.compress(BODY) + b"{}", "is not"),
        (zlib.compress(BODY), "is not"),
        (gzip.compress(b"") * (MOST_MEMBERS + 1), "has more after its end"),
    ],
    ids=named,
)
def test_what_is_not_what_it_claims_to_be_is_told(content: bytes, how: str, server: Running) -> None:
    assert f"announced as gzip and {how};" in check(post(server, content, "gzip"), 400)["message"]


def test_more_after_the_end_of_deflate_is_told(server: Running) -> None:
    assert "has more after its end" in check(post(server, zlib.compress(BODY) * 2, "deflate"), 400)["message"]


def test_what_is_not_json_after_all_is_told_as_if_it_were_plain(server: Running) -> None:
    assert "not JSON" in check(post(server, gzip.compress(b"{'a': 1}"), "gzip"), 400)["message"]


@pytest.mark.parametrize(("size", "status"), [(100_000, 200), (100_001, 413)])
def test_the_limit_is_of_what_it_becomes(size: int, status: int, server: Running) -> None:
    body = b'{"prompt": "a", "max_tokens": 1, "x": "' + b"x" * (size - 41) + b'"}'
    assert len(body) == size
    assert post(server, gzip.compress(body), "gzip").status_code == status


def test_a_bomb_is_refused_before_it_goes_off(server: Running) -> None:
    """Thousandfold: 97 kB that would be 100 MB, of which 0.1 MB is made; others are answered meanwhile."""
    bomb = gzip.compress(b" " * 100_000_000)
    assert len(bomb) < 100_000
    began = time.process_time()
    assert check(post(server, bomb, "gzip"), 413)["code"] == "body_too_large"
    assert time.process_time() - began < 0.5
    twice = gzip.compress(gzip.compress(b" " * 10**8))
    assert post(server, twice, "gzip").status_code in (400, 413, 415)
    assert eventually(lambda: server.ledger.held == 0)


def test_what_it_becomes_is_charged(checkpoint_folder: Path) -> None:
    body = json.dumps({"prompt": "a", "max_tokens": 1, "x": "x" * 3_000_000}).encode()
    with serving(Settings(checkpoint=checkpoint_folder, memory_budget_bytes=2_000_000)) as running:
        compressed = gzip.compress(body)
        assert len(compressed) < 10_000
        assert check(post(running, compressed, "gzip"), 413)["message"].startswith("This needs ")
        assert running.ledger.most > 1_000_000
        assert eventually(lambda: running.ledger.held == 0)


@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate"]))
def test_no_bytes_make_the_server_fail(server: Running, content: bytes, coding: str) -> None:
    for sent in (content, gzip.compress(BODY)[: len(content)] + content):
        assert post(server, sent, coding).status_code in (200, 400, 413, 415)


def test_a_caller_is_charged_for_what_a_body_becomes() -> None:
    """Of compressed bodies and of lines, while others have texts; each message waits for its turn."""

    class Charged(CallerPace):
        async def turn(self, caller: Hashable, seconds: float, on_leaving: OnLeaving, place: str = "") -> bool:
            assert caller == "a"
            charged.append(seconds)
            return await super().turn(caller, seconds, on_leaving, place)

    def spent(content: bytes, encoding: str, by_lines: bool) -> bytes:
        charged.clear()

        async def main() -> bytes:
            messages = [{"type": "http.request", "body": content}]

            async def receive() -> Any:
                return messages.pop()

            turns = Turns(Charged(lambda _: False), PassBudget(1), "a", lambda _: None)
            ledger = Ledger(10_000_000)
            with ledger.take(0) as lease, ledger.take(0) as coming:
                body = Arriving(receive, 1_000_000, 10, (lease, coming), turns)
                body.encoding = encoding
                if by_lines:
                    body.take_lines()
                parts, more = [], True
                while more:
                    message = await body.receive()
                    parts.append(message["body"])
                    more = message["more_body"]
                    assert ledger.held >= sum(map(len, parts)) + (DECODER_BYTES if encoding else 0)
            assert ledger.held == 0
            assert all(len(part) <= PART for part in parts)
            if by_lines:
                assert all(part.count(b'"') <= 2 * 33 for part in parts)
            return b"".join(parts)

        return asyncio.run(main())

    charged: list[float] = []
    text = b'"' + b"a" * 900_000 + b'"'
    assert spent(gzip.compress(text), "gzip", by_lines=False) == text
    assert sum(charged) == pytest.approx(len(text) * BYTE_SECONDS)
    for lines, count in ((b'"a"\n\n"b"' + b'\n"c"' * 998, 1000), (b"\n" * 500_000, 0)):
        expected = pytest.approx(len(lines) * LINE_BYTE_SECONDS + count * LINE_SECONDS, rel=0.02)
        assert spent(gzip.compress(lines), "gzip", by_lines=True) == lines
        assert sum(charged) == expected  # a line that is cut by the end of a part counts twice
        assert spent(lines, "", by_lines=True) == lines
        assert sum(charged) == expected


@pytest.mark.parametrize(("encoding", "paced"), [("gzip", True), ("deflate", True), ("identity", False), ("", False)])
def test_a_small_compressed_body_waits_for_its_turn_as_a_large_one_does(encoding: str, paced: bool) -> None:
    ran: list[Hashable] = []

    class Seen(CallerPace):
        async def run(self, work: Work, caller: Hashable, aside: float, on_leaving: OnLeaving) -> None:
            ran.append(caller)
            await super().run(work, caller, aside, on_leaving)

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        done.append(scope["path"])

    async def main() -> None:
        scope: dict[str, Any] = {"type": "http", "path": "/", "headers": [(b"content-length", b"20")]}
        if encoding:
            scope["headers"] = [(b"content-length", b"20"), (b"content-encoding", encoding.encode())]
        begin_request(scope, "id").caller = "a"
        limit = BodyLimit(app, 1_000_000, 10, Ledger(10_000_000), Seen(lambda _: False))
        await limit(scope, never, never)

    async def never(*_: Any) -> Any:
        raise AssertionError

    done: list[str] = []
    asyncio.run(main())
    assert done == ["/"]
    assert ran == ["a"] * paced

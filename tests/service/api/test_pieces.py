"""Answers in pieces: the same bytes, within the deadline; what waited comes in one event; nothing stays charged."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.api.pieces import PIECE, gathered, json_text, separated
from service.settings import Settings
from tests.service.raw_client import asking, connected, rest, vanish
from tests.service.serving import ENDLESS, Reference, Running, SlowDecoder, eventually, serving
from tests.service.sse_client import chunks, stream

KEYS = "a-key-of-one-caller", "a-key-of-another"


def test_pieces_together_are_the_whole() -> None:
    text = 'a"\\\n\U0001f600é' * PIECE
    assert json.loads("".join(json_text(text))) == text
    assert b"".join(gathered(["ab"] * PIECE)) == b"ab" * PIECE
    assert [len(piece) for piece in gathered(["ab"] * PIECE)] == [PIECE, PIECE]
    assert "".join(separated(["1", "", "2,3", "4"])) == "1,2,3,4"


def test_a_large_answer_says_the_same_as_small_ones(server: Running) -> None:
    """Streamed or not, each made in many pieces."""
    prompt = "the thing is \U0001f600 " * 1_000
    asked: dict[str, Any] = {"prompt": prompt, "echo": True, "logprobs": 3, "max_tokens": 3, "seed": 1}
    [whole] = server.complete(**asked)["choices"]
    first, *others = stream(server.client, **asked)
    arrays = [part["choices"][0]["logprobs"] for part in (first, *others)]
    assert whole["text"].startswith(prompt)
    assert {name: [one for part in arrays for one in part[name]] for name in arrays[0]} == whole["logprobs"]
    small = server.complete(**{**asked, "prompt": prompt[:200], "max_tokens": 0})["choices"][0]["logprobs"]
    assert all(whole["logprobs"][name][: len(small[name])] == small[name] for name in small)


def test_an_answer_is_cut_off_at_the_deadline(checkpoint_folder: Path) -> None:
    """So that it is no whole JSON, also where its reader takes all there is."""
    with serving(Settings(checkpoint=checkpoint_folder, deadline_seconds=0.3)) as running:
        began = time.monotonic()
        with pytest.raises(httpx.RemoteProtocolError):
            running.client.post("/tokenize", json={"inputs": "\U0001f600" * 1_000_000})
        assert time.monotonic() - began < 10
        assert eventually(lambda: running.ledger.held == 0)


def test_what_waited_for_its_reader_comes_in_one_event(server: Running, reference: Reference) -> None:
    fields: dict[str, Any] = {"max_tokens": 20_000, "seed": 2}
    asked = asking("/v1/completions", prompt="a", n=4, **fields, stream=True, stream_interval=0)
    before = server.engine.counters.submitted
    with connected(server, receive_buffer=4096) as client:
        client.sendall(asked.replace(b"Host", b"Connection: close\r\nHost", 1))
        assert eventually(lambda: server.engine.counters.submitted == before + 4 and server.engine.running == 0, 60)
        received = rest(client)
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"chunked" in head
    data = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        data, body = data + body[: int(size, 16)], body[int(size, 16) + 2 :]
    parts = chunks(data)
    for index in range(4):
        own = [one["text"] for part in parts for one in part["choices"] if one["index"] == index]
        assert "".join(own) == reference.write("a", index, **fields).text
        assert max(map(len, own)) > 1_000


def ways(running: Running) -> Iterator[None]:
    """Requests that end in every way there is."""
    large = {"prompt": ["the \U0001f600" * 2_000] * 8, "max_tokens": 2}
    endless = {"prompt": "a", "max_tokens": ENDLESS}
    bodies: list[dict[str, Any]] = [
        {"prompt": "a", "max_tokens": 2},
        {"prompt": "a", "max_tokens": 5, "stream": True, "n": 3},
        large,
        {"prompt": [""] * 128, "n": 16},
        {"prompt": "a", "stop": [""]},
        {"prompt": [[1_000_000]]},
        {"prompt": "the " * 3_000, "echo": True, "logprobs": 20, "max_tokens": 0},
        endless,
        {**endless, "stream": True},
    ]
    for body in bodies:
        with suppress(httpx.HTTPError):
            running.client.post("/v1/completions", json=body)
        yield
        for leave in (vanish, socket.socket.close):
            for seconds in (0.0, 0.05):
                with connected(running) as client:
                    client.sendall(asking("/v1/completions", **body))
                    time.sleep(seconds)
                    leave(client)
        yield
    with connected(running) as client:
        client.sendall(asking("/v1/score", texts=["the " * 9_000] * 3, details=True))
    running.client.post("/generate", json={"inputs": "the " * 9_000, "parameters": {"truncate": 9_000}})
    running.client.post("/detokenize", json={"tokens": [260] * 30_000})
    yield


def test_after_any_mix_of_ends_the_ledger_stands_at_its_base(checkpoint_folder: Path) -> None:
    settings = Settings(checkpoint=checkpoint_folder, max_rows=4, max_waiting=12, deadline_seconds=0.4)
    with serving(settings, SlowDecoder) as running:
        for _ in ways(running):
            pass
        assert eventually(lambda: running.ledger.held == 0, 20)
        assert running.ledger.most > 100_000
        assert running.engine.background.waiting == 0
        assert running.complete()["usage"]["completion_tokens"] > 0


def test_a_newcomer_with_one_text_is_served_while_another_caller_has_all_there_is(checkpoint_folder: Path) -> None:
    settings = Settings(checkpoint=checkpoint_folder, max_rows=8, max_waiting=8, api_keys=",".join(KEYS))
    with serving(settings, SlowDecoder) as running, connected(running) as client:
        greedy = asking("/v1/completions", prompt="a", n=16, max_tokens=ENDLESS)
        client.sendall(greedy.replace(b"Host", f"Authorization: Bearer {KEYS[0]}\r\nHost".encode(), 1))
        assert eventually(lambda: (running.engine.running, running.engine.waiting) == (8, 8))

        def status(key: str) -> int:
            headers = {"Authorization": f"Bearer {key}"}
            fields = {"prompt": "a", "max_tokens": 5}
            return running.client.post("/v1/completions", json=fields, headers=headers).status_code

        assert [status(KEYS[1]) for _ in range(3)] == [200, 200, 200]
        assert status(KEYS[0]) == 429
        assert (running.engine.running, running.engine.waiting) == (8, 8)

"""Many at once: nobody waits for a long text, nobody who left is worked for, and what is too much is refused."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.settings import Settings
from tests.service.crowd import endless, is_idle
from tests.service.error_cases import check
from tests.service.serving import Reference, Running, SlowDecoder, eventually, serving
from tests.service.sse_client import chunks, texts


@pytest.mark.parametrize("n", [1, 4])
def test_a_stream_nobody_reads_any_more_frees_its_places(n: int, slow_server: Running) -> None:
    with endless(slow_server, n=n) as stream:
        next(stream)
        assert eventually(lambda: slow_server.engine.running == n)
    assert eventually(lambda: is_idle(slow_server))


@pytest.mark.parametrize("stream", ["true", "false"])
def test_leaving_before_the_first_byte_frees_the_place_too(stream: str, slow_server: Running) -> None:
    """The non-streamed answer has none for a long time; the streamed one while its prompt is read."""
    body = b'{"prompt": "%s", "max_tokens": 50000, "stream": %s}' % (b"a" * 20_000, stream.encode())
    head = b"POST /v1/completions HTTP/1.1\r\nHost: ::1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    host, port = slow_server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head % len(body) + body)
        assert eventually(lambda: slow_server.engine.running == 1)
    assert eventually(lambda: is_idle(slow_server))


def test_leaving_the_queue_frees_the_place_in_it(slow_server: Running) -> None:
    with endless(slow_server, n=4) as stream:
        next(stream)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{slow_server.url}/v1/completions", json={"prompt": "a", "n": 2}, timeout=0.3)
        assert eventually(lambda: slow_server.engine.waiting == 0)
        assert slow_server.engine.running == 4
    assert eventually(lambda: is_idle(slow_server))


def test_a_late_short_text_does_not_wait_for_a_long_one(slow_server: Running) -> None:
    with endless(slow_server) as stream:
        next(stream)
        assert slow_server.complete("abc", seed=1, max_tokens=5)["usage"]["completion_tokens"] == 5
        assert slow_server.engine.running == 1


def test_a_long_prompt_does_not_hold_up_others(slow_server: Running) -> None:
    with ThreadPoolExecutor(1) as pool, endless(slow_server) as stream:
        next(stream)
        reading = pool.submit(slow_server.complete, "a" * 300, max_tokens=1)
        assert eventually(lambda: slow_server.engine.running == 2)
        assert len(slow_server.complete("abc", max_tokens=2)["choices"]) == 1
        assert not reading.done()
        next(stream)
        assert reading.result()["usage"]["prompt_tokens"] == 300


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(slow_server: Running) -> None:
    with ThreadPoolExecutor(1) as pool, endless(slow_server, n=4) as stream:
        next(stream)
        waiting = pool.submit(slow_server.client.post, "/v1/completions", json={"prompt": "a", "n": 2})
        assert eventually(lambda: slow_server.engine.waiting == 2)
        health = slow_server.client.get("/health").json()
        assert (health["status"], health["running"], health["waiting"]) == ("ok", 4, 2)
        for stream_too in (True, False):
            response = httpx.post(f"{slow_server.url}/v1/completions", json={"prompt": "a", "stream": stream_too})
            assert check(response, 429)["code"] == "queue_full"
            assert int(response.headers["retry-after"]) > 0
    assert waiting.result().status_code == 200


def test_more_texts_than_there_are_places_are_refused_for_good(slow_server: Running) -> None:
    response = slow_server.client.post("/v1/completions", json={"prompt": "a", "n": 7})
    assert check(response, 400)["param"] == "n"


def test_prompts_held_at_once_are_limited_together(checkpoint_folder: Path) -> None:
    settings = Settings(checkpoint=checkpoint_folder, max_held_characters=1000)
    with serving(settings, SlowDecoder) as server:
        assert server.complete("é" * 900 + "x" * 900, max_tokens=0)["usage"]["prompt_tokens"] == 1800
        with endless(server, prompt="a") as stream:
            next(stream)
            response = server.client.post("/v1/completions", json={"prompt": "a" * 1000})
            assert check(response, 429)["code"] == "queue_full"
            assert server.complete("a" * 10, max_tokens=1)
        assert eventually(lambda: is_idle(server))
        assert server.complete("a" * 1000, max_tokens=0)


def test_the_event_loop_answers_while_texts_are_written() -> None:
    """Of a model large enough that they take a while."""
    with serving(Settings()) as server:
        with endless(server, n=16) as stream:
            next(stream)
            assert eventually(lambda: server.engine.running == 16)
            started = time.monotonic()
            for _ in range(20):
                assert server.client.get("/health").json()["running"] == 16
            assert time.monotonic() - started < 5
        assert eventually(lambda: is_idle(server))


def test_readers_of_any_speed_get_the_same_text(server: Running) -> None:
    """One that does not read for a while finds the text joined to fewer, longer pieces."""
    body = {"prompt": "a", "max_tokens": 3000, "seed": 5, "stream": True}
    whole = server.complete("a", max_tokens=3000, seed=5)["choices"][0]["text"]
    with httpx.stream("POST", f"{server.url}/v1/completions", json=body) as response:
        time.sleep(0.3)
        parts = chunks(response.read())
    assert "".join(part["choices"][0]["text"] for part in parts) == whole


def test_threads_end_with_their_server(checkpoint_folder: Path) -> None:
    before = set(threading.enumerate())
    with serving(Settings(checkpoint=checkpoint_folder, threads=2)) as server:
        server.complete("a")
        assert {"engine-0", "engine-1"} <= {thread.name for thread in set(threading.enumerate()) - before}
    assert not any(thread.name.startswith("engine") for thread in set(threading.enumerate()) - before)


def test_those_who_leave_at_any_time_take_nothing_from_those_who_stay(
    checkpoint_folder: Path, reference: Reference
) -> None:
    """Streams are given up after some of their events, in a crowd for few slots of two threads."""
    fields: list[dict[str, Any]] = [
        {"prompt": "the " * (at % 5), "max_tokens": 150, "seed": at % 11, "n": 1 + at % 3, "stream_interval": at % 4}
        for at in range(36)
    ]

    def read(server: Running, at: int) -> list[str] | None:
        body = {**fields[at], "stream": True}
        with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=30) as response:
            assert response.status_code == 200
            received = response.iter_raw()
            if at % 3 == 0:
                for _, _ in zip(range(at % 4), received, strict=False):
                    pass
                return None
            return texts(chunks(b"".join(received)), 1 + at % 3)

    with serving(Settings(checkpoint=checkpoint_folder, threads=2, max_rows=5)) as server:
        with ThreadPoolExecutor(12) as pool:
            written = list(pool.map(lambda at: read(server, at), range(36)))
        assert eventually(lambda: is_idle(server))
    for at, got in enumerate(written):
        if got is not None:
            assert got == [reference.write(**fields[at], choice=choice).text for choice in range(1 + at % 3)]

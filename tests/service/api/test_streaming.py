"""When a stream's text is sent: the first character at once, then in pieces as far apart as was asked for."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from service.settings import Settings
from tests.service.crowd import endless, is_idle
from tests.service.error_cases import check
from tests.service.serving import Reference, Running, SlowDecoder, eventually, serving
from tests.service.sse_client import chunks, ends, events, stream, texts


@pytest.fixture(scope="module")
def slow(checkpoint_folder: Path) -> Iterator[Running]:
    """A server whose texts take 2 ms a character and are sent when they are done, unless a request says otherwise."""
    with serving(Settings(checkpoint=checkpoint_folder, stream_interval=10_000), SlowDecoder) as running:
        yield running


@pytest.fixture(scope="module")
def hurried(checkpoint_folder: Path) -> Iterator[Running]:
    """The same with a second for each request."""
    settings = Settings(
        checkpoint=checkpoint_folder, stream_interval=10_000, deadline_seconds=1, max_rows=2, first_comment_seconds=5
    )
    with serving(settings, SlowDecoder) as running:
        yield running


def test_at_zero_every_character_is_an_event(server: Running, reference: Reference) -> None:
    """Also when many are drawn in one call, with n texts, and with a stop string at the end."""
    for fields in ({"n": 3, "max_tokens": 300}, {"max_tokens": 400, "stop": "ab"}):
        wish: dict[str, Any] = {"prompt": "the", "seed": 10, **fields}
        parts = stream(server.client, **wish, stream_interval=0)
        n = wish.get("n", 1)
        assert all(len(part["choices"]) == 1 for part in parts)
        assert all(len(part["choices"][0]["text"]) == 1 for part in parts if not ended(part))
        assert all(len(part["choices"][0]["text"]) <= 1 for part in parts)
        expected = [reference.write(**wish, choice=choice) for choice in range(n)]
        assert texts(parts, n) == [piece.text for piece in expected]
        assert [reason for reason, _ in ends(parts, n)] == [piece.finish_reason for piece in expected]


def ended(part: dict[str, Any]) -> bool:
    return part["choices"][0]["finish_reason"] is not None


def test_the_first_character_comes_at_once_and_the_rest_when_its_interval_is_over(slow: Running) -> None:
    body = {"prompt": "a", "max_tokens": 200, "stream": True, "seed": 1}
    started = time.monotonic()
    with slow.client.stream("POST", "/v1/completions", json=body) as response:
        received = response.iter_raw()
        first = next(received)
        assert slow.engine.running == 1
        rest = b"".join(received)
        assert time.monotonic() - started > 0.3
    parts = chunks(first + rest)
    assert [len(part["choices"][0]["text"]) for part in parts] == [1, 199]


def test_a_request_has_its_own_interval(slow: Running) -> None:
    started = time.monotonic()
    parts = stream(slow.client, prompt="a", max_tokens=200, seed=1, stream_interval=40)
    assert 4 <= len(parts) <= (time.monotonic() - started) / 0.040 + 2
    whole = slow.complete("a", max_tokens=200, seed=1)["choices"][0]["text"]
    assert texts(parts) == [whole]


def test_by_default_there_are_far_fewer_events_than_characters(server: Running) -> None:
    assert len(stream(server.client, prompt="a", max_tokens=5000)) < 500


def test_a_silent_stream_says_that_it_lives(checkpoint_folder: Path, reference: Reference) -> None:
    """In comments, which OpenAI's client and every reader of events skips."""
    settings = Settings(checkpoint=checkpoint_folder, stream_interval=10_000, keep_alive_seconds=0.05)
    fields: dict[str, Any] = {"max_tokens": 200, "seed": 1}
    with serving(settings, SlowDecoder) as server:
        response = server.client.post("/v1/completions", json={"prompt": "a", "stream": True, **fields})
        assert 2 < response.content.count(b"\n: keep-alive\n") < 190  # of 200 characters
        assert response.content.startswith(b"data: ")
        parts = chunks(response.content.replace(b": keep-alive\n", b""))
        right = reference.write("a", **fields).text
        assert texts(parts) == [right]
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
        read = client.completions.create(model="small", prompt="a", stream=True, **fields)
        assert "".join(chunk.choices[0].text for chunk in read) == right


@pytest.mark.parametrize("stream_too", [True, False])
def test_a_request_has_a_deadline_before_its_first_byte(stream_too: bool, hurried: Running) -> None:
    started = time.monotonic()
    body = {"prompt": "a" * 10_000, "max_tokens": 1, "stream": stream_too}
    error = check(httpx.post(f"{hurried.url}/v1/completions", json=body, timeout=10), 504)
    assert error["code"] == "deadline_exceeded"
    assert "1 seconds" in error["message"]
    assert time.monotonic() - started > 0.9
    assert eventually(lambda: is_idle(hurried))


def test_time_in_the_queue_counts_too(hurried: Running) -> None:
    with endless(hurried, n=2) as running:
        next(running)
        response = httpx.post(f"{hurried.url}/v1/completions", json={"prompt": "a", "max_tokens": 2000}, timeout=10)
        assert check(response, 504)["code"] == "deadline_exceeded"


def test_a_stream_that_is_late_ends_with_an_error(hurried: Running) -> None:
    fields: dict[str, Any] = {"prompt": "a", "max_tokens": 5000, "seed": 1}
    response = hurried.client.post("/v1/completions", json={**fields, "stream": True, "stream_interval": 20})
    assert response.status_code == 200
    *pieces, error, done = events(response.content)
    assert done == "[DONE]"
    assert '"code":"deadline_exceeded"' in error
    assert len(pieces) > 5
    assert eventually(lambda: is_idle(hurried))


def test_keys_do_not_share_what_is_kept_of_prompts(server: Running) -> None:
    """So that no time and no number tells one what another has asked."""

    def cached(prompt: str, **headers: str) -> int:
        response = server.client.post("/v1/completions", json={"prompt": prompt}, headers=headers)
        count: int = response.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
        return count

    prompt = "ZQ: no other test asks this"  # nor begins so: without a key they all share what is kept
    assert [cached(prompt, authorization="Bearer one") for _ in range(2)] == [0, len(prompt) - 1]
    assert cached(prompt, authorization="Bearer two") == 0
    assert cached(prompt) == 0
    assert cached(prompt) == len(prompt) - 1


def test_a_salt_keeps_prompts_apart_and_changes_no_text(server: Running) -> None:
    """As cache_salt of vLLM does: a gateway with one key for many users gives each of them a salt."""
    prompt = "QZ! no other test asks this"

    def ask(**fields: str) -> tuple[int, str]:
        answer = server.complete(prompt, seed=1, **fields)
        return answer["usage"]["prompt_tokens_details"]["cached_tokens"], answer["choices"][0]["text"]

    found = [ask(cache_salt="one"), ask(cache_salt="one"), ask(cache_salt="two"), ask(), ask(), ask(cache_salt="one")]
    whole = len(prompt) - 1
    assert [cached for cached, _ in found] == [0, whole, 0, 0, whole, whole]
    assert len({text for _, text in found}) == 1

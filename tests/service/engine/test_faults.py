"""When the model itself fails: the texts of that call end with an error, the others go on, and health never lies."""

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from model.decoding.decoder import Decoder
from model.decoding.rows import Drawn, Rows, Slots
from service.settings import Settings
from tests.service.error_cases import check
from tests.service.fragile import FragileDecoder
from tests.service.serving import ENDLESS, Reference, Running, SlowRows, eventually, serving, serving_process
from tests.service.sse_client import events


@pytest.fixture
def fragile(checkpoint_folder: Path) -> Iterator[Running]:
    with serving(Settings(checkpoint=checkpoint_folder, max_rows=3, stream_interval=0), FragileDecoder) as running:
        yield running


@pytest.mark.parametrize("stream", [True, False])
def test_a_step_that_fails_at_once_is_a_500(stream: bool, fragile: Running, caplog: pytest.LogCaptureFixture) -> None:
    response = fragile.client.post("/v1/completions", json={"prompt": "月", "stream": stream})
    error = check(response, 500)
    assert error["code"] == "step_failed"
    assert "secret" not in response.text
    assert "secret words about the machine" in caplog.text
    told = [record.levelno for record in caplog.records if record.name.startswith("service.engine")]
    assert told == [logging.ERROR]


def test_a_step_that_fails_later_is_the_last_event(fragile: Running, reference: Reference) -> None:
    fields: dict[str, Any] = {"prompt": "a", "max_tokens": ENDLESS, "seed": 1}
    with fragile.client.stream("POST", "/v1/completions", json={**fields, "stream": True}) as response:
        body = response.iter_raw()
        received = next(body)
        assert fragile.client.post("/v1/completions", json={"prompt": "b月"}).status_code == 500
        received += b"".join(body)
    *pieces, error, done = events(received)
    assert done == "[DONE]"
    assert json.loads(error)["error"]["code"] == "step_failed"
    assert "secret" not in error
    written = "".join(json.loads(piece)["choices"][0]["text"] for piece in pieces)
    assert written
    assert reference.write(**{**fields, "max_tokens": len(written)}).text == written


@pytest.mark.parametrize("prompt", ["月", "b月", "月b"])
def test_after_a_failed_call_the_server_goes_on(prompt: str, fragile: Running, reference: Reference) -> None:
    expected = reference.write("a", max_tokens=20, seed=1).text
    for _ in range(3):
        assert fragile.client.post("/v1/completions", json={"prompt": prompt}).status_code == 500
        assert fragile.complete("a", max_tokens=20, seed=1)["choices"][0]["text"] == expected
    health = fragile.client.get("/health").json()
    assert (health["status"], health["running"], health["waiting"], health["failures"]) == ("ok", 0, 0, 3)


def test_a_text_is_not_touched_by_a_prompt_that_cannot_be_read(fragile: Running, reference: Reference) -> None:
    fields: dict[str, Any] = {"prompt": "a", "max_tokens": 100, "seed": 1}
    with ThreadPoolExecutor() as pool:
        written = pool.submit(fragile.complete, **fields)
        assert eventually(lambda: fragile.engine.running == 1)
        for _ in range(3):
            assert fragile.client.post("/v1/completions", json={"prompt": "月b"}).status_code == 500
    assert written.result()["choices"][0]["text"] == reference.write(**fields).text


def test_a_prompt_is_not_touched_by_texts_that_cannot_be_written(fragile: Running, reference: Reference) -> None:
    fields: dict[str, Any] = {"prompt": "ab" * 150, "max_tokens": 20, "seed": 1}
    with ThreadPoolExecutor() as pool:
        written = pool.submit(fragile.complete, **fields)
        assert eventually(lambda: fragile.engine.running == 1)
        for _ in range(3):
            assert fragile.client.post("/v1/completions", json={"prompt": "月"}).status_code == 500
        assert not written.done()
    assert written.result()["choices"][0]["text"] == reference.write(**fields).text


def test_a_prompt_that_cannot_be_scored_is_a_failed_call_too(fragile: Running, reference: Reference) -> None:
    fields: dict[str, Any] = {"max_tokens": 100, "seed": 1}
    scored = {"echo": True, "logprobs": 1, "max_tokens": 0}
    with ThreadPoolExecutor() as pool:
        written = pool.submit(fragile.complete, "a", **fields)
        assert eventually(lambda: fragile.engine.running == 1)
        for prompt in ("月b", ["ab", "a月b"]):
            answer = fragile.client.post("/v1/completions", json={"prompt": prompt, **scored})
            assert check(answer, 500)["code"] == "step_failed"
    assert written.result()["choices"][0]["text"] == reference.write("a", **fields).text
    assert len(fragile.complete("ab" * 100, **scored)["choices"][0]["logprobs"]["tokens"]) == 200
    assert fragile.engine.running == fragile.engine.waiting == 0


def test_all_texts_of_a_request_fail_together(fragile: Running) -> None:
    """Its other texts wait for the first to have read the prompt, which it cannot."""
    assert fragile.client.post("/v1/completions", json={"prompt": "a月b", "n": 9}).status_code == 500
    assert fragile.engine.running == fragile.engine.waiting == 0


def test_those_who_wait_are_not_part_of_a_call_that_fails(checkpoint_folder: Path, reference: Reference) -> None:
    waiting: dict[str, Any] = {"prompt": "a", "max_tokens": 20, "seed": 1}
    with serving(Settings(checkpoint=checkpoint_folder, max_rows=1), FragileDecoder) as server:
        with ThreadPoolExecutor() as pool:
            failed = pool.submit(server.client.post, "/v1/completions", json={"prompt": "a" * 50 + "月"})
            assert eventually(lambda: server.engine.running == 1)
            written = pool.submit(server.complete, **waiting)
        assert failed.result().status_code == 500
        assert written.result()["choices"][0]["text"] == reference.write(**waiting).text


def test_a_dead_engine_is_told_to_everyone(fragile: Running, caplog: pytest.LogCaptureFixture) -> None:
    with httpx.stream(
        "POST", f"{fragile.url}/v1/completions", json={"prompt": "a", "max_tokens": ENDLESS, "stream": True}
    ) as response:
        body = response.iter_raw()
        received = next(body)
        for stream in (True, False):
            answer = fragile.client.post("/v1/completions", json={"prompt": "明", "stream": stream})
            assert check(answer, 503)["code"] == "engine_stopped"
        received += b"".join(body)
    *_, error, done = events(received)
    assert done == "[DONE]"
    assert json.loads(error)["error"]["code"] == "engine_stopped"
    health = fragile.client.get("/health")
    assert health.status_code == 503
    assert (health.json()["status"], health.json()["running"]) == ("failed", 0)
    assert "A thread of the engine has died" in caplog.text


class DyingRows(SlowRows):
    """Rows that end their thread as if the process was to end."""

    def draw(self, slots: Slots, steps: int) -> Drawn:  # noqa: ARG002
        raise SystemExit(0)


class InterruptedRows(SlowRows):
    """The same by another signal."""

    def draw(self, slots: Slots, steps: int) -> Drawn:  # noqa: ARG002
        raise KeyboardInterrupt


@pytest.mark.parametrize("rows", [DyingRows, InterruptedRows])
def test_a_process_that_can_generate_no_more_ends(rows: type, checkpoint_folder: Path) -> None:
    with serving_process(str(checkpoint_folder), "--port", "0", rows=rows) as (process, url):
        assert check(httpx.post(f"{url}/v1/completions", json={"prompt": "a"}), 503)["code"] == "engine_stopped"
        assert httpx.get(f"{url}/health").json()["status"] == "failed"
        _, said = process.communicate(timeout=10)
        assert process.returncode == 1
        assert "unroll: The server ended because a thread that generates has died" in said


class BrokenRows(SlowRows):
    """Rows whose answer has the wrong shape."""

    def draw(self, slots: Slots, steps: int) -> Drawn:
        return Drawn(super().draw(slots, steps).ids[:, :0])


class BrokenDecoder(Decoder):
    """A decoder of such rows."""

    def rows(self, slots: int) -> Rows:
        return BrokenRows(super().rows(slots))


def test_an_answer_of_the_wrong_shape_is_a_failed_call_too(checkpoint_folder: Path) -> None:
    with serving(Settings(checkpoint=checkpoint_folder), BrokenDecoder) as broken:
        check(broken.client.post("/v1/completions", json={"prompt": "a"}), 500)
        assert broken.client.get("/health").status_code == 200

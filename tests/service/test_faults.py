"""When the model itself fails: the texts of that step end with an error, the server goes on, and health never lies."""

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from model.decoder import Decoder, State
from service.settings import Settings
from tests.model.small import CHARACTERS
from tests.service.serving import ENDLESS, Reference, Running, SlowDecoder, eventually, serving
from tests.service.sse_client import events
from tests.service.test_errors import check

FATAL = 256 + CHARACTERS.index("月")
DEADLY = 256 + CHARACTERS.index("明")


class Killed(BaseException):
    """What no handler of errors catches."""


class FragileDecoder(SlowDecoder):
    """A decoder that cannot read 月, and whose thread does not survive 明."""

    def step(self, ids: NDArray[np.int64], state: State) -> tuple[NDArray[np.float32], State]:
        if FATAL in ids:
            raise RuntimeError("secret words about the machine")
        if DEADLY in ids:
            raise Killed
        return super().step(ids, state)


@pytest.fixture
def fragile(checkpoint_folder: Path) -> Iterator[Running]:
    with serving(Settings(checkpoint=checkpoint_folder, max_rows=3), FragileDecoder) as running:
        yield running


def text_without(reference: Reference, characters: str) -> int:
    """A seed whose text of 200 characters has none of the given ones."""
    fields: dict[str, Any] = {"max_tokens": 200, "temperature": 0.5}
    return next(s for s in range(1000) if not set(reference.write("a", seed=s, **fields).text) & set(characters))


@pytest.mark.parametrize("stream", [True, False])
def test_a_step_that_fails_at_once_is_a_500(stream: bool, fragile: Running, caplog: pytest.LogCaptureFixture) -> None:
    response = fragile.client.post("/v1/completions", json={"prompt": "月", "stream": stream})
    error = check(response, 500)
    assert error["code"] == "step_failed"
    assert "secret" not in response.text
    assert "secret words about the machine" in caplog.text
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_a_step_that_fails_later_is_the_last_event(fragile: Running, reference: Reference) -> None:
    seed = text_without(reference, "月明")
    fields: dict[str, Any] = {"prompt": "a", "max_tokens": 200, "seed": seed, "temperature": 0.5}
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
    assert reference.write(**fields).text.startswith(written)


def test_after_a_failed_step_the_server_goes_on(fragile: Running, reference: Reference) -> None:
    seed = text_without(reference, "月明")
    expected = reference.write("a", max_tokens=20, seed=seed, temperature=0.5).text
    for _ in range(3):
        assert fragile.client.post("/v1/completions", json={"prompt": "月"}).status_code == 500
        written = fragile.complete("a", max_tokens=20, seed=seed, temperature=0.5)
        assert written["choices"][0]["text"] == expected
    assert fragile.client.get("/health").json() == {"status": "ok", "model": "small", "running": 0, "waiting": 0}


def test_those_who_wait_are_not_part_of_a_step_that_fails(fragile: Running, reference: Reference) -> None:
    """Three places are taken by one request that fails; the fourth row waits, and is written."""
    seed = text_without(reference, "月明")
    failing = {"prompt": "a" * 50 + "月", "n": 3}
    waiting = {"prompt": "a", "max_tokens": 20, "seed": seed, "temperature": 0.5}
    with ThreadPoolExecutor() as pool:
        failed = pool.submit(fragile.client.post, "/v1/completions", json=failing)
        assert eventually(lambda: fragile.engine.running == 3)
        written = pool.submit(fragile.client.post, "/v1/completions", json=waiting)
    assert failed.result().status_code == 500
    assert written.result().status_code == 200


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
    assert health.json() == {"status": "failed", "model": "small", "running": 0, "waiting": 0}
    assert "The engine's thread has died" in caplog.text


class BrokenDecoder(Decoder):
    """A decoder whose answer has the wrong shape."""

    def step(self, ids: NDArray[np.int64], state: State) -> tuple[NDArray[np.float32], State]:
        logits, after = super().step(ids, state)
        return logits[:, :0], after


def test_a_fault_in_sampling_is_a_failed_step_too(checkpoint_folder: Path) -> None:
    with serving(Settings(checkpoint=checkpoint_folder), BrokenDecoder) as broken:
        check(broken.client.post("/v1/completions", json={"prompt": "a"}), 500)
        assert broken.client.get("/health").status_code == 200

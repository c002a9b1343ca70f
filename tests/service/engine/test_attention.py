"""The promises for a served model with attention, whose state is a ring of keys: texts, caches, states and scores."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from model.checkpoint import save
from service.settings import Settings
from tests.model.plain import distributions
from tests.model.small import small_checkpoint
from tests.service.serving import Reference, Running, serving
from tests.service.sse_client import chunks, texts

WINDOW = 32
PROMPT = "the moon and the sea and the land, the moon "
CASES: list[dict[str, Any]] = [
    {"prompt": PROMPT * 3, "max_tokens": 60, "seed": 1},
    {"prompt": PROMPT, "max_tokens": 90, "temperature": 0, "seed": 2},
    {"prompt": PROMPT + "x", "max_tokens": 40, "top_k": 9, "top_p": 0.9, "seed": 3, "n": 3},
    {"prompt": PROMPT, "max_tokens": 300, "stop": ["ab", "é"], "repetition_penalty": 1.3, "seed": 4},
    {"prompt": "", "max_tokens": 20, "seed": 5},
    {"prompt": "a", "max_tokens": 1, "seed": 6},
]
SETTINGS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "every prompt anew, two threads": {"threads": 2, "max_rows": 5, "prefix_cache_bytes": 0},
    "a small cache": {"max_rows": 2, "prefix_cache_bytes": 20_000},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("attention") / "small"
    save(small_checkpoint(skip=True, attention=WINDOW), path)
    return path


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Running]:
    with serving(Settings(checkpoint=folder)) as server:
        yield server


@pytest.mark.parametrize("chosen", SETTINGS.values(), ids=SETTINGS)
def test_texts_are_the_models_streamed_or_not_and_beside_others(folder: Path, chosen: dict[str, Any]) -> None:
    reference = Reference(folder)
    requests = [{**case, "stream": bool((at + turn) % 2)} for turn in range(2) for at, case in enumerate(CASES)]

    async def ask(client: httpx.AsyncClient, fields: dict[str, Any]) -> list[str]:
        response = await client.post("/v1/completions", json=fields)
        assert response.status_code == 200, response.text
        if fields["stream"]:
            return texts(chunks(response.content), fields.get("n", 1))
        return [choice["text"] for choice in response.json()["choices"]]

    async def crowd(url: str) -> list[list[str]]:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            return await asyncio.gather(*(ask(client, fields) for fields in requests))

    with serving(Settings(checkpoint=folder, **chosen)) as server:
        found = asyncio.run(crowd(server.url))
    expected = [[reference.write(**case, choice=at).text for at in range(case.get("n", 1))] for case in CASES]
    assert found == expected * 2


def test_the_attention_has_a_say_in_the_texts(folder: Path, tmp_path: Path) -> None:
    blind = small_checkpoint(skip=True, attention=WINDOW)
    blind.tensors["attention.project.bias"][-1] = 1e9  # the sentinel's
    save(blind, tmp_path / "blind")
    assert Reference(folder).write(**CASES[0]).text != Reference(tmp_path / "blind").write(**CASES[0]).text


@pytest.mark.parametrize("at", [1, 25, 39])
def test_a_text_goes_on_from_its_state(running: Running, at: int) -> None:
    fields: dict[str, Any] = {"seed": 7, "temperature": 1.2, "return_state": True}
    whole = running.complete(PROMPT, max_tokens=40, **fields)["choices"][0]
    first = running.complete(PROMPT, max_tokens=at, **fields)["choices"][0]
    del fields["seed"]
    rest = running.complete("", max_tokens=40 - at, state=first["state"], **fields)["choices"][0]
    assert first["text"] + rest["text"] == whole["text"]


def test_a_text_is_scored_by_the_mixture(running: Running) -> None:
    text = PROMPT * 3
    answer = running.client.post("/v1/score", json={"texts": text}).json()
    expected = [table[token] for token, table in distributions(small_checkpoint(skip=True, attention=WINDOW), text)]
    nats = -float(np.sum(expected))
    assert answer["results"][0]["bits"] == pytest.approx(nats / np.log(2), rel=1e-4)

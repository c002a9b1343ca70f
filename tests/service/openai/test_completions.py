"""What a completion's answer says besides its text: usage, reasons, events, and that OpenAI's own client reads it."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.checkpoint import save
from model.text.frame import TextFrame
from service.openai.schemas import Completion
from service.settings import Settings
from tests.model.small import small_checkpoint
from tests.service.serving import Running, serving
from tests.service.sse_client import stream, texts


def test_an_answer_has_the_documented_shape(server: Running) -> None:
    answer = server.complete("abc", n=2, max_tokens=5)
    assert Completion.model_validate(answer).model_dump(exclude_unset=True) == answer
    assert answer["id"].startswith("cmpl-")
    assert answer["model"] == server.model == "small"
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]


@pytest.mark.parametrize(
    ("prompt", "tokens", "unseen"),
    [("abc", 3, 0), ("", 0, 0), ("aé明", 3, 0), ("aXb", 3, 1), ("a€𝄞", 1 + 3 + 4, 2), ("\x00", 1, 1)],
)
def test_p4_usage_counts_tokens_and_characters_never_seen(
    prompt: str, tokens: int, unseen: int, server: Running
) -> None:
    expected = {
        "prompt_tokens": tokens,
        "completion_tokens": 2 * 7,
        "total_tokens": tokens + 2 * 7,
        "prompt_tokens_details": {"cached_tokens": max(0, tokens - 1), "unseen_characters": unseen},
    }
    server.complete(prompt, max_tokens=1)  # from now on all of the prompt but its last token is known
    assert server.complete(prompt, n=2, max_tokens=7)["usage"] == expected
    parts = stream(server.client, prompt=prompt, n=2, max_tokens=7, stream_options={"include_usage": True})
    assert parts[-1]["choices"] == []
    assert parts[-1]["usage"] == expected
    assert all(part["usage"] is None for part in parts[:-1])


def test_a_stream_has_usage_only_when_asked(server: Running) -> None:
    assert all(part["choices"] and part["usage"] is None for part in stream(server.client, prompt="a"))
    parts = stream(server.client, prompt="a", stream_options={"include_usage": False})
    assert all(part["choices"] for part in parts)


def test_events_of_a_stream_share_one_head(server: Running) -> None:
    heads = [
        {key: part[key] for key in ("id", "object", "created", "model", "seed")}
        for part in stream(server.client, prompt="a")
    ]
    assert len({str(head) for head in heads}) == 1
    assert heads[0]["object"] == "text_completion"


def test_a_stream_is_not_to_be_kept_back_on_its_way(server: Running) -> None:
    response = server.client.post("/v1/completions", json={"prompt": "a", "stream": True})
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"


def test_text_comes_while_it_is_written(slow_server: Running) -> None:
    fields = {"prompt": "a", "max_tokens": 40, "stream": True, "stream_interval": 0}
    with slow_server.client.stream("POST", "/v1/completions", json=fields) as response:
        pieces = [chunk for chunk in response.iter_raw() if chunk]
    assert len(pieces) > 20


@given(st.text("ab", min_size=1, max_size=3), st.integers(0, 2**32))
def test_p3_no_part_of_a_stop_string_gets_out(server: Running, stop: str, seed: int) -> None:
    fields: dict[str, Any] = {"prompt": "x", "max_tokens": 60, "seed": seed, "temperature": 0.7, "top_k": 12}
    free = server.complete(**fields)["choices"][0]["text"]
    parts = stream(server.client, **fields, stop=[stop, "明a"])
    cut = [free.find(one) for one in (stop, "明a") if one in free]
    assert texts(parts) == [free[: min(cut)] if cut else free]


def test_line_separators_of_unicode_do_not_tear_events(tmp_path: Path) -> None:
    """A reader that splits lines at U+2028, U+2029 or U+0085, as str.splitlines does, gets every event whole."""
    save(small_checkpoint(characters="a\n\r\u2028\u2029\u0085"), tmp_path / "lines")
    with serving(Settings(checkpoint=tmp_path / "lines")) as running:
        fields: dict[str, Any] = {"prompt": "\u2028", "max_tokens": 200, "seed": 1}
        whole = running.complete(**fields)["choices"][0]["text"]
        assert {"\u2028", "\u2029", "\u0085", "\n", "\r"} <= set(whole)
        assert texts(stream(running.client, **fields)) == [whole]
        with running.client.stream("POST", "/v1/completions", json={**fields, "stream": True}) as response:
            lines = [line for line in response.iter_lines() if line]
        assert all(line.startswith(("data: ", "id: ")) for line in lines)
        assert lines[-1] == "data: [DONE]"


def test_ignore_eos_goes_on_after_the_end_of_an_item(tmp_path: Path) -> None:
    items = small_checkpoint(characters="ab\n")
    save(replace(items, tokenizer=items.tokenizer.framed(TextFrame(separator="\n"))), tmp_path / "items")
    with serving(Settings(checkpoint=tmp_path / "items")) as running:
        fields: dict[str, Any] = {"prompt": "", "max_tokens": 100, "seed": 1}
        [item] = running.complete(**fields)["choices"]
        [more] = running.complete(**fields, ignore_eos=True)["choices"]
    assert item["finish_reason"] == "stop"
    assert "\n" not in item["text"]
    assert more["finish_reason"] == "length"
    assert len(more["text"]) == 100
    assert more["text"].startswith(item["text"] + "\n")


@pytest.fixture
def client(server: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def test_openai_client_completes(client: openai.OpenAI, server: Running) -> None:
    answer = client.completions.create(model="small", prompt="abc", seed=1, n=2, max_tokens=20, stop=["é"])
    expected = server.complete("abc", seed=1, n=2, max_tokens=20, stop=["é"])
    assert [choice.text for choice in answer.choices] == [choice["text"] for choice in expected["choices"]]
    assert answer.usage is not None
    assert answer.usage.total_tokens == expected["usage"]["total_tokens"]


def test_openai_client_streams(client: openai.OpenAI, server: Running) -> None:
    chunks = list(
        client.completions.create(
            model="small", prompt="abc", seed=1, max_tokens=30, stream=True, stream_options={"include_usage": True}
        )
    )
    written = "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)
    assert written == server.complete("abc", seed=1, max_tokens=30)["choices"][0]["text"]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 30


def test_openai_client_streams_asynchronously(server: Running) -> None:
    async def read() -> str:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
            stream = await client.completions.create(model="small", prompt="abc", seed=1, max_tokens=30, stream=True)
            return "".join([chunk.choices[0].text async for chunk in stream])

    assert asyncio.run(read()) == server.complete("abc", seed=1, max_tokens=30)["choices"][0]["text"]


def test_openai_client_knows_models_and_errors(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["small"]
    assert client.models.retrieve("small").owned_by == "unroll"
    with pytest.raises(openai.NotFoundError, match="this server has 'small'"):
        client.models.retrieve("large")
    with pytest.raises(openai.NotFoundError) as missing:
        client.completions.create(model="large", prompt="a")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model="small", prompt="a", temperature=1000)
    assert refused.value.param == "temperature"


def test_health_tells_how_busy_the_server_is(server: Running) -> None:
    response = httpx.get(f"{server.url}/health")
    assert response.status_code == 200
    health = response.json()
    assert set(health.pop("prefix_cache")) == {"queries", "hits", "cached_tokens", "evictions", "entries", "bytes"}
    assert set(health.pop("memory")) == {"budget_bytes", "held_bytes", "refused"}
    assert health.pop("models").keys() == {"served", "loaded", "bytes", "problems"}
    idle = {"running": 0, "waiting": 0, "still_seconds": 0, "failures": 0}
    assert health == {"status": "ok", "model": "small", **idle}

"""The package langchain-openai: one text, a batch, a stream, several texts; it sends nulls for what is not set."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.clients.conftest import MODEL, Served

pytestmark = [
    pytest.mark.clients,
    pytest.mark.filterwarnings("default"),  # what a client warns of itself is its makers' matter
]

PROMPTS = ["To be", "ROMEO:\n", "First Citizen:\n", "O ", "Who"]


@pytest.fixture
def bodies() -> list[dict[str, Any]]:
    """What was sent, filled in as the client sends it."""
    return []


@pytest.fixture
def settings(served: Served, bodies: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """How the client is made; what it sends is noted on the way."""
    httpx = pytest.importorskip("httpx2")
    hooks = {"request": [lambda request: bodies.append(json.loads(request.content))]}
    with httpx.Client(event_hooks=hooks) as http:
        yield {
            "base_url": f"{served.url}/v1",
            "api_key": "x",
            "model": MODEL,
            "max_tokens": 60,
            "max_retries": 0,
            "http_client": http,
        }


@pytest.fixture
def langchain() -> Any:
    """The package."""
    return pytest.importorskip("langchain_openai", reason="needs the extra `clients`: make clients")


def test_invoke(served: Served, langchain: Any, settings: dict[str, Any], bodies: list[dict[str, Any]]) -> None:
    llm = langchain.OpenAI(**settings, seed=1, temperature=0.7)
    assert llm.invoke(PROMPTS[1]) == served.write(PROMPTS[1], max_tokens=60, seed=1, temperature=0.7)
    assert any(value is None for value in bodies[0].values()), "the client no longer sends nulls: fetch this anew"


def test_a_stop_string(langchain: Any, settings: dict[str, Any]) -> None:
    text = langchain.OpenAI(**settings, temperature=0).invoke(PROMPTS[1], stop=["\n"])
    assert text
    assert "\n" not in text


def test_a_batch_is_one_request_in_order(
    served: Served, langchain: Any, settings: dict[str, Any], bodies: list[dict[str, Any]]
) -> None:
    llm = langchain.OpenAI(**settings, temperature=0)
    assert llm.batch(PROMPTS) == [served.write(prompt, max_tokens=60, temperature=0) for prompt in PROMPTS]
    assert [body["prompt"] for body in bodies] == [PROMPTS]


def test_a_stream_joins_to_the_text(langchain: Any, settings: dict[str, Any], bodies: list[dict[str, Any]]) -> None:
    llm = langchain.OpenAI(**{**settings, "max_tokens": 2000}, seed=3)
    pieces = list(llm.stream(PROMPTS[0]))
    assert bodies[0]["stream"] is True
    assert len(pieces) > 1
    assert "".join(pieces) == llm.invoke(PROMPTS[0])


def test_n_texts_of_each_prompt(served: Served, langchain: Any, settings: dict[str, Any]) -> None:
    llm = langchain.OpenAI(**settings, n=2, best_of=2, seed=5, temperature=1)
    result = llm.generate(PROMPTS)
    for prompt, generations in zip(PROMPTS, result.generations, strict=True):
        answer = served.post("/v1/completions", prompt=prompt, max_tokens=60, n=2, best_of=2, seed=5)
        assert [generation.text for generation in generations] == [choice["text"] for choice in answer["choices"]]
        assert {generation.generation_info["finish_reason"] for generation in generations} == {"length"}
    usage = result.llm_output["token_usage"]
    assert usage["completion_tokens"] == 60 * 2 * len(PROMPTS)
    assert usage["prompt_tokens"] == sum(map(len, PROMPTS))

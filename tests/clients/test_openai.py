"""The openai package: plain, streamed, asynchronous, several prompts, log-probabilities, models, errors."""

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types import CompletionChoice, CompletionUsage

from tests.clients.conftest import MODEL, Served

pytestmark = pytest.mark.clients

PROMPT = "ROMEO:\nWhat l"
PROMPTS = ["To be", "JULIET:\nO ", "Ünïcode 🎭"]


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="x", max_retries=0) as client:
        yield client


def test_a_completion_repeats_itself_and_counts(client: openai.OpenAI) -> None:
    first, second = (
        client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=50, temperature=0.7, seed=1) for _ in range(2)
    )
    assert first.choices[0].text == second.choices[0].text
    assert len(first.choices[0].text) == 50
    assert first.choices[0].finish_reason == "length"
    assert first.usage is not None
    assert (first.usage.prompt_tokens, first.usage.completion_tokens, first.usage.total_tokens) == (13, 50, 63)
    assert (first.object, first.model) == ("text_completion", MODEL)
    assert first.id != second.id


def test_everything_at_once_streams_what_it_answers_whole(client: openai.OpenAI) -> None:
    whole = client.completions.create(
        model=MODEL, prompt=PROMPTS, max_tokens=50, logprobs=5, echo=True, n=2, seed=1, stop=["\n\n"]
    )
    stream = client.completions.create(
        model=MODEL,
        prompt=PROMPTS,
        max_tokens=50,
        logprobs=5,
        echo=True,
        n=2,
        seed=1,
        stop=["\n\n"],
        stream=True,
        stream_options={"include_usage": True},
    )
    assert [choice.index for choice in whole.choices] == list(range(6))
    texts = [""] * 6
    reasons: list[Any] = [None] * 6
    logprobs: list[list[float | None]] = [[] for _ in range(6)]
    usages: list[CompletionUsage] = []
    for event in stream:
        usages += [event.usage] if event.usage else []
        for choice in event.choices:
            texts[choice.index] += choice.text
            reasons[choice.index] = reasons[choice.index] or choice.finish_reason
            assert choice.logprobs is not None
            logprobs[choice.index] += choice.logprobs.token_logprobs or []
    assert texts == [choice.text for choice in whole.choices]
    assert reasons == [choice.finish_reason for choice in whole.choices]
    assert logprobs == [choice.logprobs and choice.logprobs.token_logprobs for choice in whole.choices]
    assert whole.usage is not None
    (usage,) = usages
    assert (usage.prompt_tokens, usage.completion_tokens) == (whole.usage.prompt_tokens, whole.usage.completion_tokens)
    for choice in whole.choices:
        assert choice.text.startswith(PROMPTS[choice.index // 2])
        assert choice.logprobs is not None
        assert choice.logprobs.text_offset is not None
        assert choice.logprobs.text_offset[0] == 0
        assert logprobs[choice.index][0] is None


def test_an_asynchronous_stream_is_the_same_text(served: Served, client: openai.OpenAI) -> None:
    async def read() -> str:
        async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="x", max_retries=0) as one:
            stream = await one.completions.create(model=MODEL, prompt=PROMPT, max_tokens=80, seed=2, stream=True)
            return "".join([event.choices[0].text async for event in stream])

    whole = client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=80, seed=2)
    assert asyncio.run(read()) == whole.choices[0].text


def test_the_greedy_character_has_the_likeliest_ones_probability(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=40, temperature=0, logprobs=3)
    found = answer.choices[0].logprobs
    assert found is not None
    assert found.tokens is not None
    assert found.token_logprobs is not None
    assert found.top_logprobs is not None
    assert "".join(found.tokens) == answer.choices[0].text
    for token, logprob, top in zip(found.tokens, found.token_logprobs, found.top_logprobs, strict=True):
        assert logprob == max(top.values()) == top[token]
        assert len(top) == 3


def test_a_prompt_is_scored_without_writing(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=0, echo=True, logprobs=1)
    found = answer.choices[0].logprobs
    assert answer.choices[0].text == PROMPT
    assert found is not None
    assert found.tokens == list(PROMPT)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 0


def test_best_of_returns_likely_ones_and_counts_all(client: openai.OpenAI) -> None:
    def score(index: int, choices: list[CompletionChoice]) -> float:
        logprobs = choices[index].logprobs
        assert logprobs is not None
        values = [value for value in logprobs.token_logprobs or [] if value is not None]
        return sum(values) / len(values)

    best = client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=20, n=2, best_of=6, seed=1, logprobs=0)
    every = client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=20, n=6, seed=1, logprobs=0)
    ranked = sorted(range(6), key=lambda index: score(index, every.choices), reverse=True)
    assert [choice.text for choice in best.choices] == [every.choices[index].text for index in ranked[:2]]
    assert best.usage is not None
    assert best.usage.completion_tokens == 120


def test_a_stop_string_ends_the_text_and_is_named(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=500, temperature=0, stop=["\n", "zz"])
    choice = answer.choices[0]
    assert choice.finish_reason == "stop"
    assert "\n" not in choice.text
    assert (choice.model_extra or {})["stop_reason"] == "\n"


def test_models_are_listed_and_found(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    found = client.models.retrieve(MODEL)
    assert (found.id, found.object, found.owned_by) == (MODEL, "model", "unroll")
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("another")


def test_errors_are_the_clients_own(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=-1)
    assert caught.value.param == "max_tokens"
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=MODEL, prompt=PROMPT, suffix="end")
    assert caught.value.param == "suffix"
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="another", prompt=PROMPT)

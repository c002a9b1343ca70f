"""The service's promise: a seed and parameters give the text of model/generate.py, however it is asked for."""

import asyncio
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from model.checkpoint import TOKENIZER, WEIGHTS, load, read, save
from service.openai.schemas import CompletionRequest
from service.settings import Settings
from tests.service.serving import ENDLESS, Reference, Running, serving
from tests.service.sse_client import chunks, ends, stream, texts

CASES: dict[str, dict[str, Any]] = {
    "plain": {"prompt": "once upon", "max_tokens": 60, "seed": 1},
    "defaults": {"prompt": "a", "seed": 0},
    "no text wanted": {"prompt": "a", "max_tokens": 0, "seed": 3},
    "one character": {"prompt": "a", "max_tokens": 1, "seed": 4},
    "empty prompt": {"prompt": "", "max_tokens": 20, "seed": 5},
    "largest seed": {"prompt": "the", "max_tokens": 20, "seed": 2**64 - 1},
    "negative seed": {"prompt": "the", "max_tokens": 20, "seed": -(2**63)},
    "greedy": {"prompt": "the", "max_tokens": 30, "temperature": 0, "seed": 6},
    "hot": {"prompt": "the", "max_tokens": 30, "temperature": 3.5, "seed": 7},
    "filtered": {"prompt": "the", "max_tokens": 40, "top_k": 9, "top_p": 0.9, "min_p": 0.01, "seed": 8},
    "penalised": {
        "prompt": "the the",
        "max_tokens": 40,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.25,
        "repetition_penalty": 1.3,
        "n": 2,
        "seed": 9,
    },
    "stopped": {"prompt": "the", "max_tokens": 400, "stop": ["ab", "e", "😀"], "seed": 10},
    "stop as a string": {"prompt": "the", "max_tokens": 400, "stop": "k", "seed": 11},
    "stop that never comes": {"prompt": "the", "max_tokens": 50, "stop": "a" * 1024, "seed": 12},
    "echo": {"prompt": "é明 \u2028x", "max_tokens": 20, "echo": True, "seed": 13},
    "echo alone": {"prompt": "again", "max_tokens": 0, "echo": True, "n": 2, "seed": 14},
    "stop after a while": {"prompt": "the", "max_tokens": 400, "stop": ["a", "e"], "min_tokens": 40, "seed": 10},
    "stop left in": {"prompt": "x", "max_tokens": 400, "stop": "k", "include_stop_str_in_output": True, "seed": 11},
    "biased": {"prompt": "x", "max_tokens": 40, "logit_bias": {"258": 4, "280": -100, "5": 100}, "n": 2, "seed": 12},
    "ids": {"prompt": [258, 65, 280], "max_tokens": 30, "echo": True, "seed": 13},
    "many": {"prompt": "we", "max_tokens": 50, "n": 16, "stop": ["q"], "seed": 15},
    "never seen": {"prompt": "Ü€𝄞\x00\x85", "max_tokens": 20, "seed": 16},
    "long prompt": {"prompt": "lorem ipsum " * 40, "max_tokens": 10, "seed": 17},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_p1_streamed_or_not_a_text_is_the_models(case: dict[str, Any], server: Running, reference: Reference) -> None:
    n = case.get("n", 1)
    expected = [reference.write(**case, choice=choice) for choice in range(n)]
    whole = server.complete(**case)
    parts = stream(server.client, **case)

    assert [choice["text"] for choice in whole["choices"]] == [piece.text for piece in expected]
    assert texts(parts, n) == [piece.text for piece in expected]
    assert [choice["finish_reason"] for choice in whole["choices"]] == [piece.finish_reason for piece in expected]
    assert ends(parts, n) == [(choice["finish_reason"], choice["stop_reason"]) for choice in whole["choices"]]
    assert whole["usage"]["completion_tokens"] == sum(piece.tokens for piece in expected)


def test_the_cases_end_in_both_ways(server: Running) -> None:
    ended = {server.complete(**case)["choices"][0]["finish_reason"] for case in CASES.values()}
    assert ended == {"stop", "length"}


def in_a_crowd(server: Running, requests: list[dict[str, Any]], shuffled: int = 0) -> list[list[str]]:
    """The texts of many requests, streamed and not, that come and go while the others run."""

    async def ask(client: httpx.AsyncClient, at: int, fields: dict[str, Any]) -> list[str]:
        await asyncio.sleep(0.002 * ((at * 5 + shuffled) % 7))
        response = await client.post("/v1/completions", json={"stream": bool(at % 2), **fields})
        assert response.status_code == 200, response.text
        if at % 2:
            return texts(chunks(response.content), fields.get("n", 1))
        return [choice["text"] for choice in response.json()["choices"]]

    async def crowd() -> list[list[str]]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=server.url, timeout=60, limits=limits) as client:
            return await asyncio.gather(*(ask(client, at, fields) for at, fields in enumerate(requests)))

    return asyncio.run(crowd())


CROWD = [
    {**case, "seed": seed, "max_tokens": 20 + 7 * seed, "stream_interval": (0, 1, 20, 10_000)[seed % 4]}
    for seed, case in enumerate([case for case in CASES.values() if case.get("max_tokens", 16)] * 3)
][:40]
SETTINGS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "one slot": {"max_rows": 1},
    "three slots, every prompt anew": {"max_rows": 3, "prefix_cache_bytes": 0},
    "two threads": {"threads": 2, "max_rows": 9},
    "more threads than slots, a small cache": {"threads": 4, "max_rows": 2, "prefix_cache_bytes": 5000},
}


@pytest.fixture(scope="module")
def expected(reference: Reference) -> list[list[str]]:
    """The texts of the crowd, one at a time."""
    return [[reference.write(**fields, choice=at).text for at in range(fields.get("n", 1))] for fields in CROWD]


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_p2_a_text_is_the_same_in_a_crowd(
    settings: dict[str, Any], expected: list[list[str]], checkpoint_folder: Path
) -> None:
    """40 requests of different lengths, twice: the second time their prompts are known and they come otherwise."""
    with serving(Settings(checkpoint=checkpoint_folder, **settings)) as server:
        for shuffled in range(2):
            for fields, written, right in zip(CROWD, in_a_crowd(server, CROWD, shuffled), expected, strict=True):
                assert written == right, fields
        cache = server.client.get("/health").json()["prefix_cache"]
    assert (cache["hits"] > 0) == (settings.get("prefix_cache_bytes", 1) > 0)


def test_p2_a_text_is_the_same_after_a_restart(checkpoint_folder: Path, server: Running) -> None:
    fields: dict[str, Any] = {"prompt": "the", "max_tokens": 50, "seed": 3, "n": 2}
    with serving(Settings(checkpoint=checkpoint_folder)) as another:
        assert another.complete(**fields)["choices"] == server.complete(**fields)["choices"]


def test_a_long_prompt_is_read_in_slices_to_the_same_state(server: Running, reference: Reference) -> None:
    """Beside running texts, in much smaller slices than alone; and then from the cache."""
    prompt = "ZL, as no other test of this server begins, " * 120
    right = reference.write(prompt, max_tokens=20, seed=1).text
    body = {"prompt": "a", "max_tokens": ENDLESS, "n": 8, "stream": True}
    with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=30) as response:
        next(response.iter_raw())
        first = server.complete(prompt, max_tokens=20, seed=1)
    again = server.complete(prompt, max_tokens=20, seed=1)
    longer = server.complete(prompt + "it", max_tokens=20, seed=1)
    assert first["choices"][0]["text"] == again["choices"][0]["text"] == right
    assert longer["choices"][0]["text"] == reference.write(prompt + "it", max_tokens=20, seed=1).text
    cached = [one["usage"]["prompt_tokens_details"]["cached_tokens"] for one in (first, again, longer)]
    assert cached == [0, len(prompt) - 1, len(prompt) - 1]


def test_a_choice_is_the_same_in_any_n(server: Running) -> None:
    three = server.complete("abc", seed=4, n=3, max_tokens=30)["choices"]
    five = server.complete("abc", seed=4, n=5, max_tokens=30)["choices"]
    assert [choice["text"] for choice in five[:3]] == [choice["text"] for choice in three]
    assert len({choice["text"] for choice in five}) == 5


def test_a_seed_drawn_by_the_server_repeats_its_text(server: Running) -> None:
    first = server.complete("abc", max_tokens=40)
    again = server.complete("abc", max_tokens=40, seed=first["seed"])
    assert again["choices"] == first["choices"]
    assert server.complete("abc", max_tokens=40)["seed"] != first["seed"]
    assert stream(server.client, prompt="abc")[0]["seed"] < 2**53


def test_null_means_absent(server: Running) -> None:
    nulls = dict.fromkeys(set(CompletionRequest.model_fields) - {"prompt"})
    assert server.complete("abc", **{**nulls, "seed": 1})["choices"] == server.complete("abc", seed=1)["choices"]
    assert server.complete("abc", seed=None)["seed"] >= 0
    options = {"include_usage": None, "continuous_usage_stats": None}
    assert all(part["usage"] is None for part in stream(server.client, prompt="abc", stream_options=options))


PROMPTS = ["abc", "", "é明", "abc", "a much longer one, which is read in slices " * 20]


@pytest.mark.parametrize("stream_too", [True, False])
def test_prompts_of_one_request_have_the_texts_they_have_alone(stream_too: bool, server: Running) -> None:
    fields: dict[str, Any] = {"seed": 5, "n": 3, "max_tokens": 40, "stop": ["ab"], "echo": True}
    alone = [choice["text"] for prompt in PROMPTS for choice in server.complete(prompt, **fields)["choices"]]
    if stream_too:
        assert texts(stream(server.client, prompt=PROMPTS, **fields), 15) == alone
    else:
        choices = server.complete(PROMPTS, **fields)["choices"]
        assert [choice["index"] for choice in choices] == list(range(15))
        assert [choice["text"] for choice in choices] == alone


def test_prompts_of_one_stream_come_side_by_side(slow_server: Running) -> None:
    parts = stream(slow_server.client, prompt=["a", "b", "c"], max_tokens=30, stream_interval=0)
    order = [choice["index"] for part in parts for choice in part["choices"]]
    assert set(order[:10]) == {0, 1, 2}


def test_ids_are_as_good_as_the_text_they_spell(server: Running, reference: Reference) -> None:
    fields: dict[str, Any] = {"seed": 5, "max_tokens": 30, "echo": True, "logprobs": 2}
    ids = [reference.checkpoint.tokenizer.encode(prompt).tolist() for prompt in PROMPTS]
    expected = server.complete(PROMPTS, **fields)
    for prompt in (ids, [ids[2]], ids[2]):
        choices = server.complete(prompt, **fields)["choices"]
        wanted = expected["choices"] if prompt is ids else [{**expected["choices"][2], "index": 0}]
        assert choices == wanted


def test_the_best_texts_are_those_whose_characters_are_likeliest(server: Running) -> None:
    fields: dict[str, Any] = {"seed": 3, "max_tokens": 25, "stop": ["e"], "logprobs": 1}
    drawn = server.complete(["abc", "x"], n=9, **fields)
    best = server.complete(["abc", "x"], n=4, best_of=9, **fields)

    def mean(choice: dict[str, Any]) -> float:
        logprobs: list[float] = choice["logprobs"]["token_logprobs"]
        return -sum(logprobs) / len(logprobs)

    for prompt in range(2):
        expected = sorted(drawn["choices"][prompt * 9 : prompt * 9 + 9], key=mean)[:4]
        own = best["choices"][prompt * 4 : prompt * 4 + 4]
        assert own == [{**choice, "index": prompt * 4 + at} for at, choice in enumerate(expected)]
    assert best["usage"]["completion_tokens"] == drawn["usage"]["completion_tokens"]
    silent = server.complete(["abc", "x"], n=4, best_of=9, **{**fields, "logprobs": None})["choices"]
    assert [choice["text"] for choice in silent] == [choice["text"] for choice in best["choices"]]
    assert all(choice["logprobs"] is None for choice in silent)
    assert server.complete("a", best_of=3, max_tokens=0)["choices"][0]["text"] == ""


def test_fields_nobody_knows_are_accepted_and_named(server: Running) -> None:
    plain = server.client.post("/v1/completions", json={"prompt": "abc", "seed": 1, "user": "me"})
    assert "x-unroll-ignored-fields" not in plain.headers
    for stream_too in (True, False):
        odd = {"mirostat": 2, "cache": {"a": [1]}, "é,\r\n \x00\x7f": 1, "": 1, "seed": 1, "stream": stream_too}
        options = {"stream_options": {"include_usage": False, "pace": 1}} if stream_too else {}
        response = server.client.post("/v1/completions", json={"prompt": "abc", **odd, **options})
        assert response.status_code == 200
        named = 'mirostat, cache, %C3%A9%2C%0D%0A%20%00%7F, ""' + (", stream_options.pace" if stream_too else "")
        assert response.headers["x-unroll-ignored-fields"] == named
        written = texts(chunks(response.content)) if stream_too else [response.json()["choices"][0]["text"]]
        assert written == [plain.json()["choices"][0]["text"]]


@pytest.mark.parametrize("names", [["x" * 5000], [f"field{at}" for at in range(3000)], [" "], ["é" * 999]])
def test_names_of_any_number_and_length_make_a_short_header(names: list[str], server: Running) -> None:
    content = json.dumps({"prompt": "a", **dict.fromkeys(names, 1)})
    headers = {"content-type": "application/json"}
    response = server.client.post("/v1/completions", content=content, headers=headers)
    assert response.status_code == 200
    assert 0 < len(response.headers["x-unroll-ignored-fields"]) <= 1000


def test_a_request_may_have_a_name(server: Running) -> None:
    fields = {"prompt": "a", "request_id": "my-request_1.2"}
    for stream_too in (True, False):
        response = server.client.post("/v1/completions", json={**fields, "stream": stream_too})
        assert response.headers["x-request-id"] == "my-request_1.2"
        parts = chunks(response.content) if stream_too else [response.json()]
        assert {part["id"] for part in parts} == {"cmpl-my-request_1.2"}
    response = server.client.post("/v1/completions", json={"prompt": "a"})
    assert response.json()["id"] == "cmpl-" + response.headers["x-request-id"]


def test_the_fingerprint_is_that_of_what_the_text_depends_on(server: Running, checkpoint_folder: Path) -> None:
    own = server.complete("a")["system_fingerprint"]
    with serving(Settings(checkpoint=checkpoint_folder, max_rows=1)) as again:
        assert again.complete("a")["system_fingerprint"] == own
    with serving(Settings(checkpoint=checkpoint_folder, arithmetic="fp32")) as other:
        assert other.complete("a")["system_fingerprint"] != own


def test_the_fingerprint_and_the_digest_outlive_another_card_and_record(
    server: Running, checkpoint_folder: Path, tmp_path: Path
) -> None:
    described = replace(load(checkpoint_folder), card="Another.", training={"steps": 7})
    save(described, tmp_path / "model")
    (card,) = server.client.get("/v1/models").json()["data"]
    assert card["digest"] == read(checkpoint_folder).digests.model
    for name, file in (("weights", WEIGHTS), ("tokenizer", TOKENIZER)):
        assert card["digests"][name] == hashlib.sha256((checkpoint_folder / file).read_bytes()).hexdigest()
    assert card["digests"]["recorded"] is True
    with serving(Settings(checkpoint=tmp_path / "model", max_rows=1)) as again:
        (other,) = again.client.get("/v1/models").json()["data"]
        assert (other["digest"], other["digests"]) == (card["digest"], card["digests"])
        assert again.complete("a")["system_fingerprint"] == server.complete("a")["system_fingerprint"]

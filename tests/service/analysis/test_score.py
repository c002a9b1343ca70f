"""Scores are the model's own log-probabilities, added up: the same alone, among others and by the trainer."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from model.checkpoint import save
from model.decoding.decoder import Decoder
from model.held_out_surprise import NAME, QUANTILES, HeldOutSurprise
from service.analysis.score_schemas import MOST_DETAILS, MOST_TEXTS, Progress, Scores
from service.settings import Settings
from tests.model.plain import distributions
from tests.model.small import CHARACTERS, small_checkpoint
from tests.service.serving import Reference, Running, SlowDecoder, eventually, serving
from tests.service.sse_client import events
from training.evaluation.protocols import carried
from training.evaluation.readers import decoder_reader

KEPT = HeldOutSurprise(
    {4: tuple(float(at) for at in range(11)), 64: tuple(4 + at / 4 for at in range(11))}, "passages of nothing"
)
STRANGE = "naïve 日本 a明b😀 \u2028\r\n\0 é"  # some of it is spelt in bytes


@pytest.fixture(scope="module")
def scorer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint that knows how surprising held-out text is."""
    folder = tmp_path_factory.mktemp("scored") / "small"
    save(replace(small_checkpoint(), training={NAME: KEPT.to_json()}), folder)
    return folder


@pytest.fixture(scope="module")
def scorer(scorer_folder: Path) -> Iterator[Running]:
    """A server of it with few places."""
    with serving(Settings(checkpoint=scorer_folder, max_rows=8, max_work=200_000)) as running:
        yield running


def score(server: Running, texts: str | list[str], **fields: Any) -> dict[str, Any]:
    response = server.client.post("/v1/score", json={"texts": texts, **fields})
    assert response.status_code == 200, response.text
    Scores.model_validate(response.json())
    body: dict[str, Any] = response.json()
    return body


def random_texts(count: int, longest: int) -> list[str]:
    random = np.random.default_rng(3)
    letters = list(CHARACTERS + "ŵ日\t")
    return ["".join(random.choice(letters, random.integers(1, longest))) for _ in range(count)]


def evaluated(reference: Reference, text: str) -> float:
    """Bits of all characters of a text but the first, as `unroll evaluate --reader int8` has them."""
    reader = decoder_reader(Decoder(reference.checkpoint, "int8"))
    return carried(reader, reference.checkpoint.tokenizer.encode(text), batch_size=1).nats / math.log(2)


def test_a_text_s_bits_are_those_the_trainer_evaluates(scorer: Running, reference: Reference) -> None:
    text = "".join(random_texts(40, 300))
    (found,) = score(scorer, text)["results"]
    assert found["bits"] == pytest.approx(evaluated(reference, "\n" + text), rel=1e-9)
    assert found["characters"] == len(text)
    assert found["tokens"] == len(reference.checkpoint.tokenizer.encode(text)) > len(text)
    assert found["bits_per_character"] == found["bits"] / len(text)
    assert found["nats_per_character"] == pytest.approx(found["bits_per_character"] * math.log(2))
    assert found["bits_per_byte"] == found["bits"] / len(text.encode())
    assert found["unseen_characters"] == sum(character not in CHARACTERS for character in text)


def test_after_a_context_only_the_text_counts(scorer: Running, reference: Reference) -> None:
    text = STRANGE + "".join(random_texts(3, 100))
    with_both = evaluated(reference, "\n" + text)
    before = evaluated(reference, "\n" + text[:50])
    answer = score(scorer, [text[50:]], context="\n" + text[:50])
    assert answer["results"][0]["bits"] == pytest.approx(with_both - before, abs=1e-4)
    tokens = len(reference.checkpoint.tokenizer.encode("\n" + text))
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] == tokens
    assert answer["anomaly_note"].endswith("The texts were read after a context, the passages after none.")
    assert score(scorer, text, context="")["results"] == score(scorer, text)["results"]


def test_a_context_is_read_once_and_found_again(scorer: Running, scorer_folder: Path) -> None:
    context, texts = "".join(random_texts(30, 200)), random_texts(20, 30)
    with serving(Settings(checkpoint=scorer_folder, prefix_cache_bytes=0)) as uncached:
        anew = score(uncached, texts, context=context, top_logprobs=2)
    before = scorer.engine.cache.statistics
    first = score(scorer, texts, context=context, top_logprobs=2)
    after = scorer.engine.cache.statistics
    assert after.hits - before.hits == len(texts)
    second = score(scorer, texts, context=context, top_logprobs=2)
    assert anew["results"] == first["results"] == second["results"]
    assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    tokens = first["usage"]["prompt_tokens"] - sum(result["tokens"] for result in first["results"])
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] == tokens - 1
    other = scorer.client.post(
        "/v1/score", json={"texts": texts, "context": context}, headers={"authorization": "Bearer other"}
    )
    assert other.json()["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


def test_details_tell_what_each_character_was_worth(scorer: Running, reference: Reference) -> None:
    answer = score(scorer, STRANGE, details=True, top_logprobs=3)["results"][0]
    tokenizer = reference.checkpoint.tokenizer
    assert "".join(one["character"] for one in answer["details"]) == STRANGE
    assert sum(one["bits"] for one in answer["details"]) == pytest.approx(answer["bits"])
    expected = distributions(reference.checkpoint, STRANGE)
    for one in answer["details"]:
        bits = 0.0
        for at in range(len(tokenizer.encode(one["character"]))):
            token, logprobs = next(expected)
            bits -= float(logprobs[token]) / math.log(2)
            if at:
                continue
            assert one["rank"] == 1 + (logprobs > logprobs[token]).sum()
            entropy = -(np.exp(logprobs) * logprobs).sum() / math.log(2)
            assert one["entropy_bits"] == pytest.approx(float(entropy), rel=1e-4)
            likeliest = np.argsort(-logprobs, kind="stable")[:3]
            assert [found["character"] for found in one["alternatives"]] == list(map(tokenizer.piece, likeliest))
            shares = [found["probability"] for found in one["alternatives"]]
            assert shares == pytest.approx(np.exp(logprobs[likeliest]).tolist(), rel=1e-4)
        assert one["bits"] == pytest.approx(bits, abs=1e-4)


def test_details_without_alternatives_and_alternatives_without_details(scorer: Running) -> None:
    plain = score(scorer, ["abc", "", "é"], details=True)["results"]
    assert [[one["character"] for one in result["details"]] for result in plain] == [["a", "b", "c"], [], ["é"]]
    assert {one["alternatives"] for result in plain for one in result["details"]} == {None}
    asked = score(scorer, "abc", top_logprobs=2)["results"][0]["details"]
    assert [len(one["alternatives"]) for one in asked] == [2, 2, 2]
    assert [one["bits"] for one in asked] == [one["bits"] for one in plain[0]["details"]]
    assert score(scorer, "abc")["results"][0]["details"] is None


def test_a_text_scores_the_same_alone_among_others_in_details_and_streamed(scorer: Running) -> None:
    texts = random_texts(40, 700)  # five times the places there are
    together = score(scorer, texts)
    assert [result["index"] for result in together["results"]] == list(range(40))
    for index in (0, 7, 39):
        alone = score(scorer, [texts[index]])["results"][0]
        assert {**alone, "index": index} == together["results"][index]
        judged = score(scorer, [texts[index]], top_logprobs=1)["results"][0]
        assert {**judged, "details": None} == alone
    scorer.complete(texts[0], max_tokens=1)  # now the state after it is in the cache
    assert score(scorer, texts[:1])["results"] == together["results"][:1]
    response = scorer.client.post("/v1/score", json={"texts": texts, "stream": True})
    assert json.loads(events(response.content)[-2]) == together


def test_texts_are_ranked_by_all_and_by_each_character(scorer: Running) -> None:
    texts = ["abcabc", "a", "", "zz明明明", "abcabc"]
    answer = score(scorer, texts)
    bits = [result["bits"] for result in answer["results"]]
    assert bits[2] == 0
    assert answer["results"][2]["bits_per_character"] is None
    assert answer["results"][2]["anomaly"] is None
    assert answer["ranking"]["total"] == sorted(range(5), key=lambda at: bits[at])
    means = [bits[at] / len(texts[at]) for at in (0, 1, 3, 4)]
    ordered = sorted((0, 1, 3, 4), key=lambda at: dict(zip((0, 1, 3, 4), means, strict=True))[at])
    assert answer["ranking"]["per_character"] == [*ordered, 2]
    total = answer["ranking"]["total"]
    assert total.index(0) == total.index(4) - 1  # of equals the first comes first


def test_an_anomaly_is_a_place_among_held_out_passages(scorer: Running) -> None:
    answer = score(scorer, ["abcd", "a" * 64, "e", "b明" * 100])
    for result in answer["results"]:
        found = result["anomaly"]
        expected = KEPT.percentile(result["bits_per_character"], result["characters"])
        assert found["percentile"] == expected
        assert found["reference_median_bits_per_character"] == KEPT.median(result["characters"])
    assert answer["anomaly_note"] == "Percentiles are among passages of nothing."
    assert 0 < answer["results"][0]["anomaly"]["percentile"] <= 100
    assert QUANTILES[-1] == 100


def test_a_checkpoint_without_held_out_passages_says_how_to_measure_them(server: Running) -> None:
    answer = score(server, "abc")
    assert answer["results"][0]["anomaly"] is None
    assert "unroll evaluate CHECKPOINT CORPUS --split SPLIT --write-surprise" in answer["anomaly_note"]


def test_a_long_text_tells_how_far_it_is(checkpoint_folder: Path) -> None:
    with serving(Settings(checkpoint=checkpoint_folder), SlowDecoder) as running:
        response = running.client.post("/v1/score", json={"texts": ["a" * 500, "b" * 100], "stream": True})
    *progress, answer, done = events(response.content)
    assert done == "[DONE]"
    told = [Progress.model_validate_json(one) for one in progress]
    assert len(told) >= 2
    assert {one.total_tokens for one in told} == {602}
    counts = [one.tokens for one in told]
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert 0 < counts[-1] <= 602
    assert [result.characters for result in Scores.model_validate_json(answer).results] == [500, 100]


def test_a_reader_who_leaves_frees_the_places(slow_server: Running) -> None:
    url, texts = f"{slow_server.url}/v1/score", ["a" * 50_000] * 3
    with httpx.stream("POST", url, json={"texts": texts, "stream": True}) as response:
        pieces = response.iter_bytes()
        assert next(pieces).startswith(b'data: {"object":"score.progress"')
        assert eventually(lambda: slow_server.engine.running == 3)
    assert eventually(lambda: slow_server.engine.running == 0)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(url, json={"texts": texts}, timeout=0.3)
    assert eventually(lambda: slow_server.engine.running == 0)
    assert slow_server.engine.waiting == 0


def test_a_late_text_is_an_error_with_a_status_and_in_a_stream_an_event(checkpoint_folder: Path) -> None:
    settings = Settings(checkpoint=checkpoint_folder, deadline_seconds=0.2)
    with serving(settings, SlowDecoder) as running:
        plain = running.client.post("/v1/score", json={"texts": "a" * 10_000})
        streamed = running.client.post("/v1/score", json={"texts": "a" * 10_000, "stream": True})
    assert (plain.status_code, plain.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert streamed.status_code == 200
    *_, failure, done = events(streamed.content)
    assert json.loads(failure)["error"]["code"] == "deadline_exceeded"
    assert done == "[DONE]"


@pytest.mark.parametrize(
    ("fields", "param", "remedy"),
    [
        ({}, "texts", "it is required"),
        ({"texts": []}, "texts", "at least 1"),
        ({"texts": ["a"] * (MOST_TEXTS + 1)}, "texts", f"at most {MOST_TEXTS}"),
        ({"texts": 5}, "texts", "send a list"),
        ({"texts": ["a", None]}, "texts", "texts.1"),
        ({"texts": "\ud800"}, "texts", "surrogate"),
        ({"texts": "a", "context": "\udfff"}, "context", "surrogate"),
        ({"texts": "a", "top_logprobs": 21}, "top_logprobs", "send 20 or less"),
        ({"texts": "a", "top_logprobs": -1}, "top_logprobs", "send 0 or more"),
        ({"texts": "a", "top_logprobs": True}, "top_logprobs", "send an integer"),
        ({"texts": "a", "details": "yes"}, "details", "send true or false"),
        ({"texts": "a" * (MOST_DETAILS // 2 + 1), "details": True}, "details", "at most 100,000 at a time"),
        ({"texts": "a" * 9_091, "top_logprobs": 20}, "details", "at most 9,090 at a time"),
        ({"texts": "a" * 200_001}, "texts", "max_work is 200,000"),
        ({"texts": ["a"] * 300, "context": "b" * 1000}, "context", "a shorter context"),
    ],
)
def test_what_cannot_be_scored_is_refused(scorer: Running, fields: dict[str, Any], param: str, remedy: str) -> None:
    body = json.dumps(fields)  # which writes half a surrogate pair as an escape
    response = scorer.client.post("/v1/score", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["param"] == param
    assert remedy in error["message"]
    assert len(response.content) < 4096


def test_another_model_and_too_many_texts_are_refused(scorer: Running, slow_server: Running) -> None:
    wrong = scorer.client.post("/v1/score", json={"texts": "a", "model": "other"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (404, "model")
    many = slow_server.client.post("/v1/score", json={"texts": ["a"] * 7})
    assert (many.status_code, many.json()["error"]["param"]) == (400, "texts")
    assert "holds 6 at once" in many.json()["error"]["message"]


def test_null_is_absent_and_unknown_fields_are_named(scorer: Running) -> None:
    nulls = dict.fromkeys(("context", "details", "top_logprobs", "stream", "model", "user"))
    body = {"texts": "abc", **nulls, "colour": "red", "größe": 1}
    response = scorer.client.post("/v1/score", json=body)
    assert response.json() == score(scorer, ["abc"])
    assert response.headers["x-unroll-ignored-fields"] == "colour, gr%C3%B6%C3%9Fe"
    streamed = scorer.client.post("/v1/score", json={**body, "stream": True})
    assert streamed.headers["x-unroll-ignored-fields"] == "colour, gr%C3%B6%C3%9Fe"
    assert streamed.headers["x-accel-buffering"] == "no"


def test_the_description_is_complete_and_its_examples_are_answers(scorer: Running) -> None:
    document = scorer.client.get("/openapi.json").json()
    operation = document["paths"]["/v1/score"]["post"]
    refused = ("400", "403", "404", "409", "413", "415", "429")
    assert set(operation["responses"]) == {*("200", "204", *refused, "500", "503", "504", "default")}
    for name, about in document["components"]["schemas"]["ScoreRequest"]["properties"].items():
        assert about["description"]
        assert name == "texts" or {"type": "null"} in about["anyOf"]
    for example in document["components"]["schemas"]["ScoreRequest"]["examples"]:
        assert score(scorer, **example)["ranking"]["total"]
    shown = operation["responses"]["200"]["content"]["text/event-stream"]["example"]
    progress, answer, done = events(shown.encode())
    Progress.model_validate_json(progress)
    Scores.model_validate_json(answer)
    assert done == "[DONE]"


def test_the_bundled_model_scores_a_book_as_it_is_evaluated(corpus: Callable[[str], bytes]) -> None:
    text = corpus("war-and-peace.txt").decode()[:40_000]
    with serving(Settings()) as running:
        answer = score(running, text)
        bundled = Reference(Path(__file__).parents[3] / "model" / "bundled")
        assert answer["results"][0]["bits"] == pytest.approx(evaluated(bundled, "\n" + text), rel=1e-9)
        assert answer["results"][0]["anomaly"]["percentile"] > 95

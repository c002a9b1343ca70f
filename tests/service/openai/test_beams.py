"""Beam search over HTTP: what the search alone finds, alone or in a crowd, within the limits, or refused by name."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from model.decoding.beams import BeamOptions
from model.generate import search
from service.settings import Settings
from tests.service.crowd import endless, is_idle
from tests.service.serving import Reference, Running, SlowDecoder, serving

FOUND: dict[str, Any] = {"use_beam_search": True, "best_of": 5, "n": 3, "max_tokens": 30}


def expected(reference: Reference, prompt: str, fields: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    options = BeamOptions(
        width=fields.get("best_of", fields["n"]),
        length_penalty=fields.get("length_penalty", 1.0),
        early_stopping=fields.get("early_stopping", False),
    )
    found = search(
        reference.decoder,
        reference.checkpoint.tokenizer,
        prompt,
        options,
        n=fields["n"],
        max_tokens=fields["max_tokens"],
        stop=fields.get("stop", []),
    )
    return [(one.text, one.finish_reason, one.stop_reason) for one in found]


def told(answer: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    return [(one["text"], one["finish_reason"], one["stop_reason"]) for one in answer["choices"]]


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "stopped": {"stop": ["e", "ab"], "early_stopping": True},
    "to the end": {"stop": ["q"], "early_stopping": "never", "length_penalty": 0.5},
    "as wide as asked": {"n": 16, "best_of": 16, "length_penalty": 0},
    "one": {"n": 1, "best_of": 1, "temperature": 0, "seed": 4},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_texts_are_those_of_a_search_alone(case: dict[str, Any], server: Running, reference: Reference) -> None:
    fields = {**FOUND, **case}
    answer = server.complete("once é", **fields)
    assert told(answer) == expected(reference, "once é", fields)
    assert answer["usage"]["prompt_tokens"] == 6


def test_several_prompts_and_a_crowd_change_nothing(server: Running, reference: Reference) -> None:
    prompts = ["once", "", "é明 the", "x" * 40]
    alone = [expected(reference, prompt, FOUND) for prompt in prompts]
    with endless(server), endless(server), ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: server.complete(prompts, **FOUND), range(6)))
        drawn = server.complete("a", seed=7, max_tokens=50)["choices"][0]["text"]
    for answer in answers:
        assert told(answer) == [one for texts in alone for one in texts]
    assert drawn == reference.write(prompt="a", seed=7, max_tokens=50).text


def test_log_probabilities_and_the_prompt_are_told_as_ever(server: Running) -> None:
    answer = server.complete("abc", **{**FOUND, "n": 2}, logprobs=2, echo=True, stop=["e"])
    for choice in answer["choices"]:
        own, drawn = choice["logprobs"], len(choice["logprobs"]["tokens"]) - 3
        assert "".join(own["tokens"]).startswith(choice["text"])
        assert len(own["top_logprobs"][-1]) in (2, 3)
        assert np.isfinite(own["token_logprobs"][1:]).all()
        assert drawn >= 1
    means = [np.mean(choice["logprobs"]["token_logprobs"][3:]) for choice in answer["choices"]]
    assert means[0] >= means[1]


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("use_beam_search", {"stream": True}, "cannot stream"),
    ("top_k", {"top_k": 5}, "does not use top_k"),
    ("temperature", {"temperature": 0.7}, "does not use temperature"),
    ("presence_penalty", {"presence_penalty": 1}, "does not use presence_penalty"),
    ("logit_bias", {"logit_bias": {"280": 1}}, "does not use logit_bias"),
    ("guided_regex", {"guided_regex": "a+"}, "does not support guided_regex"),
    ("structured_outputs", {"structured_outputs": {"choice": ["a"]}}, "does not support structured_outputs"),
    ("best_of", {"n": 4, "best_of": 2}, "the number of beams, is 2"),
    ("length_penalty", {"length_penalty": 11}, "send 10 or less"),
    ("early_stopping", {"early_stopping": "soon"}, ""),
    ("best_of", {"best_of": 17}, "send 16 or less"),
]


@pytest.mark.parametrize(("name", "fields", "said"), REFUSED)
def test_what_a_search_does_not_have_is_refused_by_name(
    name: str, fields: dict[str, Any], said: str, server: Running
) -> None:
    response = server.client.post("/v1/completions", json={"prompt": "a", **FOUND, **fields})
    error = response.json()["error"]
    assert response.status_code == 400, error
    assert error["param"].partition(".")[0] == name
    assert said in error["message"]


def test_fields_of_a_search_are_named_where_there_is_none(server: Running) -> None:
    response = server.client.post("/v1/completions", json={"prompt": "a", "length_penalty": 2, "early_stopping": True})
    assert response.headers["x-unroll-ignored-fields"] == "early_stopping, length_penalty"


@pytest.fixture
def small(checkpoint_folder: Path) -> Any:
    """A server with room for a few beams, which takes its time."""
    settings = Settings(
        checkpoint=checkpoint_folder, max_rows=4, max_waiting=12, threads=2, deadline_seconds=2, max_work=10_000_000
    )
    with serving(settings, SlowDecoder) as running:
        yield running


def test_more_beams_than_a_thread_has_slots_are_refused(small: Running) -> None:
    response = small.client.post("/v1/completions", json={"prompt": "a", **FOUND, "n": 1})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "best_of"
    assert "this server has 2" in response.json()["error"]["message"]


def test_a_search_ends_at_the_deadline_and_when_its_client_leaves(small: Running) -> None:
    body = {"prompt": "a", "use_beam_search": True, "best_of": 2, "max_tokens": 100_000}
    response = small.client.post("/v1/completions", json=body)
    assert response.status_code == 504, response.text
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{small.url}/v1/completions", json=body, timeout=0.2)
    until = time.monotonic() + 1.5  # well before its deadline
    while not is_idle(small):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert small.ledger.held == 0


def test_searches_wait_for_one_another_and_all_end(small: Running) -> None:
    """Each takes both slots of a thread; texts between them find their turn."""
    wide = {"prompt": "ab", "use_beam_search": True, "best_of": 2, "n": 2, "max_tokens": 10}
    bodies = [wide if at % 2 else {"prompt": "ab", "seed": at, "max_tokens": 10} for at in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda body: small.complete(**body), bodies))
    assert len({json.dumps(told(answer)) for answer in answers[1::2]}) == 1
    assert len({told(answer)[0] for answer in answers[::2]}) == 4
    assert is_idle(small)

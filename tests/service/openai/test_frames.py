"""Completions of models that know how texts begin and end: items stop by themselves, a new line follows a context."""

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import unroll
from model.checkpoint import save
from model.text.frame import TextFrame
from service.settings import Settings
from tests.model.small import small_checkpoint
from tests.service.serving import Running, serving
from tests.service.sse_client import ends, stream, texts

CONTEXT = "once more\n"
FRAMES = {"items": TextFrame(separator="e"), "long": TextFrame(separator="ab"), "context": TextFrame(context=CONTEXT)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    plain, folder = small_checkpoint(), tmp_path_factory.mktemp("frames")
    for name, frame in FRAMES.items():
        save(replace(plain, tokenizer=plain.tokenizer.framed(frame)), folder / name)
    return {name: folder / name for name in FRAMES}


@pytest.fixture(scope="module")
def items(folders: dict[str, Path]) -> Iterator[Running]:
    with serving(Settings(checkpoint=folders["items"])) as running:
        yield running


@pytest.fixture(scope="module")
def long(folders: dict[str, Path]) -> Iterator[Running]:
    with serving(Settings(checkpoint=folders["long"])) as running:
        yield running


@pytest.fixture(scope="module")
def after_context(folders: dict[str, Path]) -> Iterator[Running]:
    with serving(Settings(checkpoint=folders["context"])) as running:
        yield running


@pytest.mark.parametrize("prompt", ["", "ab", "the e"])
def test_items_end_by_themselves_streamed_whole_and_from_python(
    prompt: str, items: Running, folders: dict[str, Path]
) -> None:
    asked = {"prompt": prompt, "n": 5, "seed": 3, "max_tokens": 600}
    choices = items.complete(**asked)["choices"]
    assert [(one["finish_reason"], one["stop_reason"]) for one in choices] == [("stop", None)] * 5
    whole = [one["text"] for one in choices]
    assert not any("e" in text for text in whole)
    assert len(set(whole)) > 1
    parts = stream(items.client, **asked)
    assert texts(parts, 5) == whole
    assert ends(parts, 5) == [("stop", None)] * 5
    assert unroll.load(folders["items"]).generate(prompt, n=5, seed=3, max_tokens=600) == whole


def test_a_separator_of_several_characters_is_held_back_and_never_shown(long: Running) -> None:
    asked = {"prompt": "", "n": 8, "seed": 1, "max_tokens": 5000, "stream_interval": 0}
    parts = stream(long.client, **asked)
    assert all(not text.endswith("ab") and "ab" not in text for text in texts(parts, 8))
    assert ends(parts, 8) == [("stop", None)] * 8
    del asked["stream_interval"]
    assert [one["text"] for one in long.complete(**asked)["choices"]] == texts(parts, 8)


def test_what_an_item_must_match_holds_beside_its_end(items: Running) -> None:
    asked = {
        "prompt": "",
        "n": 6,
        "seed": 2,
        "max_tokens": 40,
        "structured_outputs": {"regex": "[a-d]{2,4}( [f-h]{3})?"},
    }
    choices = items.complete(**asked)["choices"]
    assert [one["finish_reason"] for one in choices] == ["stop"] * 6
    for one in choices:
        words = one["text"].split(" ")
        assert 2 <= len(words[0]) <= 4
        assert set(words[0]) <= set("abcd")
        assert len(words) == 1 or (len(words[1]) == 3 and set(words[1]) <= set("fgh"))
    assert texts(stream(items.client, **asked), 6) == [one["text"] for one in choices]


@pytest.mark.parametrize(
    "asked",
    [
        {"guided_regex": "([a-d]{1,3}e){3}[x-z]"},
        {"guided_choice": ["abedede", "eeee", "cead"]},
        {"guided_grammar": 'root ::= line line\nline ::= [a-d]+ "e"'},
        {"guided_grammar": "start: /[a-d]+e[a-d]+e/"},
    ],
    ids=["regex", "choice", "table", "without a table"],
)
def test_a_separator_within_what_an_item_must_match_is_part_of_it(
    asked: dict[str, Any], items: Running, folders: dict[str, Path]
) -> None:
    (value,) = asked.values()
    whole = {"guided_regex": value, "guided_choice": "abedede|eeee|cead"}.get(next(iter(asked)), "[a-d]+e[a-d]+e")
    asked = {"prompt": "", "n": 6, "seed": 3, "max_tokens": 200} | asked
    choices = items.complete(**asked)["choices"]
    assert [(one["finish_reason"], one["stop_reason"]) for one in choices] == [("stop", None)] * 6
    written = [one["text"] for one in choices]
    assert [text for text in written if not re.fullmatch(str(whole), text)] == []
    assert texts(stream(items.client, **asked, stream_interval=0), 6) == written
    name = next(name for name in asked if name.startswith("guided_"))
    own = {name.removeprefix("guided_"): value}
    assert unroll.load(folders["items"]).generate("", n=6, seed=3, max_tokens=200, **own) == written


def test_an_item_that_is_complete_ends_at_its_separator_though_more_could_follow(items: Running) -> None:
    for asked in ({"guided_regex": "a[a-z]*"}, {"bad_words": ["zz"]}):
        choices = items.complete("", n=6, seed=4, max_tokens=600, **asked)["choices"]
        assert [(one["finish_reason"], one["stop_reason"]) for one in choices] == [("stop", None)] * 6
        assert not any("e" in one["text"] for one in choices)


def test_a_separator_within_a_pattern_is_part_of_the_text_after_a_state_too(items: Running) -> None:
    asked = {"guided_regex": "([a-d]{1,3}e){3}[x-z]", "seed": 5, "return_state": True}
    (whole,) = items.complete("", max_tokens=40, **asked)["choices"]
    text, state, reason = "", None, None
    while reason != "stop":
        going_on: dict[str, Any] = {} if state is None else {"state": state}
        (part,) = items.complete("", max_tokens=1, **asked, **going_on)["choices"]
        text, state, reason = text + part["text"], part["state"], part["finish_reason"]
        assert len(text) <= 40
    assert re.fullmatch(str(asked["guided_regex"]), text)
    assert text == whole["text"]


@pytest.mark.parametrize(
    "asked",
    [{"guided_regex": "[a-c]*(ab){1,2}[cd]?"}, {"guided_regex": "c?(ba?)*"}, {"guided_grammar": "start: /c?(ba?)*/"}],
    ids=["inside", "anywhere", "without a table"],
)
def test_a_separator_that_a_state_cuts_ends_the_item_where_it_may(asked: dict[str, Any], long: Running) -> None:
    ids = long.client.post("/tokenize", json={"prompt": "abc"}).json()["tokens"]
    asked |= {"return_state": True, "logit_bias": {str(token): 6.0 for token in ids}}
    seen = set()
    for seed in range(12):
        asked["seed"] = seed
        (whole,) = long.complete("", max_tokens=60, **asked)["choices"]
        text, going_on, reason = "", dict[str, Any](), "length"
        for _ in range(60):
            (part,) = long.complete("", max_tokens=1, **asked, **going_on)["choices"]
            text, reason, going_on = text + part["text"], part["finish_reason"], {"state": part["state"]}
            if reason == "stop":
                break
        assert (text, reason) == (whole["text"], whole["finish_reason"])
        seen.add(text)
    assert len(seen) > 2


def test_a_stop_string_that_comes_first_is_the_reason(items: Running) -> None:
    reasons = {
        one["stop_reason"]
        for seed in range(8)
        for one in items.complete("", seed=seed, max_tokens=600, stop="o")["choices"]
    }
    assert reasons == {None, "o"}


def test_a_new_line_begins_after_the_context_which_is_no_part_of_prompt_or_usage(after_context: Running) -> None:
    asked = {"n": 2, "seed": 5, "max_tokens": 50}
    plain, after = after_context.complete(CONTEXT, **asked), after_context.complete("", **asked)
    assert [one["text"] for one in after["choices"]] == [one["text"] for one in plain["choices"]]
    assert after["usage"]["prompt_tokens"] == 0
    assert after_context.complete("", **asked)["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    scored = after_context.complete("", echo=True, logprobs=2, max_tokens=1)["choices"][0]
    assert len(scored["logprobs"]["tokens"]) == 1
    assert all(value < 0 for value in scored["logprobs"]["token_logprobs"])


def test_a_context_changes_no_score(after_context: Running, folders: dict[str, Path], checkpoint_folder: Path) -> None:
    body = {"texts": ["the cat", "a"]}
    results = after_context.client.post("/v1/score", json=body).raise_for_status().json()["results"]
    for folder in (folders["context"], checkpoint_folder):
        bits = unroll.load(folder).score(body["texts"]).bits.tolist()
        assert bits == [one["bits"] for one in results]
    assert all(math.isfinite(one["bits"]) for one in results)

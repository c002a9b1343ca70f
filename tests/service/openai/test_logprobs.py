"""Log-probabilities in OpenAI's arrays: those of a text are those of the same text as a prompt, streamed or not."""

from typing import Any

import numpy as np
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.checkpoint import save
from model.text.tokenizer import Tokenizer
from service.openai.logprobs import Offsets
from service.settings import Settings
from tests.model.small import small_checkpoint
from tests.service.serving import Running, serving
from tests.service.sse_client import stream, texts

FIELDS = ("tokens", "token_logprobs", "top_logprobs", "text_offset")


def only(answer: dict[str, Any]) -> dict[str, Any]:
    """The arrays of an answer's one text, which have an entry for each token."""
    [choice] = answer["choices"]
    arrays: dict[str, Any] = choice["logprobs"]
    assert tuple(arrays) == FIELDS
    assert len({len(arrays[name]) for name in FIELDS}) == 1
    return arrays


def joined(parts: list[dict[str, Any]], index: int) -> dict[str, list[Any]]:
    """The arrays of one text of a stream, put together."""
    own = [choice["logprobs"] for part in parts for choice in part["choices"] if choice["index"] == index]
    return {name: [entry for arrays in own for entry in arrays[name]] for name in FIELDS}


def test_a_prompt_is_scored(server: Running) -> None:
    answer = server.complete("aXé明b", echo=True, logprobs=1, max_tokens=0)
    arrays = only(answer)
    assert answer["choices"][0]["text"] == "aXé明b"
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 0
    assert arrays["tokens"] == ["a", "bytes:\\x58", "é", "明", "b"]
    assert arrays["text_offset"] == [0, 1, 2, 3, 4]
    assert arrays["token_logprobs"][0] is arrays["top_logprobs"][0] is None
    for token, logprob, top in zip(*(arrays[name][1:] for name in FIELDS[:3]), strict=True):
        assert top[token] == logprob < 0
        assert 1 <= len(top) <= 2
    assert only(server.complete("", echo=True, logprobs=1, max_tokens=0)) == {name: [] for name in FIELDS}


def test_with_one_token_written_there_is_one_more_entry(server: Running) -> None:
    """What lm-eval asks for."""
    ids = [[258, 259, 260], [261, 262]]
    choices = server.complete(ids, echo=True, logprobs=1, max_tokens=1, temperature=0, seed=1234)["choices"]
    assert [len(choice["logprobs"]["tokens"]) for choice in choices] == [4, 3]
    greedy = choices[0]["logprobs"]
    assert greedy["token_logprobs"][-1] == max(greedy["top_logprobs"][-1].values())


def test_the_likeliest_token_is_seen_to_be_the_likeliest(server: Running) -> None:
    arrays = only(server.complete("the", logprobs=3, max_tokens=50, temperature=0))
    for token, logprob, top in zip(*(arrays[name] for name in FIELDS[:3]), strict=True):
        assert logprob == max(top.values()) == top[token]
        assert len(top) == 3
        assert list(top.values()) == sorted(top.values(), reverse=True)


@pytest.mark.parametrize("asked", [0, 1, 5, 100])
def test_as_many_are_told_as_were_asked_for_and_the_token_itself(asked: int, server: Running) -> None:
    arrays = only(server.complete("the", logprobs=asked, max_tokens=40, seed=2, echo=True))
    for at, (token, logprob, top) in enumerate(zip(*(arrays[name][1:] for name in FIELDS[:3]), strict=True)):
        most = min(asked, 290 if at < 2 else 34)
        assert len(top) in (most, most + 1)
        assert top[token] == logprob


TEXTS = st.text("ab é明Xß", max_size=8)


@given(
    st.lists(TEXTS, min_size=1, max_size=3),
    st.integers(0, 30),
    st.lists(st.text("ab ", min_size=1, max_size=2), max_size=2),
    st.integers(1, 2),
    st.booleans(),
    st.sampled_from([None, 0, 2]),
    st.booleans(),
    st.sampled_from([0, 1, 20]),
)
def test_chunks_put_together_are_the_answer(
    server: Running,
    prompts: list[str],
    max_tokens: int,
    stop: list[str],
    n: int,
    echo: bool,
    logprobs: int | None,
    include: bool,
    interval: int,
) -> None:
    fields: dict[str, Any] = {
        **{"prompt": prompts, "max_tokens": max_tokens, "stop": stop, "n": n, "echo": echo, "logprobs": logprobs},
        **{"seed": 1, "include_stop_str_in_output": include, "min_tokens": 3},
    }
    whole = server.complete(**fields)
    options = {"include_usage": True, "continuous_usage_stats": True}
    parts = stream(server.client, **fields, stream_interval=interval, stream_options=options)
    assert texts(parts, n * len(prompts)) == [choice["text"] for choice in whole["choices"]]
    for index, choice in enumerate(whole["choices"]):
        assert choice["index"] == index
        if logprobs is not None:
            assert joined(parts, index) == choice["logprobs"]
        else:
            assert choice["logprobs"] is None
    counts = [part["usage"]["completion_tokens"] for part in parts]
    assert counts == sorted(counts)
    used = ("prompt_tokens", "completion_tokens", "total_tokens")
    assert [parts[-1]["usage"][name] for name in used] == [whole["usage"][name] for name in used]


@pytest.fixture(scope="module")
def all_seen(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server whose model has seen every id, and so writes bytes, too."""
    folder = tmp_path_factory.mktemp("seen") / "seen"
    save(small_checkpoint(unseen=np.zeros(0, np.int64)), folder)
    with serving(Settings(checkpoint=folder)) as running:
        yield running


def test_a_text_is_as_likely_as_a_prompt_as_when_it_was_written(all_seen: Running) -> None:
    """Bit for bit, where everything may be written."""
    prompt = [[258, 259, 260]]
    written = only(all_seen.complete(prompt, logprobs=3, max_tokens=60, seed=3, temperature=0.8))
    assert any(token.startswith("bytes:") for token in written["tokens"])
    names = [f"bytes:\\x{byte:02x}" for byte in range(256)] + list(small_checkpoint().tokenizer.characters)
    again = [prompt[0] + [names.index(token) for token in written["tokens"]]]
    scored = only(all_seen.complete(again, echo=True, logprobs=3, max_tokens=0))
    for name in ("tokens", "token_logprobs", "top_logprobs"):
        assert scored[name][3:] == written[name]


def test_what_is_never_written_is_no_part_of_a_written_texts_odds(server: Running) -> None:
    """As a prompt it is less likely, by the same factor as all that might have been written in its place."""
    fields: dict[str, Any] = {"logprobs": 100, "echo": True}
    written = only(server.complete("abc", max_tokens=40, seed=3, **fields))
    scored = only(server.complete("abc" + "".join(written["tokens"][3:]), max_tokens=0, **fields))
    for at in range(3, 43):
        difference = written["token_logprobs"][at] - scored["token_logprobs"][at]
        assert difference > 0
        mass = sum(np.exp(value) for value in written["top_logprobs"][at].values())
        assert mass == pytest.approx(1, abs=1e-5)
        shared = written["top_logprobs"][at].keys() & scored["top_logprobs"][at].keys()
        assert written["tokens"][at] in shared
        for token in shared:
            own = written["top_logprobs"][at][token] - scored["top_logprobs"][at][token]
            assert own == pytest.approx(difference, abs=1e-5)


def test_a_stop_string_that_is_left_out_has_its_probabilities(server: Running) -> None:
    free = server.complete("x", seed=5, max_tokens=60, logprobs=0)["choices"][0]
    stop = free["text"][30:33]
    cut = server.complete("x", seed=5, max_tokens=60, logprobs=0, stop=stop)["choices"][0]
    end = free["text"].index(stop)
    assert cut["text"] == free["text"][:end]
    assert cut["stop_reason"] == stop
    for name in FIELDS:
        assert cut["logprobs"][name] == free["logprobs"][name][: end + 3]


IDS = st.lists(st.sampled_from([0x61, 0xC3, 0xA9, 0xE6, 0x9C, 0x88, 0xFF, 256, 257, 258]), max_size=20)


@given(IDS, st.integers(0, 20))
def test_a_token_begins_where_the_text_before_it_ends(ids: list[int], cut: int) -> None:
    tokenizer = Tokenizer("abé")
    offsets = Offsets(tokenizer, 5)
    found = offsets.of(ids[:cut]) + offsets.of(ids[cut:])
    whole = Offsets(tokenizer, 5)
    assert found == [entry for token in ids for entry in whole.of([token])]
    assert found == sorted(found)
    assert all(
        offset == 5 + len(tokenizer.decode(ids[:at])) for at, offset in enumerate(found) if all(i > 255 for i in ids)
    )


def test_openais_client_reads_them(server: Running) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    answer = client.completions.create(model="small", prompt=["abc", "é"], seed=1, max_tokens=5, logprobs=2, echo=True)
    expected = server.complete(["abc", "é"], seed=1, max_tokens=5, logprobs=2, echo=True)
    for choice, right in zip(answer.choices, expected["choices"], strict=True):
        assert choice.logprobs is not None
        assert choice.logprobs.token_logprobs == right["logprobs"]["token_logprobs"]
        assert choice.logprobs.tokens == right["logprobs"]["tokens"]
        assert choice.logprobs.top_logprobs == right["logprobs"]["top_logprobs"]
        assert choice.logprobs.text_offset == right["logprobs"]["text_offset"]
    chunks = client.completions.create(
        model="small", prompt="abc", seed=1, max_tokens=5, logprobs=2, echo=True, stream=True
    )
    tokens = [token for chunk in chunks for one in chunk.choices if one.logprobs for token in one.logprobs.tokens or ()]
    assert tokens == expected["choices"][0]["logprobs"]["tokens"]

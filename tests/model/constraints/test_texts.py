"""Texts that must match: laws that hold for any pattern, prompt, seed and length."""

import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.constraints.compiling import Compiled
from model.constraints.compiling import stepwise as without_table
from model.constraints.constraint import Constraint
from model.decoding.decoder import Decoder
from model.errors import ParameterError
from model.sampling.parameters import SamplingParameters
from model.sampling.sampler import RowSampling
from tests.model.constraints.written import CHECKPOINT, DECODER, VOCABULARY, constraint, numpy_decoder, write

PLAIN = st.sampled_from(["a", "é", "[A-Z]", "[a-z]", "[^a-z]", r"\d", r"\w", ".", "-", " "])
REGEXES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: f"({two[0]}|{two[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{2,}"])).map(
            lambda two: f"({two[0]}){two[1]}"
        ),
    ),
    max_leaves=6,
)
DRAWS = st.sampled_from(
    [
        {},
        {"temperature": 0.0},
        {"temperature": 1.7, "top_k": 20},
        {"top_p": 0.8, "min_p": 0.01},
        {"typical_p": 0.7, "temperature": 1.2},
        {"frequency_penalty": 1.5, "repetition_penalty": 1.3},
        {"logit_bias": {300: 8.0, 301: -100.0}},
    ]
)
DATE = r"\d{4}-\d{2}-\d{2}"


def stepwise(pattern: str) -> Compiled:
    """The same pattern without its table."""
    return without_table(Constraint("regex", pattern), VOCABULARY)


@given(REGEXES, st.text("ab ", max_size=4), st.integers(0, 2**64 - 1), st.integers(0, 12), DRAWS)
@settings(max_examples=150)
def test_a_text_matches_whatever_the_prompt_the_seed_and_the_length(
    pattern: str, prompt: str, seed: int, max_tokens: int, draws: dict[str, Any]
) -> None:
    asked = constraint("regex", pattern)
    assert asked.exact
    try:
        found = write(asked, prompt, max_tokens, seed=seed, logprobs=2, **draws)
    except ParameterError as error:
        least = int(str(error).partition(" has ")[2].partition(":")[0])
        assert max_tokens < least
        found = write(asked, prompt, least, seed=seed, logprobs=2, **draws)
        assert found.tokens == least
    assert re.fullmatch(pattern, found.text)
    assert found.tokens == len(found.text) == len(found.logprobs)
    assert write(asked, prompt, max(max_tokens, found.tokens), numpy_decoder(), seed=seed, logprobs=2, **draws) == found


@given(REGEXES, st.integers(0, 1000), DRAWS)
@settings(max_examples=60)
def test_a_table_and_llguidance_write_the_same_text(pattern: str, seed: int, draws: dict[str, Any]) -> None:
    asked, followed = constraint("regex", pattern), stepwise(pattern)
    found = write(asked, max_tokens=200, seed=seed, **draws)
    if found.finish_reason == "stop":
        assert write(followed, max_tokens=200, seed=seed, **draws) == found
        assert write(followed, decoder=numpy_decoder(), max_tokens=200, seed=seed, **draws) == found


def test_a_text_ends_where_the_model_would_have_gone_on_otherwise() -> None:
    """Everything is allowed until the first character that is not: it ends the text, and is not part of it."""
    free = write(None, max_tokens=200, seed=3).text
    assert write(constraint("regex", "[^☃]*"), max_tokens=200, seed=3) == write(None, max_tokens=200, seed=3)
    end = free[25]
    found = write(constraint("regex", f"[^{re.escape(end)}]*"), max_tokens=200, seed=3, logprobs=0)
    assert found[:3] == (free.partition(end)[0], "stop", free.index(end))
    assert len(found.logprobs) == found.tokens


def test_a_text_that_nothing_can_follow_ends_at_once() -> None:
    assert write(constraint("regex", "abc"), max_tokens=9)[:3] == ("abc", "stop", 3)
    assert write(constraint("regex", "abc"), max_tokens=3)[:3] == ("abc", "stop", 3)
    assert write(constraint("regex", "abc.*"), max_tokens=3)[:3] == ("abc", "length", 3)
    assert write(constraint("regex", "a{0}"), max_tokens=3)[:3] == ("", "stop", 0)
    assert write(stepwise("abc"), max_tokens=3)[:3] == ("abc", "stop", 3)


def test_a_text_is_completed_as_max_tokens_runs_out() -> None:
    asked = constraint("json_schema", '{"type":"array","items":{"type":"string"},"minItems":1}')
    for max_tokens in range(4, 30):
        for seed in range(5):
            assert re.fullmatch(
                r'\[".*"\]', write(asked, max_tokens=max_tokens, seed=seed, temperature=2).text, re.DOTALL
            )


def test_log_probabilities_are_the_model_s_own() -> None:
    """A free text and the same one forced, at another temperature too, are as likely, character by character."""
    free = write(None, "ab", seed=1, logprobs=3)
    forced = write(constraint("choice", json.dumps([free.text])), "ab", seed=2, temperature=3, logprobs=3)
    assert forced.text == free.text
    assert forced.logprobs == free.logprobs


def test_a_stop_string_ends_a_text_before_the_pattern_does() -> None:
    found = write(constraint("regex", r"(\d\d-)+"), seed=2, stop=["-"], max_tokens=20)
    assert re.fullmatch(r"\d\d", found.text)
    assert (found.finish_reason, found.tokens) == ("stop", 3)


def test_each_choice_of_a_seed_is_a_text_of_its_own() -> None:
    texts = {write(constraint("regex", DATE), seed=1, choice=choice).text for choice in range(20)}
    assert len(texts) == 20


def test_words_do_not_occur_and_other_ids_are_not_drawn() -> None:
    free = write(None, max_tokens=300, seed=5).text
    words = [free[10:12], free[40], free[70:73]]
    found = write(constraint("bad_words", json.dumps(words)), max_tokens=300, seed=5)
    assert found[1:3] == ("length", 300)
    assert not any(word in found.text for word in words)
    ids = CHECKPOINT.tokenizer.encode("abc").tolist()
    found = write(constraint("allowed_ids", json.dumps(ids)), max_tokens=300, seed=5)
    assert set(found.text) == set("abc")
    assert found[1:3] == ("length", 300)


@pytest.mark.parametrize("processor", [None, "numpy"])
def test_rows_write_the_same_alone_and_beside_others_however_steps_are_grouped(processor: str | None) -> None:
    decoder = DECODER if processor is None else numpy_decoder()
    asked = [
        None,
        constraint("regex", DATE),
        stepwise("[A-Z][a-z]+ [a-z]{2,5}"),
        constraint("json_schema", '{"type":"array","items":{"type":"number"}}'),
        constraint("choice", '["yes", "no"]'),
        stepwise("[^☃]*"),
        constraint("regex", "x?"),
        constraint("json_object", ""),
    ]
    alone = [rows_of(decoder, [one], [at], [1] * 40)[0] for at, one in enumerate(asked)]
    assert rows_of(decoder, asked, list(range(8)), [1] * 40) == alone
    assert rows_of(decoder, asked, list(range(8)), [7, 1, 16, 3, 13]) == alone
    assert rows_of(decoder, asked, list(range(8)), [40]) == alone
    assert [end for _, end in alone] != [0] * 8


def rows_of(decoder: Decoder, asked: list[Compiled | None], seeds: list[int], steps: list[int]) -> list[Any]:
    """What some rows draw in calls of so many steps: (ids, why it ended) of each."""
    rows = decoder.rows(len(asked))
    for slot, (one, seed) in enumerate(zip(asked, seeds, strict=True)):
        walk = None if one is None else one.walk(40)
        prompt = np.array([300])
        rows.set(slot, RowSampling(SamplingParameters(seed=seed), decoder.ids, prompt, walk=walk, logprobs=1), 300)
    ids: list[list[int]] = [[] for _ in asked]
    ended = [0] * len(asked)
    for count in steps:
        drawn = rows.draw(range(len(asked)), count)
        for row, mine in enumerate(drawn.ids.tolist()):
            ids[row] += mine if drawn.counts is None else mine[: drawn.counts[row]]
            ended[row] = 0 if drawn.ended is None else int(drawn.ended[row])
    return list(zip(ids, ended, strict=True))

"""Texts that go on after a state: cut at any place, they are what one request would have written."""

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model.checkpoint import save
from model.constraints.constraint import Constraint
from model.decoding.state import RowState
from model.errors import ParameterError
from model.sampling.parameters import SamplingParameters
from service.engine.engine import Engine
from service.engine.output import Logprobs, Piece, join_logprobs
from service.engine.text_request import TextRequest
from service.inference.served_model import ServedModel
from service.inference.state_tokens import StateTokens
from service.inference.texts import Texts
from service.settings import Settings
from tests.model.small import CHARACTERS, small_checkpoint

LENGTH = 40
HOLDER = b"h" * 32
PARAMETERS = st.builds(
    SamplingParameters,
    seed=st.integers(0, 2**64 - 1),
    temperature=st.sampled_from([0.0, 0.8, 2.0]),
    top_p=st.sampled_from([0.9, 1.0]),
    presence_penalty=st.sampled_from([0.0, 0.5]),
    frequency_penalty=st.sampled_from([0.0, 0.3]),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
)
PATTERNS = (
    None,
    Constraint("regex", "([a-z]{2,5} )*[a-z]+"),
    Constraint("regex", "[a-c]{3}(xyz)*"),
    Constraint("choice", '["ab","abc","the moon and the sea and the land","abcdef"]'),
    Constraint("grammar", 'root ::= "a" root "b" | [c-z]+'),
    Constraint("regex", "(a(b(c|d)*)+ ?)+"),
    Constraint("json_object", ""),
    Constraint("bad_words", '["ab","the"]'),
)
REQUESTS = st.fixed_dictionaries(
    {
        "parameters": PARAMETERS,
        "stop": st.lists(st.text("abcé \n", min_size=1, max_size=3), max_size=2).map(tuple),
        "include_stop": st.booleans(),
        "min_tokens": st.sampled_from([0, 0, 9]),
        "logprobs": st.sampled_from([None, 0, 2]),
        "constraint": st.sampled_from(PATTERNS),
    }
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    """One that can write JSON, too."""
    folder = tmp_path_factory.mktemp("states") / "small"
    save(small_checkpoint(characters=CHARACTERS + '{}[]":019'), folder)
    return ServedModel.load(Settings(checkpoint=folder))


class Bench:
    """A model and an engine in one event loop."""

    def __init__(self, model: ServedModel) -> None:
        self.loop = asyncio.new_event_loop()
        self.engine = Engine(Settings())
        self.model = model

    def write(self, **fields: Any) -> list[list[Piece]]:
        """The pieces of each text of a request."""

        async def work() -> list[list[Piece]]:
            request = TextRequest(**{"parameters": SamplingParameters(seed=1), **fields})
            texts = await Texts.prepare(self.model, self.engine, request)
            pieces: list[list[Piece]] = [[] for _ in range(len(request.prompts) * request.n)]
            texts.submit()
            while not texts.ended:
                for index, piece in await texts.take():
                    pieces[index].append(piece)
            texts.release()
            return pieces

        return self.loop.run_until_complete(asyncio.wait_for(work(), 30))


@pytest.fixture(scope="module")
def bench(model: ServedModel) -> Iterator[Bench]:
    bench = Bench(model)

    async def start() -> None:
        bench.engine.start(bench.loop)

    bench.loop.run_until_complete(start())
    try:
        yield bench
    finally:
        bench.engine.stop()
        bench.loop.run_until_complete(model.constraints.close())
        bench.loop.close()


def joined(pieces: list[Piece]) -> tuple[str, Logprobs | None]:
    logprobs = [piece.logprobs for piece in pieces if piece.logprobs is not None]
    return "".join(piece.text for piece in pieces), join_logprobs(logprobs) if logprobs else None


def same_logprobs(one: Logprobs | None, other: Logprobs | None) -> bool:
    return str(one) == str(other)


def sent(model: ServedModel, state: RowState | None) -> RowState:
    """A state after its way through a token."""
    assert state is not None
    tokens = StateTokens([b"a secret for tests"])
    return tokens.read(tokens.sign(state, model, HOLDER), model, HOLDER)


def state_of(pieces: list[Piece]) -> RowState:
    state = pieces[-1].state
    assert state is not None
    return state


def equal(one: RowState, other: RowState) -> bool:
    """To the bit: keys of attention are bytes in floats, which may be no numbers."""
    pairs = ((np.asarray(getattr(one, name)), np.asarray(getattr(other, name))) for name in RowState.__slots__)
    return all(left.shape == right.shape and left.tobytes() == right.tobytes() for left, right in pairs)


@given(REQUESTS, st.lists(st.integers(0, LENGTH), max_size=4).map(sorted), st.sampled_from(["", "the ", "aé明X"]))
@settings(max_examples=120)
@example({"parameters": SamplingParameters(temperature=0), "stop": ("\n",)}, [*range(LENGTH)], "a")
def test_a_text_that_is_cut_goes_on_as_if_it_had_not_been(
    bench: Bench, model: ServedModel, request_: dict[str, Any], cuts: list[int], prompt: str
) -> None:
    (whole,) = bench.write(prompts=[prompt], max_tokens=LENGTH, return_state=True, **request_)

    pieces: list[Piece] = []
    beginning, prompts, tokens = None, [prompt], 0
    for until in [*cuts, LENGTH]:
        fields = {**request_, "prompts": prompts, "max_tokens": until - tokens, "beginning": beginning}
        (some,) = bench.write(return_state=True, **fields)
        pieces += some
        tokens, prompts = until, [""]
        beginning = sent(model, state_of(some))
        if some[-1].finish_reason == "stop":
            break

    assert joined(pieces)[0] == joined(whole)[0]
    assert same_logprobs(joined(pieces)[1], joined(whole)[1])
    assert pieces[-1].finish_reason == whole[-1].finish_reason
    assert pieces[-1].stop_reason == whole[-1].stop_reason
    assert sum(piece.tokens for piece in pieces if piece.finish_reason) == whole[-1].tokens
    assert equal(sent(model, state_of(pieces)), sent(model, state_of(whole)))


@given(PARAMETERS, st.text("abc é明X\n", min_size=1, max_size=8), st.text("abc é明X\n", min_size=1, max_size=8))
def test_a_prompt_after_a_state_is_read_as_one_with_all_before_it(
    bench: Bench, model: ServedModel, parameters: SamplingParameters, prompt: str, following: str
) -> None:
    (first,) = bench.write(prompts=[prompt], max_tokens=7, return_state=True, parameters=parameters)
    text = joined(first)[0]
    if "\ufffd" in text or state_of(first).undecoded:
        return  # bytes of no character cannot be sent as a text
    fields: dict[str, Any] = {"max_tokens": 9, "parameters": parameters, "n": 2, "logprobs": 1}
    wanted = bench.write(prompts=[prompt + text + following], **fields)
    found = bench.write(prompts=[following], beginning=sent(model, state_of(first)), **fields)
    assert list(map(joined, found)).__repr__() == list(map(joined, wanted)).__repr__()


def test_texts_of_a_request_go_on_each_by_itself(bench: Bench, model: ServedModel) -> None:
    fields: dict[str, Any] = {"prompts": ["ab", ""], "n": 3, "best_of": None}
    whole = bench.write(max_tokens=20, **fields)
    first = bench.write(max_tokens=8, return_state=True, **fields)
    for index, pieces in enumerate(first):
        (rest,) = bench.write(prompts=[""], beginning=sent(model, state_of(pieces)), max_tokens=12)
        assert joined(pieces)[0] + joined(rest)[0] == joined(whole[index])[0]


def test_after_a_stop_string_the_text_goes_on_behind_it(bench: Bench, model: ServedModel) -> None:
    (whole,) = bench.write(prompts=["ab"], max_tokens=100)
    text, lines = joined(whole)[0], []
    beginning, prompts, left = None, ["ab"], 100
    while left:
        fields: dict[str, Any] = {"prompts": prompts, "beginning": beginning, "max_tokens": left, "stop": ["a"]}
        (pieces,) = bench.write(return_state=True, **fields)
        lines.append(joined(pieces)[0])
        beginning, prompts, left = sent(model, state_of(pieces)), [""], left - pieces[-1].tokens
    assert len(lines) > 2
    assert "a".join(lines) == text.removesuffix("a")


def test_a_score_is_the_same_after_a_state(bench: Bench, model: ServedModel) -> None:
    (first,) = bench.write(prompts=["the moon\nand"], max_tokens=0, return_state=True)
    (pieces,) = bench.write(prompts=[""], max_tokens=0, return_state=True, beginning=sent(model, state_of(first)))
    assert equal(state_of(pieces), state_of(first))
    (wanted,) = bench.write(prompts=["the moon\nand"], max_tokens=5)
    (found,) = bench.write(prompts=[""], max_tokens=5, beginning=sent(model, state_of(pieces)))
    assert found[-1].text == wanted[-1].text


def test_what_cannot_be_gone_on_with_is_refused(bench: Bench, model: ServedModel) -> None:
    pattern = Constraint("regex", "[a-z ]+")
    (pieces,) = bench.write(prompts=["ab"], max_tokens=4, return_state=True, constraint=pattern)
    fields: dict[str, Any] = {"max_tokens": 4, "beginning": sent(model, state_of(pieces))}
    with pytest.raises(ParameterError, match="in the middle of a text that must match something else"):
        bench.write(prompts=[""], constraint=Constraint("regex", "[a-z]+"), **fields)
    bench.write(prompts=["x"], constraint=Constraint("regex", "[a-z]+"), **fields)
    bench.write(prompts=[""], **fields)
    grammar = Constraint("grammar", 'root ::= "a" root "b" | [c-z]+')
    with pytest.raises(ParameterError, match="a pattern of this kind is part of a state for at most"):
        bench.write(prompts=[""], constraint=grammar, max_tokens=3_000, return_state=True)


def test_a_state_inside_an_object_within_an_object_goes_on_there(bench: Bench, model: ServedModel) -> None:
    pattern, deepest = Constraint("json_object", ""), 0
    for seed in range(30):
        fields: dict[str, Any] = {"constraint": pattern, "parameters": SamplingParameters(seed=seed, temperature=2)}
        (whole,) = bench.write(prompts=["a"], max_tokens=60, return_state=True, **fields)
        (first,) = bench.write(prompts=["a"], max_tokens=30, return_state=True, **fields)
        state = sent(model, state_of(first))
        deepest = max(deepest, len(state.walk))
        (rest,) = bench.write(prompts=[""], max_tokens=30, return_state=True, beginning=state, **fields)
        assert joined(first)[0] + joined(rest)[0] == joined(whole)[0]
    assert deepest > 2

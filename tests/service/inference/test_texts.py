"""A request of our own: all of its prompts or none, what is known of each, and scores that are the model's."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.decoding.rows import Scored
from model.errors import ParameterError, TokenizerError
from model.sampling.parameters import SamplingParameters
from service.engine.engine import Engine
from service.engine.output import Piece
from service.engine.text_request import TextRequest
from service.errors import QueueFull
from service.inference.served_model import ServedModel
from service.inference.texts import Texts, Usage
from service.settings import Settings
from tests.service.serving import Reference, SlowDecoder


class Bench:
    """A model and an engine in an event loop of a test's own."""

    def __init__(self, settings: Settings, model: ServedModel) -> None:
        self.model, self.settings = model, settings

    def run(self, work: Callable[[Engine], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            engine = Engine(self.settings)
            engine.start(asyncio.get_running_loop())
            try:
                return await asyncio.wait_for(work(engine), 30)
            finally:
                engine.stop()

        return asyncio.run(main())

    def write(self, **fields: Any) -> tuple[Texts, list[list[Piece]]]:
        """The texts of a request, and the pieces of each."""

        async def work(engine: Engine) -> tuple[Texts, list[list[Piece]]]:
            return await self.take_all(engine, **fields)

        found: tuple[Texts, list[list[Piece]]] = self.run(work)
        return found

    async def take_all(self, engine: Engine, **fields: Any) -> tuple[Texts, list[list[Piece]]]:
        request = TextRequest(**{"parameters": SamplingParameters(seed=1), **fields})
        texts = await Texts.prepare(self.model, engine, request)
        pieces: list[list[Piece]] = [[] for _ in range(len(request.prompts) * request.n)]
        texts.submit()
        try:
            while not texts.ended:
                for index, piece in await texts.take():
                    pieces[index].append(piece)
        finally:
            texts.release()
        return texts, pieces


@pytest.fixture(scope="module")
def bench(checkpoint_folder: Path) -> Bench:
    settings = Settings(checkpoint=checkpoint_folder)
    return Bench(settings, ServedModel.load(settings))


@contextmanager
def refused(parameter: str, words: str) -> Iterator[None]:
    with pytest.raises(ParameterError, match=words) as caught:
        yield
    assert caught.value.parameter == parameter


def plain_scores(reference: Reference, prompt: str, top: int | None) -> Scored:
    """The scores of a prompt that is read in one call, alone."""
    ids = np.array([reference.checkpoint.tokenizer.encode(prompt)], np.int32)
    return Scored(
        *(
            None if part is None else part[0]
            for part in reference.decoder.rows(1).score([0], ids[:, :-1], ids[:, 1:], top)
        )  # type: ignore[arg-type]
    )


def assert_same(one: Scored, other: Scored) -> None:
    for own, right in zip(one, other, strict=True):
        assert (own is None) == (right is None)
        if own is not None and right is not None:
            assert own.dtype == right.dtype
            assert np.array_equal(own, right)


PROMPTS = st.lists(st.text("ab é明X", min_size=1, max_size=40), min_size=1, max_size=6)


@given(PROMPTS, st.integers(0, 5), st.integers(0, 3), st.integers(1, 2), st.sampled_from([None, 0.0]))
def test_scores_are_the_models_whatever_is_scored_beside(
    bench: Bench, reference: Reference, prompts: list[str], top: int, max_tokens: int, n: int, interval: float | None
) -> None:
    texts, pieces = bench.write(
        prompts=prompts, prompt_logprobs=top, max_tokens=max_tokens, n=n, interval=interval, stop=["a"]
    )
    for at, prompt in enumerate(prompts):
        scores = texts.prompts[at].scores
        assert scores is not None
        assert_same(scores, plain_scores(reference, prompt, top))
        for choice in range(n):
            own = pieces[at * n + choice]
            wish: dict[str, Any] = {"seed": 1, "max_tokens": max_tokens, "stop": "a"}
            assert "".join(piece.text for piece in own) == reference.write(prompt, choice, **wish).text
            assert [piece.finish_reason is None for piece in own] == [True] * (len(own) - 1) + [False]


def test_a_long_prompt_is_scored_in_slices_to_the_same_numbers(bench: Bench, reference: Reference) -> None:
    """Beside texts that are written, and prompts that are read and scored otherwise."""
    long = "it was the best of times, it was the worst of times; " * 120
    slices: list[tuple[int, int, Any]] = []

    async def work(engine: Engine) -> Any:
        others = [
            bench.take_all(engine, prompts=["x" * 3000], max_tokens=300, interval=0.0),
            bench.take_all(engine, prompts=[long[:2000]], prompt_logprobs=9, max_tokens=0),
            bench.take_all(
                engine,
                prompts=["short", long],
                on_scores=lambda prompt, part: slices.append((prompt, part.start, part.scored)),
                max_tokens=2,
            ),
        ]
        return await asyncio.gather(bench.take_all(engine, prompts=[long], prompt_logprobs=2, max_tokens=1), *others)

    (texts, _), _, (beside, _), (told, pieces) = bench.run(work)
    assert_same(texts.prompts[0].scores, plain_scores(reference, long, 2))
    assert_same(beside.prompts[0].scores, plain_scores(reference, long[:2000], 9))
    assert told.prompts[1].scores is None
    assert [piece.text for text in pieces for piece in text] == [
        reference.write(prompt, seed=1, max_tokens=2).text for prompt in ("short", long)
    ]
    for at, prompt in enumerate(("short", long)):
        own = [(start, scored) for index, start, scored in slices if index == at]
        ends = [1, *(start + len(scored.logprobs) for start, scored in own)]
        assert [start for start, _ in own] == ends[:-1]
        assert ends[-1] == len(prompt)
        assert all(scored.ranks is None for _, scored in own)
        joined = np.concatenate([scored.logprobs for _, scored in own])
        assert np.array_equal(joined, plain_scores(reference, prompt, None).logprobs)


def test_what_is_scored_is_read_anew_and_nothing_has_no_scores(bench: Bench) -> None:
    async def work(engine: Engine) -> None:
        for _ in range(2):
            await bench.take_all(engine, prompts=["abcabc"])
        texts, _ = await bench.take_all(engine, prompts=["abcabc", "", "a"], prompt_logprobs=0)
        assert [prompt.cached for prompt in texts.prompts] == [0, 0, 0]
        assert [len(prompt.scores.logprobs) for prompt in texts.prompts if prompt.scores is not None] == [5, 0, 0]
        again, _ = await bench.take_all(engine, prompts=["abcabc", "abcabX"])
        assert [prompt.cached for prompt in again.prompts] == [5, 5]

    bench.run(work)


def test_what_is_known_of_prompts(bench: Bench) -> None:
    texts, _ = bench.write(prompts=["aXb", "", [258, 0xC3, 0xA9]], n=2, max_tokens=7)
    assert [prompt.text for prompt in texts.prompts] == ["aXb", "", "aé"]
    assert [prompt.tokens for prompt in texts.prompts] == [3, 0, 3]
    assert [prompt.unseen for prompt in texts.prompts] == [1, 0, 1]
    assert texts.prompts[2].ids.tolist() == [258, 0xC3, 0xA9]
    assert texts.usage() == Usage(6, 6 * 7, 0, 2)


def test_all_prompts_are_taken_or_none(bench: Bench) -> None:
    async def work(engine: Engine) -> None:
        for prompts, n in ((["a"] * 5, 1), (["a"], 5)):
            request = TextRequest(prompts=prompts, n=n, parameters=SamplingParameters())
            with refused("prompt" if n == 1 else "n", "5 texts"):
                (await Texts.prepare(bench.model, engine, request)).submit()
        one, other = [
            await Texts.prepare(bench.model, engine, TextRequest(prompts=["a"] * 3, parameters=SamplingParameters()))
            for _ in range(2)
        ]
        one.submit()
        with pytest.raises(QueueFull):
            other.submit()
        assert engine.running + engine.waiting <= 3
        one.release()
        one.release()
        other.submit()
        other.release()
        assert engine.running == engine.waiting == 0

    Bench(Settings(checkpoint=bench.settings.checkpoint, max_rows=2, max_waiting=2), bench.model).run(work)


def test_usage_of_texts_that_were_given_up_is_what_came(checkpoint_folder: Path) -> None:
    settings = Settings(checkpoint=checkpoint_folder)
    slow = Bench(settings, ServedModel.load(settings, SlowDecoder))

    async def work(engine: Engine) -> None:
        request = TextRequest(
            prompts=["abc", "é"], n=2, max_tokens=5000, interval=0.0, parameters=SamplingParameters(seed=1)
        )
        texts = await Texts.prepare(slow.model, engine, request)
        texts.submit()
        taken = dict(await texts.take())
        while len(taken) < 4:
            taken |= dict(await texts.take())
        texts.release()
        usage = texts.usage()
        assert usage.prompt_tokens == 4
        assert sum(piece.tokens for piece in taken.values()) <= usage.completion_tokens < 20_000

    slow.run(work)


def test_silence_is_told(checkpoint_folder: Path) -> None:
    settings = Settings(checkpoint=checkpoint_folder)
    slow = Bench(settings, ServedModel.load(settings, SlowDecoder))

    async def work(engine: Engine) -> None:
        request = TextRequest(prompts=["a"], max_tokens=60, interval=100.0, parameters=SamplingParameters(seed=1))
        texts = await Texts.prepare(slow.model, engine, request)
        texts.submit()
        silences, written = 0, ""
        while not texts.ended:
            grown = await texts.take(0.01)
            silences += not grown
            written += "".join(piece.text for _, piece in grown)
        texts.release()
        assert silences > 2
        assert len(written) == 60

    slow.run(work)


def test_fields_that_do_not_go_together() -> None:
    fields: dict[str, Any] = {"prompts": ["a"], "parameters": SamplingParameters()}
    with refused("best_of", "at least n, which is 3"):
        TextRequest(**fields, n=3, best_of=2)
    with refused("best_of", "leave out best_of or stream"):
        TextRequest(**fields, n=1, best_of=2, interval=0.0)
    with refused("prompt", "at least one"):
        TextRequest(**{**fields, "prompts": []})


def test_prompts_nobody_can_read(bench: Bench) -> None:
    for ids in ([0, bench.model.tokenizer.size], [-1], [10**30]):
        with refused("prompt", "this model's ids are 0 to 289"):
            bench.write(prompts=["a", ids])
    with pytest.raises(TokenizerError):
        bench.write(prompts=["\ud800"])
    with refused("stop", "1 to 1,024"):
        bench.write(prompts=["a"], stop=["x" * 1025])


def test_a_bias_on_ids_that_are_never_drawn_is_no_matter(bench: Bench, reference: Reference) -> None:
    biases = {5: 100.0, 260: 5.0, 261: -100.0}
    parameters = SamplingParameters(seed=1, logit_bias=biases)
    _, [[piece]] = bench.write(prompts=["a"], parameters=parameters, max_tokens=50)
    assert piece.text == reference.write("a", seed=1, logit_bias=biases, max_tokens=50).text
    assert piece.text != reference.write("a", seed=1, max_tokens=50).text

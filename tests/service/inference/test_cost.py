"""What a request costs is known from counts, before anything is made of it, and what is made of it is no more."""

import asyncio
import gc
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from model.decoding.beams import BeamOptions
from model.errors import ParameterError
from model.sampling.parameters import SamplingParameters
from service.engine.engine import Engine
from service.engine.text_request import TextRequest
from service.errors import MemorySpent, TooCostly
from service.inference.cost import kept_bytes, request_bytes
from service.inference.served_model import ServedModel
from service.inference.texts import Texts
from service.process.ledger import Ledger
from service.settings import Settings

STOPS = ["a" * 1023 + chr(97 + at) for at in range(16)]
REQUESTS: dict[str, dict[str, Any]] = {
    "nothing": {"prompts": [""], "max_tokens": 1},
    "texts with stop strings": {"prompts": [""] * 72, "n": 16, "stop": STOPS, "max_tokens": 1},
    "a long prompt": {"prompts": ["the " * 100_000], "max_tokens": 1},
    "unknown characters": {"prompts": ["\U0001f600" * 60_000], "max_tokens": 1},
    "short prompts": {"prompts": ["it was the best of times " * 40] * 100, "max_tokens": 1},
    "ids": {"prompts": [[260] * 50_000], "max_tokens": 1},
    "biases and penalties": {
        "prompts": ["abc"] * 64,
        "n": 16,
        "parameters": SamplingParameters(logit_bias=dict.fromkeys(range(270), 1.0), frequency_penalty=1.0),
    },
    "scores": {"prompts": ["the " * 10_000], "prompt_logprobs": 50, "max_tokens": 0},
    "a stream": {"prompts": ["abc"] * 100, "n": 8, "interval": 0.02, "logprobs": 5, "max_tokens": 1},
}


@pytest.fixture(scope="module")
def model(checkpoint_folder: Path) -> ServedModel:
    return ServedModel.load(Settings(checkpoint=checkpoint_folder))


def asked(name: str, **fields: Any) -> TextRequest:
    return TextRequest(**{"parameters": SamplingParameters(seed=1), **REQUESTS[name], **fields})


def in_an_engine(work: Any) -> Any:
    async def main() -> Any:
        engine = Engine(Settings())
        engine.start(asyncio.get_running_loop())
        try:
            return await asyncio.wait_for(work(engine), 60)
        finally:
            engine.stop()

    return asyncio.run(main())


@pytest.mark.parametrize("name", REQUESTS)
def test_what_is_made_of_a_request_takes_no_more_than_was_charged(name: str, model: ServedModel) -> None:
    async def work(engine: Engine) -> None:
        first = await Texts.prepare(model, engine, asked("nothing"))
        first.submit()  # so that the thread has made what it needs
        await first.take()
        first.release()
        (await Texts.prepare(model, engine, asked("a long prompt"))).release()  # and that of large requests, too
        gc.collect()
        tracemalloc.start()
        try:
            request = asked(name)
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            texts = await Texts.prepare(model, engine, request)
            kept, most = tracemalloc.get_traced_memory()
            assert most - before <= request_bytes(request, model) + 64_000  # a block that is being encoded
            ids = sum(prompt.tokens for prompt in texts.prompts)
            assert kept - before <= kept_bytes(request, model, ids) + 16_000
            for group in texts._groups:
                for row in group.sequences:
                    row.begin()
            kept, _ = tracemalloc.get_traced_memory()
            assert kept - before <= kept_bytes(request, model, ids) + 16_000
        finally:
            tracemalloc.stop()

    in_an_engine(work)


@pytest.mark.parametrize(("stop", "logprobs"), [((), None), (("ab", "zz"), 5)])
def test_a_beam_search_takes_no_more_than_was_charged(
    stop: tuple[str, ...], logprobs: int | None, model: ServedModel
) -> None:
    fields: dict[str, Any] = {"prompts": ["once"], "beams": BeamOptions(width=12, early_stopping="never")}
    fields |= {"parameters": SamplingParameters(), "stop": stop, "logprobs": logprobs, "n": 12}

    async def work(engine: Engine) -> None:
        async def searched(request: TextRequest) -> None:
            texts = await Texts.prepare(model, engine, request)
            texts.submit()
            assert len(await texts.take()) == 12
            texts.release()

        await searched(TextRequest(**fields, max_tokens=20))  # so that the thread has made what it needs
        gc.collect()
        tracemalloc.start()
        try:
            request = TextRequest(**fields, max_tokens=600)
            before = tracemalloc.get_traced_memory()[0]
            await searched(request)
            assert tracemalloc.get_traced_memory()[1] - before <= request_bytes(request, model) + 64_000
        finally:
            tracemalloc.stop()

    in_an_engine(work)


def test_what_all_texts_share_exists_once(model: ServedModel) -> None:
    async def work(engine: Engine) -> None:
        parameters = SamplingParameters(logit_bias={260: 5.0})
        texts = await Texts.prepare(model, engine, asked("texts with stop strings", parameters=parameters))
        rows = [row for group in texts._groups for row in group.sequences]
        for row in rows:
            row.begin()
        assert len(rows) == 72 * 16
        assert len({id(row.group.tables) for row in rows}) == 1
        assert len({id(row.sampling.bias) for row in rows}) == 1
        assert len({id(row.sampling.drawn) for row in rows}) == len(rows)
        assert len({id(row.stream._matchers[0]._failure) for row in rows}) == 1

    in_an_engine(work)


def test_what_costs_too_much_is_refused_before_it_is_made(model: ServedModel) -> None:
    """More texts than there are places, more bytes than there are at all, and than are left."""

    async def work(engine: Engine) -> None:
        ledger = Ledger(1 << 20)
        tracemalloc.start()
        try:
            many = {"prompts": [""] * 128, "n": 16, "stop": STOPS}
            with ledger.take(1000, "a") as lease, pytest.raises(ParameterError, match="2,048 texts"):
                await Texts.prepare(model, engine, asked("nothing", **many, lease=lease))
            with ledger.take(1000, "a") as lease, pytest.raises(TooCostly):
                await Texts.prepare(model, engine, asked("a long prompt", lease=lease))
            with ledger.take(600_000, "b"), ledger.take(1000, "a") as lease, pytest.raises(MemorySpent):
                await Texts.prepare(model, engine, asked("texts with stop strings", n=1, lease=lease))
            assert tracemalloc.get_traced_memory()[1] < 900_000  # the long prompt itself is 400 kB
        finally:
            tracemalloc.stop()
        assert ledger.held == 0

    in_an_engine(work)

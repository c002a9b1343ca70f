"""Constraints of several models: one cache by bytes, few processes, and none is lost when its model is replaced."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from model.constraints.constraint import Constraint
from service.inference.constraint_process import MOST_PROCESSES
from service.inference.constraints import ConstraintCache, Constraints
from service.settings import Settings
from tests.model.constraints.written import CHECKPOINT, DECODER


def among(work: Callable[[list[Constraints], ConstraintCache], Awaitable[Any]], models: int = 4) -> Any:
    """Do something with the constraints of some models of a server."""

    async def main() -> Any:
        settings = Settings()
        cache = ConstraintCache(settings.constraint_cache_bytes)
        every = [Constraints(CHECKPOINT.tokenizer, DECODER.ids, settings, bytes([at]), cache) for at in range(models)]
        try:
            return await asyncio.wait_for(work(every, cache), 60)
        finally:
            await cache.processes.close()

    return asyncio.run(main())


def test_models_share_the_cache_and_few_processes() -> None:
    async def work(every: list[Constraints], cache: ConstraintCache) -> None:
        made = [await one.get(Constraint("regex", "a+b")) for one in every]
        assert len({id(one) for one in made}) == len(every) == len(cache)
        assert [await one.get(Constraint("regex", "a+b")) for one in every] == made
        assert len(cache.processes) == MOST_PROCESSES
        before = cache.counts.bytes
        await every[0].retire()
        assert len(cache) == len(every) - 1
        assert 0 < cache.counts.bytes < before

    among(work)


def test_a_constraint_that_is_being_compiled_outlives_its_model() -> None:
    async def work(every: list[Constraints], cache: ConstraintCache) -> None:
        waiting = asyncio.create_task(every[0].get(Constraint("regex", "a+b")))
        await asyncio.sleep(0)
        retired = asyncio.create_task(every[0].retire())
        made = await waiting
        await retired
        assert made is not None
        assert len(cache) == len(cache.processes) == cache.counts.bytes == 0

    among(work, models=1)

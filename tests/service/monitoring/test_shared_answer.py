"""An answer that costs much is made once for all who wait, never before it was asked for, and not all the time."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from service.monitoring.shared_answer import REST, SharedAnswer

TAKES = 0.01  # seconds of the clock that making one takes


class Maker:
    """Makes answers that tell what was counted as they were begun, by a clock that goes on as anybody sleeps.

    pauses: whether others have their turn while one is made.
    """

    def __init__(self, pauses: bool = False) -> None:
        self.now = 1_000.0
        self.count = 0
        self.made: list[float] = []
        self.fails = False
        self._pauses = pauses
        self.shared = SharedAnswer(self._make, lambda: self.now, self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)

    async def _make(self, name: str) -> bytes:
        self.made.append(self.now)
        counted = self.count
        self.now += TAKES
        if self._pauses:
            await asyncio.sleep(0)
        if self.fails:
            raise MemoryError
        return f"{name} {counted}".encode()


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))


@pytest.mark.parametrize("pauses", [False, True])
def test_what_was_done_before_it_is_asked_for_is_in_it(pauses: bool) -> None:
    async def test() -> None:
        maker = Maker(pauses)

        async def client(number: int) -> None:
            for _ in range(20):
                maker.count += 1
                mine = maker.count
                answer = await maker.shared.get("a" if number % 2 else "b")
                assert int(answer.split()[1]) >= mine
                maker.now += TAKES / 3

        await asyncio.gather(*map(client, range(6)))

    run(test)


def test_one_serves_all_who_wait_and_is_made_after_a_rest() -> None:
    async def test() -> None:
        maker = Maker()
        first = await maker.shared.get("a")
        waiting = [maker.shared.get("a") for _ in range(100)]
        assert await asyncio.gather(*waiting) == [first] * 100
        first_at, next_at = maker.made
        assert next_at - first_at >= (1 + REST) * TAKES - 1e-6

    run(test)


def test_who_asks_seldom_never_waits() -> None:
    async def test() -> None:
        maker = Maker()
        for _ in range(5):
            await maker.shared.get("a")
            maker.now += (REST + 1) * TAKES
        assert len(maker.made) == 5

    run(test)


def test_a_client_that_leaves_takes_the_answer_from_nobody_and_an_error_is_told_to_all() -> None:
    async def test() -> None:
        maker = Maker()
        await maker.shared.get("a")
        leaves, stays = (asyncio.ensure_future(maker.shared.get("a")) for _ in range(2))
        await asyncio.sleep(0)
        leaves.cancel()
        maker.now += REST * TAKES
        assert await stays == b"a 0"
        maker.fails = True
        failing = [asyncio.ensure_future(maker.shared.get("a")) for _ in range(3)]
        await asyncio.sleep(0)
        maker.now += REST * TAKES
        assert {type(one) for one in await asyncio.gather(*failing, return_exceptions=True)} == {MemoryError}
        maker.fails = False
        maker.now += REST * TAKES
        assert await maker.shared.get("a") == b"a 0"

    run(test)

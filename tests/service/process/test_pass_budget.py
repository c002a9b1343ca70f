"""So much goes on in each pass of the event loop, one that has gone keeps nobody waiting, others get half the time."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.process.pass_budget import PassBudget

PASS_SECONDS = 0.001
EVENT = 0.0001  # seconds an event takes by the clock of these tests


class Work:
    """A connection with so many events to parse, by a clock that only parsing moves."""

    def __init__(self, clock: list[float], events: int) -> None:
        self.clock = clock
        self.left = events

    def parse(self, seconds: float) -> bool:
        until = self.clock[0] + seconds
        while self.left and self.clock[0] <= until:
            self.clock[0] += EVENT
            self.left -= 1
        return self.left > 0


@given(st.lists(st.integers(0, 200), max_size=20))
def test_a_pass_parses_so_long_for_all_connections_together(amounts: list[int]) -> None:
    clock = [0.0]

    async def run() -> list[float]:
        turns = PassBudget(PASS_SECONDS, lambda: clock[0], rest=0)
        works = [Work(clock, amount) for amount in amounts]
        for work in works:
            turns.take(work.parse)
        passes = [clock[0]]
        while any(work.left for work in works):
            before = clock[0]
            await asyncio.sleep(0)
            passes.append(clock[0] - before)
        return passes

    passes = asyncio.run(run())
    assert max(passes) <= 2 * (PASS_SECONDS + 2 * EVENT)  # those who come, and the queue
    assert round(sum(passes) / EVENT) == sum(amounts)


def test_a_newcomer_parses_beside_those_who_have_much() -> None:
    clock = [0.0]

    async def run() -> int:
        turns = PassBudget(PASS_SECONDS, lambda: clock[0], rest=0)
        for _ in range(100):
            turns.take(Work(clock, 10_000).parse)
        for passes in range(10):
            await asyncio.sleep(0)
            newcomer = Work(clock, 2)
            turns.take(newcomer.parse)
            if not newcomer.left:
                return passes
        return -1

    assert asyncio.run(run()) == 0


def passes_of(room: int, sizes: list[int], cancelled: set[int]) -> tuple[list[int], list[int]]:
    """Who goes on, in order, and in which pass of the event loop."""

    async def main() -> tuple[list[int], list[int]]:
        turnstile, passed, order, passes = PassBudget(room, rest=0), [0], list[int](), list[int]()

        def count() -> None:
            passed[0] += 1
            asyncio.get_running_loop().call_soon(count)

        async def one(number: int) -> None:
            await turnstile.enter(sizes[number])
            order.append(number)
            passes.append(passed[0])

        count()
        tasks = [asyncio.create_task(one(number)) for number in range(len(sizes))]
        await asyncio.sleep(0)
        for number in cancelled:
            tasks[number].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        before = passed[0]
        await turnstile.enter(room)
        assert passed[0] == before  # nobody waits, so neither does this
        return order, passes

    return asyncio.run(main())


def test_large_ones_have_a_pass_each_in_the_order_they_came() -> None:
    order, passes = passes_of(10, [20] * 8, {3})
    assert order == [0, 1, 2, 4, 5, 6, 7]
    assert len(set(passes)) == 7


def test_small_ones_share_a_pass_in_the_order_they_came() -> None:
    order, passes = passes_of(10, [4, 4, 4, 1, 30, 2, 2], set())
    assert order == list(range(7))
    assert [passes.count(one) for one in sorted(set(passes))] == [3, 2, 2]


def test_a_queue_that_lasts_leaves_half_of_the_time_to_others() -> None:
    worked = [0.0]

    def spin(seconds: float) -> bool:
        began = time.perf_counter()
        while time.perf_counter() < began + seconds:
            pass
        worked[0] += time.perf_counter() - began
        return worked[0] < 0.15

    async def run() -> float:
        budget = PassBudget(PASS_SECONDS)
        began = time.perf_counter()
        budget.take(spin)
        while worked[0] < 0.15:
            await asyncio.sleep(0.001)
        return time.perf_counter() - began

    assert asyncio.run(run()) > 0.2


@pytest.mark.parametrize(("burst", "pauses"), [(60.0, 0), (0.0, 9)])
def test_a_queue_pauses_after_each_of_its_passes_once_its_burst_is_over(burst: float, pauses: int) -> None:
    clock, paused = [0.0], list[float]()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        later = loop.call_later

        def counted(delay: float, *call: Any) -> asyncio.TimerHandle:
            paused.append(delay)
            return later(0, *call)

        loop.call_later = counted  # type: ignore[assignment, method-assign]
        work = Work(clock, 11 * 10)
        PassBudget(10 * EVENT, lambda: clock[0], burst=burst).take(work.parse)
        while work.left:
            await asyncio.sleep(0)

    asyncio.run(run())
    assert len(paused) == pauses
    assert all(10 * EVENT <= delay <= 12 * EVENT for delay in paused)


def test_one_that_leaves_waits_no_longer_and_takes_no_room() -> None:
    leaving: list[Callable[[], None]] = []

    async def run() -> list[int]:
        budget, entered = PassBudget(1, rest=0), list[int]()

        async def one(number: int) -> bool:
            still_there = await budget.enter(1, leaving.append)
            if still_there:
                entered.append(number)
            return still_there

        tasks = [asyncio.create_task(one(number)) for number in range(1_000)]
        await asyncio.sleep(0)
        for leaves in leaving[:-1]:
            leaves()
            leaves()
        await asyncio.sleep(0)
        assert sum(task.done() and not task.result() for task in tasks) == len(leaving) - 1, "at once"
        for _ in range(4):
            await asyncio.sleep(0)
        assert tasks[-1].result(), "it does not wait for those who have left"
        return entered

    assert len(asyncio.run(run())) == 1_000 - (len(leaving) - 1)


def test_fewer_begin_in_a_pass_where_passes_are_long() -> None:
    clock = [0.0]

    async def most_of(takes: float, count: int, budget: PassBudget) -> list[int]:
        """How many begin in each pass, where each then takes so long."""
        passes = [0]

        async def one() -> None:
            await budget.enter(1)
            passes[-1] += 1
            clock[0] += takes

        tasks = [asyncio.create_task(one()) for _ in range(count)]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            passes.append(0)
        return passes

    async def run() -> None:
        budget = PassBudget(4, lambda: clock[0], rest=0, longest=0.002)
        assert max((await most_of(0.003, 100, budget))[8:]) == 1
        quick = await most_of(0.0001, 100, budget)
        assert max(quick) >= 4, "and more again where they are short"

    asyncio.run(run())

"""One caller cannot keep others from having patterns compiled, and nothing is compiled for those who have gone."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any

import pytest

from model.constraints.constraint import Constraint
from model.errors import ParameterError
from model.sampling.transitions import AnyConstraint
from service.errors import QueueFull
from service.inference.constraint_queue import MOST_WAITING, ConstraintQueue
from tests.model.constraints.written import constraint

MADE = constraint("regex", "a+")


def regex(name: str) -> Constraint:
    return Constraint("regex", name, "guided_regex")


class Compiler:
    """Compiles nothing, one at a time as it is let; notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.gate = asyncio.Semaphore(0)

    async def compile(self, constraint: Constraint) -> AnyConstraint:
        assert constraint.source is not None
        self.asked.append(constraint.source)
        await self.gate.acquire()
        if constraint.source == "bad":
            raise ParameterError("guided_regex", "It is bad.")
        return MADE


def using(work: Callable[[ConstraintQueue, Compiler], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        compiler = Compiler()
        queue = ConstraintQueue(compiler.compile)
        try:
            return await asyncio.wait_for(work(queue, compiler), 20)
        finally:
            await queue.close()
            await asyncio.sleep(0)
            assert len(queue) == 0

    return asyncio.run(main())


async def asking(queue: ConstraintQueue, caller: Hashable, *names: str) -> list["asyncio.Task[AnyConstraint]"]:
    tasks = [asyncio.create_task(queue.get(regex(name), caller)) for name in names]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


def test_callers_take_turns() -> None:
    async def work(queue: ConstraintQueue, compiler: Compiler) -> list[str]:
        tasks = await asking(queue, "greedy", *(f"g{at}" for at in range(5)))
        tasks += await asking(queue, "one", "a", "b")
        tasks += await asking(queue, "two", "c")
        for _ in tasks:
            compiler.gate.release()
        await asyncio.gather(*tasks)
        return compiler.asked

    assert using(work) == ["g0", "g1", "a", "c", "g2", "b", "g3", "g4"]


@pytest.mark.parametrize("greedy", [1, 3, 7])
def test_however_many_are_greedy_a_newcomer_finds_room_and_waits_for_one_of_each(greedy: int) -> None:
    async def work(queue: ConstraintQueue, compiler: Compiler) -> None:
        tasks = []
        for caller in range(greedy):
            tasks += await asking(queue, caller, *(f"{caller}-{at}" for at in range(MOST_WAITING)))
        refused = [task for task in tasks if task.done()]
        assert len(refused) >= MOST_WAITING // 2
        assert all(isinstance(task.exception(), QueueFull) for task in refused)
        (honest,) = await asking(queue, "honest", "a")
        before = len(compiler.asked)
        while "a" not in compiler.asked:
            compiler.gate.release()
            await asyncio.sleep(0)
        assert len(compiler.asked) - before <= greedy + 1
        compiler.gate.release()
        assert await honest is MADE
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        compiler.gate.release()

    using(work)


def test_what_nobody_waits_for_any_more_is_not_compiled_and_takes_no_room() -> None:
    async def work(queue: ConstraintQueue, compiler: Compiler) -> list[str]:
        first, *gone = await asking(queue, "x", "first", *(f"gone{at}" for at in range(MOST_WAITING // 2)))
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        (last,) = await asking(queue, "x", "last")
        for _ in range(2):
            compiler.gate.release()
        assert [await first, await last] == [MADE, MADE]
        return compiler.asked

    assert using(work) == ["first", "last"]


def test_what_several_ask_for_is_compiled_once_in_the_first_turn_of_any() -> None:
    async def work(queue: ConstraintQueue, compiler: Compiler) -> list[str]:
        tasks = await asking(queue, "x", "first", "other", "third", "same", "same")
        left, one = await asking(queue, "y", "same", "same")
        left.cancel()
        for _ in range(4):
            compiler.gate.release()
        assert set(await asyncio.gather(*tasks, one)) == {MADE}
        return compiler.asked

    assert using(work) == ["first", "other", "same", "third"]


def test_an_error_is_told_to_all_who_asked_and_the_next_is_compiled() -> None:
    async def work(queue: ConstraintQueue, compiler: Compiler) -> None:
        bad = await asking(queue, "x", "bad", "bad")
        (good,) = await asking(queue, "x", "good")
        for _ in range(2):
            compiler.gate.release()
        for task in bad:
            with pytest.raises(ParameterError, match="It is bad"):
                await task
        assert await good is MADE

    using(work)


def test_who_waits_when_it_closes_is_cancelled() -> None:
    async def work(queue: ConstraintQueue, _: Compiler) -> None:
        tasks = await asking(queue, "x", "running", "waiting")
        await queue.close()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(one) for one in found] == [asyncio.CancelledError] * 2

    using(work)

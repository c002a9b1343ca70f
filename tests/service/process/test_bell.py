"""A bell has calls made in the event loop, all and in order, and the thread that rings keeps Python's lock."""

import asyncio
import sys
import threading
from collections.abc import Iterator

import pytest

from service.process.bell import Bell


@pytest.fixture
def no_forced_switch() -> Iterator[None]:
    """No thread takes Python's lock from another one that does not give it away."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(100)
    yield
    sys.setswitchinterval(before)


def test_all_rings_are_heard_in_order_also_after_one_that_raised() -> None:
    async def main() -> list[int]:
        seen: list[int] = []
        ended = asyncio.Event()
        asyncio.get_running_loop().set_exception_handler(lambda *_: seen.append(-1))

        def call(number: int) -> None:
            if number == 1_000:
                raise ValueError(number)
            seen.append(number)
            if number == 1_999:
                ended.set()

        def ring() -> None:
            for number in range(2_000):
                bell.ring(number)

        bell = Bell(call)
        bell.hang(asyncio.get_running_loop())
        thread = threading.Thread(target=ring)
        thread.start()
        await asyncio.wait_for(ended.wait(), 20)
        thread.join()
        bell.take_down()
        return seen

    assert asyncio.run(main()) == [*range(1_000), -1, *range(1_001, 2_000)]


def test_more_rings_than_a_pipe_holds_lose_nothing_and_one_without_a_loop_does_no_harm() -> None:
    async def main() -> int:
        seen: list[int] = []
        bell = Bell(seen.append)
        bell.hang(asyncio.get_running_loop())
        for number in range(100_000):
            bell.ring(number)
        await asyncio.sleep(0.05)
        bell.take_down()
        bell.ring(-1)  # of a thread that hung
        await asyncio.sleep(0.01)
        return len(seen)

    assert asyncio.run(main()) == 100_000


@pytest.mark.usefixtures("no_forced_switch")
def test_the_thread_that_rings_does_not_wait_for_a_loop_that_works() -> None:
    async def main() -> int:
        begun, rung = threading.Event(), []
        bells = [Bell(lambda: None) for _ in range(200)]
        for bell in bells:
            bell.hang(asyncio.get_running_loop())

        def ring() -> None:
            begun.set()
            for bell in bells:
                sum(range(10_000))  # so that the loop's thread waits for the lock by now
                bell.ring()
                rung.append(bell)

        thread = threading.Thread(target=ring)
        thread.start()
        begun.wait()
        count = len(rung)  # before this thread has given the lock away again
        thread.join()
        for bell in bells:
            bell.take_down()
        return count

    assert asyncio.run(main()) == 200

"""Work beside the event loop: in turn, given up with its client, never refused silently."""

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import pytest

from service.errors import Draining, EngineStopped
from service.process.background import Background, Steps


def run(main: Callable[[Background], Awaitable[Any]]) -> Any:
    async def all_() -> Any:
        background = Background()
        background.start(asyncio.get_running_loop())
        try:
            return await asyncio.wait_for(main(background), 20)
        finally:
            background.stop()

    return asyncio.run(all_())


def steps(name: str, count: int, log: list[str], gate: threading.Event | None = None) -> Steps[str]:
    for _ in range(count):
        if gate is not None:
            gate.wait(10)
        log.append(name)
        yield
    return name


def test_callers_take_turns_and_each_is_served_in_order() -> None:
    async def main(background: Background) -> list[str]:
        log: list[str] = []
        gate = threading.Event()
        work = [
            background.finish(steps("first", 1, log, gate), "x"),
            background.finish(steps("a1", 3, log), "a"),
            background.finish(steps("a2", 1, log), "a"),
            background.finish(steps("b1", 2, log), "b"),
        ]
        tasks = [asyncio.create_task(one) for one in work]
        await asyncio.sleep(0)
        gate.set()
        assert await asyncio.gather(*tasks) == ["first", "a1", "a2", "b1"]
        return log

    assert run(main) == ["first", "a1", "b1", "a1", "b1", "a1", "a2"]


def test_each_step_of_a_caller_that_rests_is_followed_by_a_pause() -> None:
    log: list[str] = []

    async def main() -> None:
        background = Background(
            lambda caller: caller == "a", lambda seconds: log.append("pause" if seconds > 0 else "")
        )
        background.start(asyncio.get_running_loop())
        await background.finish(steps("a1", 2, log), "a")
        await background.finish(steps("b1", 2, log), "b")
        background.stop()

    asyncio.run(main())
    assert log == ["a1", "pause", "a1", "pause", "pause", "b1", "b1"]


def test_work_that_is_given_up_ends_after_its_step_and_holds_nothing() -> None:
    class Large:
        pass

    async def main(background: Background) -> None:
        large, log = Large(), list[str]()
        gone = weakref.ref(large)
        gate = threading.Event()

        def holding(large: Large) -> Generator[None, None, Large]:
            yield
            return large

        blocking = asyncio.create_task(background.finish(steps("x", 1000, log, gate)))
        waiting = [asyncio.create_task(background.finish(holding(large))) for _ in range(40)]
        await asyncio.sleep(0)
        for task in (blocking, *waiting):
            task.cancel()
        gate.set()
        await asyncio.gather(blocking, *waiting, return_exceptions=True)
        del large, waiting, task
        assert await background.do(lambda: 1) == 1  # and so all before it is done
        gc.collect()
        assert gone() is None
        assert len(log) <= 1
        assert background.waiting == 0

    run(main)


def test_a_deadline_and_a_stop_end_what_waits() -> None:
    async def main(background: Background) -> None:
        gate = threading.Event()
        busy = asyncio.create_task(background.finish(steps("x", 1, [], gate)))
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            await background.finish(steps("y", 1, []), deadline=time.monotonic() + 0.05)
        waiting = asyncio.create_task(background.do(lambda: 1))
        await asyncio.sleep(0)
        background.abandon(Draining("stopping"))
        for task in (busy, waiting):
            with pytest.raises(Draining):
                await task
        background.stop()
        gate.set()
        with pytest.raises(EngineStopped):
            await background.do(lambda: 1)

    run(main)


def test_errors_and_parts_arrive() -> None:
    async def main(background: Background) -> list[int]:
        def fail() -> None:
            raise MemoryError

        with pytest.raises(MemoryError):
            await background.do(fail)
        return [part async for part in background.each(iter(range(5)))]

    assert run(main) == list(range(5))

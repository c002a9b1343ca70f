"""Large bodies of one caller wait for each other while others have texts; nobody else ever waits."""

import asyncio
import time
from collections.abc import Hashable
from typing import Any, NoReturn

import pytest

from service.security.body_pace import BURST_SECONDS, EXPECTED_SECONDS, SHARE, SMALL, BodyPace

TAKEN = 1.5 * BURST_SECONDS  # seconds of a processor that a body takes here
LATE = 0.1  # seconds that a busy machine may keep the first of them from beginning


async def burn(begun: list[float]) -> None:
    """Take time of the processor, in two steps."""
    begun.append(time.monotonic())
    for _ in range(2):
        until = time.thread_time() + TAKEN / 2
        while time.thread_time() < until:
            pass
        await asyncio.sleep(0)


def begins(pace: BodyPace, *callers: Hashable, size: int | None = SMALL + 1) -> list[float]:
    """When bodies that come one after the other are begun, in seconds after the first."""
    begun: list[float] = []

    async def main() -> None:
        for caller in callers:
            await pace.run(burn(begun), caller, size)

    asyncio.run(main())
    return [at - begun[0] for at in begun]


def test_bodies_of_a_caller_have_its_share_of_the_processor_beside_others() -> None:
    earned = (TAKEN - BURST_SECONDS) / SHARE
    first, second, third = begins(BodyPace(lambda _: True), "a", "a", "a", size=None)
    assert second - first >= earned - LATE
    assert third - first >= earned + TAKEN / SHARE - LATE


def never() -> NoReturn:
    raise AssertionError("the time was asked for")


@pytest.mark.parametrize(("others", "size"), [(False, SMALL + 1), (False, None), (True, SMALL)])
def test_small_ones_and_those_of_one_who_is_alone_never_wait(others: bool, size: int | None) -> None:
    assert len(begins(BodyPace(lambda _: others, clock=never), "a", "a", size=size)) == 2


def test_each_waits_for_its_own() -> None:
    asked: list[Hashable] = []

    def others(caller: Hashable) -> bool:
        asked.append(caller)
        return True

    begins(BodyPace(others), "a", "b", "c")
    assert asked == ["a", "b", "c"]  # once each: each that waits looks again


def test_one_that_waits_goes_on_when_the_others_have_their_texts() -> None:
    """And what it took before is forgotten."""
    answers = iter([True, True, True, False, False])
    assert len(begins(BodyPace(lambda _: next(answers)), "a", "a", "a")) == 3


def test_many_that_come_at_once_are_spread() -> None:
    pace, begun = BodyPace(lambda _: True), list[float]()

    async def one() -> None:
        begun.append(time.monotonic())
        await asyncio.sleep(0.5)  # longer than it takes until the last begins

    async def main() -> None:
        await asyncio.gather(*(pace.run(one(), "a", SMALL + 1) for _ in range(80)))

    asyncio.run(main())
    assert begun[-1] - begun[0] >= (79 * EXPECTED_SECONDS - BURST_SECONDS) / SHARE - LATE


def test_who_leaves_while_waiting_leaves_nothing_behind() -> None:
    begun: list[float] = []

    async def main() -> None:
        pace = BodyPace(lambda _: True, clock=lambda: 0.0)  # nothing is ever earned
        await pace.run(burn(begun), "a", None)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await pace.run(burn(begun), "a", None)

    asyncio.run(main())
    assert len(begun) == 1


def test_what_work_raises_and_is_told_passes() -> None:
    seen: list[Any] = []

    async def work() -> None:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError as error:
            seen.append(error)
            raise ValueError("what it raises") from None

    async def main() -> None:
        pace = BodyPace(lambda _: True)
        task = asyncio.ensure_future(pace.run(work(), "a", None))
        await asyncio.sleep(0.01)
        task.cancel()
        await task

    with pytest.raises(ValueError, match="what it raises"):
        asyncio.run(main())
    assert len(seen) == 1

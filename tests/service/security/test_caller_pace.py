"""Slow requests of one caller wait for each other while others have texts; nobody else ever waits."""

import asyncio
import gc
import time
import weakref
from collections.abc import Callable, Hashable, Iterator
from contextlib import nullcontext, suppress
from itertools import chain, repeat
from pathlib import Path
from typing import Any, NoReturn

import pytest
from starlette.types import Message, Send

from service.security import caller_pace
from service.security.auth import REFUSAL_SECONDS
from service.security.caller_pace import (
    BURST_SECONDS,
    CROWD,
    EXPECTED_SECONDS,
    LINGER_SECONDS,
    LOOK_SECONDS,
    MANY,
    REQUEST_SECONDS,
    SHARE,
    SMALL_SHARE,
    CallerPace,
)
from service.settings import Settings
from tests.load.wire import request
from tests.service.raw_client import connected
from tests.service.serving import ENDLESS, Running, SlowDecoder, eventually, serving

KEY, OTHER = "k" * 32, "o" * 32
STRANGER = "127.0.0.2"
TAKEN = 1.5 * BURST_SECONDS  # seconds of a processor that a body takes here
LATE = 0.1  # seconds that a busy machine may keep the first of them from beginning


def stays(_: Callable[[], None]) -> None:
    """The client does not leave."""


async def burn(begun: list[float]) -> None:
    """Take time of the processor, in two steps."""
    begun.append(time.monotonic())
    for _ in range(2):
        until = time.thread_time() + TAKEN / 2
        while time.thread_time() < until:
            pass
        await asyncio.sleep(0)


def begins(pace: CallerPace, *callers: Hashable) -> list[float]:
    """When bodies that come one after the other are begun, in seconds after the first."""
    begun: list[float] = []

    async def main() -> None:
        for caller in callers:
            await pace.run(burn(begun), caller, 0.0, stays)

    asyncio.run(main())
    return [at - begun[0] for at in begun]


def test_bodies_of_a_caller_have_its_share_of_the_processor_beside_others() -> None:
    earned = (TAKEN - BURST_SECONDS) / SHARE
    first, second, third = begins(CallerPace(lambda _: True), "a", "a", "a")
    assert second - first >= earned - LATE
    assert third - first >= earned + TAKEN / SHARE - LATE


def never() -> NoReturn:
    raise AssertionError("the time was asked for")


def test_those_of_one_who_is_alone_never_wait() -> None:
    assert len(begins(CallerPace(lambda _: False, clock=never), "a", "a")) == 2


def test_each_waits_for_its_own() -> None:
    asked: list[Hashable] = []

    def others(caller: Hashable) -> bool:
        asked.append(caller)
        return True

    begins(CallerPace(others), "a", "b", "c")
    assert asked == ["a", "b", "c"]  # once each: each that waits looks again


def test_one_that_waits_goes_on_when_the_others_have_their_texts() -> None:
    """And what it took before is forgotten."""
    answers = chain([True, True, True], repeat(False))
    assert len(begins(CallerPace(lambda _: next(answers)), "a", "a", "a")) == 3


def test_a_moment_between_two_texts_of_another_lets_no_crowd_in() -> None:
    clock, others = [0.0], [True]
    at_once = int(BURST_SECONDS / REQUEST_SECONDS)

    async def begun(turns: list[asyncio.Task[bool]]) -> int:
        for _ in range(3):
            await asyncio.sleep(2 * LOOK_SECONDS)
        return sum(turn.done() for turn in turns)

    async def main() -> None:
        pace = CallerPace(lambda _: others[0], clock=lambda: clock[0])
        turns = [asyncio.ensure_future(pace.turn("a", REQUEST_SECONDS, stays)) for _ in range(3 * at_once)]
        before = await begun(turns)
        assert before <= at_once + 1
        others[0] = False
        turns += [asyncio.ensure_future(pace.turn("a", REQUEST_SECONDS, stays)) for _ in range(at_once)]
        assert await begun(turns) == before
        clock[0] = LINGER_SECONDS
        assert await begun(turns) == len(turns), "once nobody else has had a text for a while"

    asyncio.run(main())


def test_many_that_come_at_once_are_spread() -> None:
    pace, begun = CallerPace(lambda _: True), list[float]()

    async def one() -> None:
        begun.append(time.monotonic())
        await asyncio.sleep(0.5)  # longer than it takes until the last begins

    async def main() -> None:
        await asyncio.gather(*(pace.run(one(), "a", 0.0, stays) for _ in range(80)))

    asyncio.run(main())
    assert begun[-1] - begun[0] >= (79 * EXPECTED_SECONDS - BURST_SECONDS) / SHARE - LATE


def test_who_leaves_while_waiting_leaves_nothing_behind() -> None:
    begun: list[float] = []

    async def main() -> None:
        pace = CallerPace(lambda _: True, clock=lambda: 0.0)  # nothing is ever earned
        await pace.run(burn(begun), "a", 0.0, stays)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await pace.run(burn(begun), "a", 0.0, stays)

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
        pace = CallerPace(lambda _: True)
        task = asyncio.ensure_future(pace.run(work(), "a", 0.0, stays))
        await asyncio.sleep(0.01)
        task.cancel()
        await task

    with pytest.raises(ValueError, match="what it raises"):
        asyncio.run(main())
    assert len(seen) == 1


def test_of_a_client_who_leaves_while_waiting_nothing_is_done_and_the_others_go_on() -> None:
    begun: list[float] = []
    leaving: list[Callable[[], None]] = []
    clock = [0.0]

    async def main() -> None:
        pace = CallerPace(lambda _: True, clock=lambda: clock[0])
        await pace.run(burn(begun), "a", 0.0, stays)
        waiting = [asyncio.ensure_future(pace.run(burn(begun), "a", 0.0, leaving.append)) for _ in range(2)]
        await asyncio.sleep(0)
        assert len(leaving) == 2
        leaving[0]()
        await waiting[0]
        assert len(begun) == 1
        clock[0] = 10
        await waiting[1]

    asyncio.run(main())
    assert len(begun) == 2


@pytest.mark.parametrize("streams", [False, True])
def test_what_a_request_takes_until_its_answer_begins_is_charged(streams: bool) -> None:
    async def nothing(message: Message) -> None: ...

    async def work(send: Send) -> None:
        if streams:
            await send({"type": "http.response.start"})
        began = time.thread_time()
        while time.thread_time() < began + BURST_SECONDS + 0.02:
            pass
        if not streams:
            await send({"type": "http.response.start"})

    async def main() -> None:
        pace = CallerPace(lambda _: True, clock=lambda: 0.0)  # nothing is ever earned
        assert await pace.turn("a", REQUEST_SECONDS, stays)
        await pace.begin(work, "a", nothing)
        async with asyncio.timeout(0.05):
            await pace.turn("a", REQUEST_SECONDS, stays)

    with nullcontext() if streams else pytest.raises(TimeoutError):
        asyncio.run(main())


@pytest.fixture(scope="module")
def writing(checkpoint_folder: Path) -> Iterator[Running]:
    """A server that writes a text which does not end."""
    settings = Settings(checkpoint=checkpoint_folder, api_keys=f"{KEY},{OTHER}")
    with serving(settings, SlowDecoder) as running, connected(running) as client:
        client.sendall(request("/v1/completions", {"prompt": "a", "max_tokens": ENDLESS}, key=KEY))
        assert eventually(lambda: running.engine.running == 1)
        yield running


def answered(server: Running, status: int) -> float:
    """How many requests were answered with a status, or would have been."""
    samples = server.client.get("/metrics", headers={"Authorization": f"Bearer {KEY}"}).text.splitlines()
    counts = [line for line in samples if line.startswith("unroll_requests_total") and f'"{status}"' in line]
    return sum(float(line.rpartition(" ")[2]) for line in counts)


def test_a_stranger_is_refused_no_more_often_than_its_share_while_others_have_texts(writing: Running) -> None:
    count, began = 300, time.monotonic()
    for _ in range(count):
        with connected(writing, source=STRANGER) as client:
            client.sendall(request("/v1/models"))
            assert client.recv(100).startswith(b"HTTP/1.1 401")
    assert time.monotonic() - began >= ((count - 1) * REFUSAL_SECONDS - BURST_SECONDS) / SHARE


def test_requests_of_a_key_are_taken_at_its_share_while_others_have_texts(writing: Running) -> None:
    count, headers, began = 500, {"Authorization": f"Bearer {OTHER}"}, time.monotonic()
    assert {writing.client.get("/v1/models", headers=headers).status_code for _ in range(count)} == {200}
    assert time.monotonic() - began >= ((count - 1) * REQUEST_SECONDS - BURST_SECONDS) / SHARE


def test_probes_do_not_wait_for_requests_from_the_same_place() -> None:
    clock = [0.0]

    async def main() -> None:
        pace = CallerPace(lambda _: True, clock=lambda: clock[0])
        count = 2 * int(BURST_SECONDS / REQUEST_SECONDS)
        turns = [asyncio.ensure_future(pace.turn("a", REQUEST_SECONDS, stays)) for _ in range(count)]
        await asyncio.sleep(0)
        assert await pace.turn(("prober", "a"), REQUEST_SECONDS, stays)
        assert count / 3 < sum(turn.done() for turn in turns) < count * 2 / 3
        for turn in turns:
            turn.cancel()

    asyncio.run(main())


def test_requests_that_wait_for_their_turn_end_when_their_clients_leave(
    writing: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would begin within minutes otherwise, whether anybody was still there or not."""
    monkeypatch.setattr(caller_pace, "EXPECTED_SECONDS", 1.0)
    before, count = answered(writing, 499), 300
    for _ in range(count):
        with connected(writing, source=STRANGER) as client:
            client.sendall(request("/v1/completions", body=b"", key=OTHER, headers={"Content-Length": "9000"}))
    assert eventually(lambda: answered(writing, 499) == before + count, seconds=30)


def test_a_caller_of_whom_many_texts_wait_has_a_small_share() -> None:
    """What comes then would only wait behind them."""
    clock = [0.0]

    async def begun(queued: int) -> int:
        clock[0] = 0.0
        pace = CallerPace(lambda _: True, lambda _: queued, lambda: clock[0])
        turns = [asyncio.ensure_future(pace.turn("a", REQUEST_SECONDS, stays)) for _ in range(1_000)]
        await asyncio.sleep(0)
        at_once = sum(turn.done() for turn in turns)
        clock[0] = 1.0
        await asyncio.sleep(2 * LOOK_SECONDS)
        count = sum(turn.done() for turn in turns) - at_once
        for turn in turns:
            turn.cancel()
        await asyncio.gather(*turns, return_exceptions=True)
        return count

    few, many = asyncio.run(begun(MANY - 1)), asyncio.run(begun(MANY))
    assert few == pytest.approx(SHARE / REQUEST_SECONDS, abs=1)
    assert many == pytest.approx(SMALL_SHARE / REQUEST_SECONDS, abs=1)


def test_a_crowd_is_of_those_networks_from_which_requests_wait() -> None:
    async def main() -> None:
        pace = CallerPace(lambda _: True, clock=lambda: 0.0)  # nothing is ever earned
        assert await pace.turn("a", 2 * BURST_SECONDS, stays, "127.0.0.3")  # the others wait
        turns = [asyncio.ensure_future(pace.turn("a", REQUEST_SECONDS, stays, "2001:db8::1")) for _ in range(CROWD)]
        await asyncio.sleep(0)
        assert not pace.crowded(None)
        turns.append(asyncio.ensure_future(pace.turn("a", REQUEST_SECONDS, stays, "127.0.0.2")))
        await asyncio.sleep(0)
        assert pace.crowded(None)
        networks = ("2001:db8::", "127.0.0.2", "127.0.0.3", "127.0.0.4")
        assert [pace.crowded(one) for one in networks] == [True, True, False, False]
        for turn in turns:
            turn.cancel()
        await asyncio.gather(*turns, return_exceptions=True)
        assert not any(map(pace.crowded, networks))

    asyncio.run(main())


def test_what_a_request_held_that_is_broken_off_is_free_at_once() -> None:
    """Without the garbage collector, which would stop everybody for the sake of a crowd that has left."""

    class Held:
        """What a request holds."""

    held: list[weakref.ref[Held]] = []

    async def main() -> None:
        pace = CallerPace(lambda _: True)

        async def work(_: Send) -> None:
            mine = Held()
            held.append(weakref.ref(mine))
            with suppress(asyncio.CancelledError):  # as a stream does whose client leaves
                await asyncio.Event().wait()

        async def send(_: Message) -> None:
            """Nobody is there."""

        assert await pace.turn("a", REQUEST_SECONDS, stays)
        task = asyncio.create_task(pace.begin(work, "a", send))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait((task,))

    gc.collect()
    gc.disable()
    try:
        asyncio.run(main())
        assert [one() for one in held] == [None]
    finally:
        gc.enable()

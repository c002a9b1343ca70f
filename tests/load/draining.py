"""P9: what a signal to stop does under load: readiness goes first, and no text that was taken is lost in the grace."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from tests.benchmarks.figures import Figure
from tests.benchmarks.timing import CLIENT_CORE, on_core
from tests.load.outcome import Outcome, counted, outcome
from tests.load.process import Running, unroll_serve
from tests.load.wire import Answer, HungUpError, Talk, request

TEXTS, ROWS = 96, 48  # half of them wait while the others are written
STREAMED = 64
CHARACTERS = 3_000  # of each text: some seconds of all
ENDLESS = 100_000
SHORT_GRACE = 1.0
FAST_SECONDS = 2.0  # from a second signal to the end
LAST_SECONDS = 5.0  # what it takes after the grace to end, with the time for last words
FLAGS = ("--max-rows", str(ROWS), "--max-waiting", str(TEXTS), "--prefix-cache-bytes", "0")


def fields(at: int, characters: int) -> dict[str, Any]:
    """One of many different texts, of which the first are streamed."""
    return {"prompt": f"Scene {at}.\n", "max_tokens": characters, "seed": at, "stream": at < STREAMED}


@dataclass
class Probes:
    """What somebody saw who asked all the time whether the server is ready, and then asked it for a text.

    flipped, refused: when it first was not ready, and first refused a text. again: how often it said that it was ready
    after it had refused one. wrong: refusals that were not 503 with Retry-After.
    """

    flipped: float | None = None
    refused: float | None = None
    again: int = 0
    looks: int = 0
    wrong: list[str] = field(default_factory=list)
    live: set[int] = field(default_factory=set)

    def look(self, port: int, over: asyncio.Event) -> None:
        """Ask whether it is ready and live, until the server is gone."""
        while not over.is_set():
            refused = self.refused is not None
            try:
                ready, live = _asked(port, request("/health/ready")), _asked(port, request("/health/live"))
            except (OSError, HungUpError):
                return
            self.looks += 1
            self.live.add(live.status)
            if ready.status != 200:
                self.flipped = self.flipped or time.perf_counter()
            elif refused:
                self.again += 1
            time.sleep(0.01)

    def ask(self, port: int, over: asyncio.Event) -> None:
        """Ask for texts, each of which waits for its turn where it is taken, until the server is gone."""
        while not over.is_set():
            try:
                answer = _asked(port, request("/v1/completions", {"prompt": "a", "max_tokens": 1}))
            except (OSError, HungUpError):
                return
            if answer.status != 200:
                self.refused = self.refused or time.perf_counter()
                if (answer.status, answer.code) != (503, "draining") or "retry-after" not in answer.headers:
                    self.wrong.append(f"{answer.status} {answer.code} {answer.headers}")
            time.sleep(0.01)

    @asynccontextmanager
    async def watching(self, port: int) -> AsyncIterator[None]:
        """Do both in threads of their own for a `with` block."""
        over = asyncio.Event()
        both = [asyncio.create_task(asyncio.to_thread(one, port, over)) for one in (self.look, self.ask)]
        try:
            yield
        finally:
            over.set()
            await asyncio.gather(*both)


def _asked(port: int, data: bytes) -> Answer:
    talk = Talk(port)
    try:
        return talk.ask(data)
    finally:
        talk.close()


async def begin(server: Running, characters: int) -> list["asyncio.Task[Outcome]"]:
    """Ask for all texts, and return once all of them are taken."""
    asked = [fields(at, characters) for at in range(TEXTS)]
    tasks = [asyncio.create_task(outcome(server.port, one)) for one in asked]
    while server.total("unroll_requests_running") + server.total("unroll_requests_waiting") < TEXTS:
        await asyncio.sleep(0.01)
    return tasks


async def stopped_in_time(server: Running) -> list[Figure]:
    """A signal while half of the texts are written and half wait, with all the grace they need."""
    expected = await asyncio.gather(*(outcome(server.port, fields(at, CHARACTERS)) for at in range(TEXTS)))
    tasks = await begin(server, CHARACTERS)
    probes = Probes()
    async with probes.watching(server.port):
        await asyncio.sleep(0.1)
        server.signal(signal.SIGTERM)
        sent = time.perf_counter()
        seen = await asyncio.gather(*tasks)
        last = time.perf_counter()
        code, _ = await asyncio.to_thread(server.ended, 60)
        ended = time.perf_counter()
    lost = sum(not one.whole or one.finish is None for one in seen)
    other = sum(one.text != same.text for one, same in zip(seen, expected, strict=True))
    Console().print(f"SIGTERM with {TEXTS} texts: {counted(seen)}")
    for wrong in probes.wrong[:3]:
        Console().print(wrong)
    return [
        Figure(f"P9: {TEXTS} texts taken before the signal, not whole", lost, "texts", 0, "most"),
        Figure("P9: other than without the signal", other, "texts", 0, "most"),
        Figure("P9: not ready after the signal", (probes.flipped or float("nan")) - sent, "s", 0.5, "most"),
        Figure("P9: said it was ready after it refused a text", probes.again, "times", 0, "most"),
        Figure("P9: refusals other than 503 with Retry-After", len(probes.wrong), "answers", 0, "most"),
        Figure("P9: live all the while", float(probes.live == {200}), "yes", 1),
        Figure("P9: from the signal to the last text", last - sent, "s"),
        Figure("P9: from the last text to the end", ended - last, "s", LAST_SECONDS, "most"),
        Figure("P9: exit status", code, "", 0, "most"),
    ]  # fmt: skip


async def cut_short(server: Running, signals: int) -> list[Figure]:
    """Texts that would take for ever: after a short grace, or at a second signal, each ends with an error."""
    tasks = await begin(server, ENDLESS)
    await asyncio.sleep(0.3)
    sent = time.perf_counter()
    for _ in range(signals):
        server.signal(signal.SIGTERM)
        sent = time.perf_counter()
        if signals > 1:
            await asyncio.sleep(0.3)
    seen = await asyncio.gather(*tasks)
    code, _ = await asyncio.to_thread(server.ended, 60)
    seconds = time.perf_counter() - sent
    what = "a second signal" if signals > 1 else f"a grace of {SHORT_GRACE:g} s"
    Console().print(f"{what}: {counted(seen)}")
    told = sum(one.whole and one.code == "draining" for one in seen)
    most = FAST_SECONDS if signals > 1 else SHORT_GRACE + LAST_SECONDS
    return [
        Figure(f"P9, {what}: texts that end without being told why", TEXTS - told, "texts", 0, "most"),
        Figure(f"P9, {what}: seconds to the end", seconds, "s", most, "most"),
        Figure(f"P9, {what}: exit status", code, "", 0, "most"),
    ]


def measure() -> list[Figure]:
    """Three servers, which are stopped in three ways; they are on one core, the clients on the other."""
    figures = []
    with on_core(CLIENT_CORE):
        with unroll_serve(*FLAGS, "--grace-seconds", "300") as server:
            figures += asyncio.run(stopped_in_time(server))
        with unroll_serve(*FLAGS, "--grace-seconds", str(SHORT_GRACE)) as server:
            figures += asyncio.run(cut_short(server, 1))
        with unroll_serve(*FLAGS, "--grace-seconds", "300") as server:
            figures += asyncio.run(cut_short(server, 2))
    return figures

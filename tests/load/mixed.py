"""Many mixed requests, some given up, some malformed: flat memory, no 5xx, nothing left over, counters that agree."""

import asyncio
import json
import os
import random
import time
from collections.abc import Mapping
from statistics import median
from typing import Any

from rich.console import Console

from tests.benchmarks.figures import Figure
from tests.benchmarks.timing import CLIENT_CORE, on_core
from tests.load import mix
from tests.load.counters import Tally, agreement, left_over
from tests.load.mix import Ask
from tests.load.process import Running, total, unroll_serve
from tests.load.wire import Answer, HungUpError, Wire

REQUESTS = int(os.environ.get("LOAD_REQUESTS", "100000"))
CONNECTIONS = 64
ABORTED, MALFORMED = 0.10, 0.05
LIMIT_SECONDS = 600
WARM = 0.2  # of the requests, after which the memory is what it is compared with
FLAT_MEGABYTES = 10
PART = 0.03  # of the requests, over which the median of the memory is taken
CACHE_BYTES = 4_000_000  # full before the first comparison, for a cache that fills up is no leak
SETTLES = 10  # seconds for the last connections to be closed, which a busy machine makes long
SHOWN = 5  # unexpected answers that are printed whole
ROWS = 32  # fewer than texts that are asked for at once, so that some wait and are given up waiting

FLAGS = (
    *("--max-rows", str(ROWS), "--prefix-cache-bytes", str(CACHE_BYTES)),
    *("--max-body-bytes", str(mix.MOST_BODY), "--max-header-bytes", str(mix.MOST_HEADERS)),
)


class Crowd:
    """Connections that are always asking for something, until so many requests were made."""

    def __init__(self, server: Running, requests: int, seed: int = 1) -> None:
        self.server = server
        self.tally = Tally()
        self.memory: list[float] = []  # MB, at every request
        self._requests = requests
        self._made = 0
        self._chance = random.Random(seed)

    async def run(self) -> None:
        """Make them all."""
        async with asyncio.timeout(LIMIT_SECONDS), asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(self._client())

    async def _client(self) -> None:
        wire: Wire | None = None
        while self._made < self._requests:
            self._made += 1
            if self._made % 50 == 0:
                self.memory.append(self.server.resident_megabytes)
            wire = wire or await Wire.open(self.server.port)
            luck = self._chance.random()
            if luck < ABORTED:
                await self._give_up(wire)
                wire = None
                continue
            ask = mix.bad(self._chance) if luck < ABORTED + MALFORMED else mix.good(self._chance)
            answer = await self._asked(wire, ask)
            if answer is None or answer.closes:
                wire.close()
                wire = None
        if wire is not None:
            wire.close()

    async def _asked(self, wire: Wire, ask: Ask) -> Answer | None:
        """Ask, and note what came of it."""
        try:
            answer = await wire.ask(ask.data)
        except HungUpError as error:
            self.tally.surprises.append(f"{error} to {ask.data[:60]!r}")
            return None
        tally = self.tally
        (tally.unread if ask.unread else tally.answers)[answer.status] += 1
        if answer.status != ask.status:
            tally.surprises.append(f"{answer.status} to {ask.data[:300]!r}: {answer.body[:300]!r}")
        elif answer.status == 200:
            tally.texts += ask.texts
            usage = usage_of(ask, answer)
            tally.tokens += usage.get("completion_tokens", 0)
            tally.prompt_tokens += usage.get("prompt_tokens", 0)
        return answer

    async def _give_up(self, wire: Wire) -> None:
        """Begin a request and leave in its middle, in one of five ways."""
        way = self._chance.choice(["headers", "body", "begun", "begun, reset", "waiting"])
        ask = mix.long(self._chance, stream=way.startswith("begun") or self._chance.random() < 0.5)
        head, blank, body = ask.data.partition(b"\r\n\r\n")
        if way == "headers":
            wire.writer.write(head[:40])
            wire.close()
            return
        self.tally.given_up += 1
        wire.writer.write(head + blank + body[:-5] if way == "body" else ask.data)
        if way != "body":
            self.tally.texts_given_up += ask.texts
        if way.startswith("begun"):
            await self._begin(wire)
        else:
            self.tally.unseen += 1
            await asyncio.sleep(self._chance.uniform(0, 0.05))
        if way == "begun, reset":
            wire.reset()
        else:
            wire.close()

    async def _begin(self, wire: Wire) -> None:
        status, headers = await wire.head()
        if status != 200:
            self.tally.surprises.append(f"{status} to a stream that was to be given up")
            return
        async for _ in wire.pieces(headers):
            break


def usage_of(ask: Ask, answer: Answer) -> Mapping[str, Any]:
    """What an answer in OpenAI's dialect says that was read and written; nothing of the others."""
    if mix.COMPLETIONS.encode() not in ask.data[:40]:
        return {}
    if ask.stream:
        *_, last, done = answer.data
        if done != "[DONE]":
            raise ValueError(f"a stream ended with {done!r}")
        return _usage(json.loads(last))
    return _usage(answer.json)


def _usage(content: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = content["usage"]
    return found


class Rest:
    """What a server holds while nobody asks for anything."""

    def __init__(self, server: Running) -> None:
        self.threads = server.total("unroll_threads")
        self.descriptors = server.kept_open()


def flat(crowd: Crowd) -> list[Figure]:
    """The memory at the end against that after the first part, both in the middle of the load."""
    memory = crowd.memory
    part = max(1, round(len(memory) * PART))
    first = median(memory[round(len(memory) * WARM) :][:part])
    last = median(memory[-part:])
    return [
        Figure(f"resident memory after {WARM:.0%} of the requests", first, "MB"),
        Figure("resident memory at the end", last, "MB"),
        Figure("most ever", max(memory), "MB"),
        Figure("P6: the end less the first", last - first, "MB", FLAT_MEGABYTES, "most"),
    ]


def nothing_left(server: Running, before: Rest) -> list[Figure]:
    """What remains a moment after the last client has gone."""
    resting = server.resting()
    found = server.samples()
    kept = server.kept_open(before.descriptors, SETTLES)
    return [
        Figure("texts running, waiting and not ended", left_over(found), "texts", 0, "most"),
        Figure("the server at rest", float(resting), "yes", 1),
        Figure("threads that generate, fewer than before", before.threads - total(found, "unroll_threads"),
               "threads", 0, "most"),
        Figure("descriptors more than before", kept - before.descriptors, "files", 0, "most"),
    ]  # fmt: skip


def measure() -> list[Figure]:
    """LOAD_REQUESTS requests over 64 connections, the server on one core and the clients on the other."""
    with on_core(CLIENT_CORE), unroll_serve(*FLAGS, key=mix.KEY) as server:
        for _ in range(3):
            server.get("/health")  # what is opened once and kept is open now
        before, base = Rest(server), server.samples()
        crowd = Crowd(server, REQUESTS)
        began = time.monotonic()
        asyncio.run(crowd.run())
        seconds = time.monotonic() - began
        left = nothing_left(server, before)
        tally, found = crowd.tally, server.samples()
    for surprise in tally.surprises[:SHOWN]:
        Console().print(surprise, markup=False, highlight=False)
    aborted = total(found, "unroll_request_finished_total", reason="abort")
    failures = sum(count for status, count in tally.answers.items() if status >= 500)
    return [
        Figure(f"{REQUESTS:,} requests, {tally.given_up:,} given up, {tally.refused:,} refused", seconds, "s",
               LIMIT_SECONDS, "most"),
        Figure("the same a second", REQUESTS / seconds, "requests/s"),
        Figure("P10: answers 5xx seen", failures, "answers", 0, "most"),
        Figure("answers that were not the one expected", len(tally.surprises), "answers", 0, "most"),
        *flat(crowd),
        Figure("texts given up in their middle", aborted, "texts", 1),
        *left,
        *agreement(tally, base, found),
    ]  # fmt: skip

"""P8: whether everyone who is taken in gets a turn, in the order they came, and how long the last one waits."""

import asyncio
import random
import time
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from statistics import median

from tests.benchmarks.figures import Figure
from tests.benchmarks.timing import percentile
from tests.load.process import Running, unroll_serve
from tests.load.wire import Wire, request

SECONDS = 30.0
ROWS, WAITING, CLIENTS = 128, 100, 260  # more clients than fit, so that some are refused all the time
LENGTHS = (50, 400, 1_200)  # characters of a text
TIMES_AS_LONG = 1.5  # as first come, first served gives, a wait may be
BLUR = 0.25  # seconds that a time seen from outside may be off: a turn of 128 rows, an interval, the client itself
FLAGS = ("--threads", "1", "--max-rows", str(ROWS), "--max-waiting", str(WAITING))


@dataclass
class Turn:
    """One accepted request: when it was sent, when its first character came, and when its last; how it ended."""

    sent: float
    began: float = 0.0
    ended: float = 0.0
    whole: bool = False


@dataclass
class Record:
    """What all clients saw."""

    turns: list[Turn] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    refusal_seconds: list[float] = field(default_factory=list)


async def client(server: Running, record: Record, until: float) -> None:
    """Ask for one text after the other until it is time to stop, and then wait for the last."""
    wire = await Wire.open(server.port)
    while time.perf_counter() < until:
        length = random.choice(LENGTHS)
        fields = {"prompt": "ROMEO:", "max_tokens": length, "stream": True, "stream_interval": 500}
        turn = Turn(time.perf_counter())
        wire.writer.write(request("/v1/completions", fields))
        status, headers = await wire.head()
        body = b""
        async for piece in wire.pieces(headers):
            body += piece
            if not turn.began and b"data: " in body:  # a comment before it only says that the server lives
                turn.began = time.perf_counter()
        turn.ended = time.perf_counter()
        if status == 200:
            turn.whole = body.endswith(b"data: [DONE]\n\n") and b'"finish_reason":"length"' in body
            record.turns.append(turn)
        else:
            record.refused[f"{status}, Retry-After {headers.get('retry-after')}"] += 1
            record.refusal_seconds.append(turn.ended - turn.sent)
            await asyncio.sleep(0.2)
    wire.close()


async def run(server: Running, record: Record) -> None:
    """All clients at once."""
    until = time.perf_counter() + SECONDS
    async with asyncio.timeout(3 * SECONDS), asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(client(server, record, until))


def expected(turns: list[Turn]) -> list[tuple[float, float]]:
    """(wait, the wait first come, first served gives) of each request that found others waiting.

    With q requests before it that had not begun, a request's turn is when q + 1 more texts have ended.
    """
    ends = sorted(turn.ended for turn in turns)
    begins = sorted(turn.began for turn in turns)
    waits = []
    for at, turn in enumerate(sorted(turns, key=lambda turn: turn.sent)):
        ahead = at - bisect_left(begins, turn.sent)
        next_end = bisect_left(ends, turn.sent) + ahead
        if ahead > 0 and next_end < len(ends):
            waits.append((turn.began - turn.sent, ends[next_end] - turn.sent))
    return waits


def overtaken(turns: list[Turn]) -> int:
    """Requests that began clearly after one that was sent clearly later."""
    count, earliest = 0, float("inf")
    for turn in sorted(turns, key=lambda turn: turn.sent, reverse=True):
        if turn.began - BLUR > earliest:
            count += 1
        earliest = min(earliest, turn.began)
    return count


def measure() -> list[Figure]:
    """A server of its own, with more clients than it takes, for half a minute."""
    record = Record()
    with unroll_serve(*FLAGS) as server:
        asyncio.run(run(server, record))
    waits = expected(record.turns)
    late = [wait - fair for wait, fair in waits]
    ratio = max((wait / (fair + BLUR) for wait, fair in waits), default=float("nan"))
    unfinished = sum(not turn.whole for turn in record.turns)
    refused = ", ".join(f"{count:,} × {what}" for what, count in record.refused.items())
    return [
        Figure(f"P8: {len(record.turns):,} texts taken in, unfinished", unfinished, "texts", 0, "most"),
        Figure("P8: waits, median", median(wait for wait, _ in waits), "s"),
        Figure("P8: waits, longest", max(wait for wait, _ in waits), "s"),
        Figure("P8: later than first come, first served, p99", percentile(late, 99), "s"),
        Figure("P8: longest wait against first come, first served", ratio, "× as long", TIMES_AS_LONG, "most"),
        Figure("P8: overtaken by one who came later", overtaken(record.turns), "texts", 0, "most"),
        Figure(f"P8: refusals ({refused}), p50", 1e3 * median(record.refusal_seconds or [0]), "ms"),
    ]

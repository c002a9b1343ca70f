"""What watching costs: the engine that counts beside one that does not, a message of a stream, a line of the log."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

from starlette.types import Message

from model.checkpoint import BUNDLED, Checkpoint, load
from model.decoding.decoder import Decoder
from service.engine.counters import SIZES, Histogram, WorkerCounters
from service.engine.engine import Engine
from service.engine.turn_budget import DECODE_SECONDS
from service.models.model_registry import ModelRegistry
from service.monitoring.access_log import Exchange
from service.monitoring.logs import JsonFormatter, LogHandler
from service.monitoring.metrics import Metrics
from service.process.ledger import Ledger
from service.request_context import RequestContext
from service.settings import Settings
from tests.benchmarks.engine import EngineAlone
from tests.benchmarks.figures import Figure, counted
from tests.benchmarks.timing import ratio, seconds_per_call, side_by_side

ROUNDS = 41  # of pairs: what is looked for is smaller than what one pair tells
CALLS = 20_000


class Blind(Histogram):
    """A histogram that counts nothing."""

    def observe(self, value: float, times: int = 1) -> None:
        """Do nothing."""


class BlindCounters(WorkerCounters):
    """Counters of a worker that count nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.queued = Blind(SIZES)

    def decoded(self, *_: object) -> None:
        """Do nothing."""


@contextmanager
def both(checkpoint: Checkpoint) -> Iterator[tuple[EngineAlone, EngineAlone]]:
    """Two engines of one decoder in one event loop, of which the second counts nothing."""
    decoder = Decoder(checkpoint)
    engines = Engine(Settings()), Engine(Settings())
    engines[1].counters.workers[:] = [BlindCounters()]
    with asyncio.Runner() as runner:
        for engine in engines:
            engine.start(runner.get_loop())
        try:
            yield (
                EngineAlone(checkpoint, decoder, engines[0], runner),
                EngineAlone(checkpoint, decoder, engines[1], runner),
            )
        finally:
            for engine in engines:
                engine.stop()


def cpu_seconds(alone: EngineAlone, rows: int, characters: int) -> Callable[[], float]:
    """Seconds of a core that whole texts take, in all threads; other programs' work does not blur them."""

    def run() -> float:
        start = time.process_time()
        alone.write(rows, characters)
        return time.process_time() - start

    return run


def counting(checkpoint: Checkpoint) -> list[Figure]:
    """Whole texts of an engine that counts against one that does not, in seconds of a core; and one turn's counting."""
    figures = []
    with both(checkpoint) as (watched, blind):
        for rows, characters in ((1, 4000), (32, 500)):
            pair = [cpu_seconds(watched, rows, characters), cpu_seconds(blind, rows, characters)]
            seen, unseen = side_by_side(pair, ROUNDS)
            name = f"engine that counts against one that does not, {counted(rows, 'row')}"
            figures.append(Figure(name, ratio(seen, unseen), "× core time", 1.01, "most"))
    worker = WorkerCounters()
    seconds = seconds_per_call(lambda: worker.decoded(32, 20, 1e-3, time.monotonic(), 0.0, [], 0), CALLS)
    figures.append(Figure("counting a turn", 1e6 * seconds, "µs"))
    figures.append(Figure("the same of a call that draws", 100 * seconds / DECODE_SECONDS, "%", 1, "most"))
    return figures


def passing_on() -> list[Figure]:
    """A message of a stream on its way through the middleware."""
    message: Message = {"type": "http.response.body", "body": b"x" * 300, "more_body": True}

    async def send(message: Message) -> None:
        """Where it ends."""

    async def many(send: Callable[[Message], object]) -> float:
        start = time.perf_counter()
        for _ in range(CALLS):
            await send(message)  # type: ignore[misc]
        return (time.perf_counter() - start) / CALLS

    exchange = Exchange(RequestContext("name", time.monotonic()), send)
    seen, unseen = side_by_side([lambda: asyncio.run(many(exchange.send)), lambda: asyncio.run(many(send))], 7)
    return [Figure("a message of a stream that is watched", 1e6 * (median(seen) - median(unseen)), "µs", 1, "most")]


def telling() -> list[Figure]:
    """A line of the access log, and an answer to Prometheus."""
    with open(os.devnull, "wb") as nowhere:
        handler = LogHandler(nowhere.fileno(), JsonFormatter())
        fields = {"method": "POST", "path": "/v1/completions", "status": 200, "seconds": 0.0123, "bytes": 1234}
        about = logging.LogRecord("service.access", logging.INFO, "", 0, "%s %s", ("POST", "/v1/completions"), None)
        about.fields = fields
        line = seconds_per_call(lambda: handler.handle(about), 1_000)
        handler.close()
    settings = Settings()
    engine = Engine(settings)
    metrics = Metrics(ModelRegistry(settings, engine), engine, Ledger(1 << 20), lambda: True)
    for route in range(25):
        metrics.answered(f"/route{route}", 200, 0.01)
    renderings = []
    for _ in range(50):
        start = time.thread_time()
        metrics.render()
        renderings.append(time.thread_time() - start)
    return [
        Figure("a line of the log, until it waits to be written", 1e6 * line, "µs", 100, "most"),
        Figure("/metrics, 25 routes, of a core", 1e3 * median(renderings), "ms", 5, "most"),
    ]


def measure() -> list[Figure]:
    """All of it; one engine thread."""
    checkpoint = load(BUNDLED)
    return [*counting(checkpoint), *passing_on(), *telling()]

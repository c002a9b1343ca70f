"""P7 and P8: how soon a saturated server tells how it is, and refuses what it cannot take."""

import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from statistics import median
from threading import Thread
from typing import NamedTuple

from tests.benchmarks.figures import Figure
from tests.benchmarks.timing import CLIENT_CORE, on_core, percentile
from tests.load import large, queueing
from tests.load.crowd import ENDLESS, crowd
from tests.load.process import Running, unroll_serve
from tests.load.wire import HungUpError, Talk, request

PROBES = 1_000  # of each kind
SLOWEST = 10.0  # milliseconds of the 99th percentile
ROWS = WAITING = 128
PAUSE = 0.004  # seconds between two probes, in the mean
PER_MINUTE = 300  # requests of a key: the crowd's fit
CROWD_KEY = "the-key-of-the-crowd"
GREEDY = "the-key-of-one-who-asks-too-often"
KEYS = [f"a-key-of-a-prober-number-{number}" for number in range((ROWS + WAITING) // 8)]  # as many as the reserve
FLAGS = (
    *("--threads", "1", "--max-rows", str(ROWS), "--max-waiting", str(WAITING)),
    *("--key-requests-per-minute", str(PER_MINUTE)),
)


class Probe(NamedTuple):
    """A request that is made again and again, and what has to come of it; what has another code is not timed."""

    make: Callable[[], bytes]
    status: int = 200
    code: str = ""


def probed(port: int, probes: dict[str, Probe]) -> dict[str, list[float]]:
    """Seconds of many probes of each kind, in turn: from opening a connection, as a probe does, to a whole answer."""
    seconds: dict[str, list[float]] = {name: [] for name in probes}
    while min(map(len, seconds.values())) < PROBES:
        for name, probe in probes.items():
            time.sleep(random.expovariate(1 / PAUSE))
            data = probe.make()
            began = time.perf_counter()
            talk = Talk(port)
            answer = talk.ask(data)
            took = time.perf_counter() - began
            talk.close()
            if answer.status not in (200, probe.status):  # between two texts a place is free for a moment
                raise RuntimeError(f"{answer.status}, not {probe.status}, to {data[:100]!r}: {answer.body[:300]!r}")
            if answer.code == probe.code:
                seconds[name].append(took)
    return seconds


def shown(name: str, seconds: list[float], target: float | None = SLOWEST) -> list[Figure]:
    """The median, 99th percentile and most of some times."""
    return [
        Figure(f"{name}, p50", 1e3 * median(seconds), "ms"),
        Figure(f"{name}, p99 of {len(seconds):,}", 1e3 * percentile(seconds, 99), "ms", target, "most"),
        Figure(f"{name}, most", 1e3 * max(seconds), "ms"),
    ]


def health(server: Running) -> list[Figure]:
    """The probes of those who look after the server."""
    probes = {
        "/health/live": Probe(lambda: request("/health/live")),
        "/health/ready": Probe(lambda: request("/health/ready")),
        "/metrics": Probe(lambda: request("/metrics", key=random.choice(KEYS))),
    }
    return [one for name, seconds in probed(server.port, probes).items() for one in shown(f"P7: {name}", seconds)]


def _held(server: Running) -> int:
    """How many texts run or wait."""
    talk = Talk(server.port)
    health = talk.ask(request("/health", key=random.choice(KEYS))).json
    talk.close()
    return int(health["running"] + health["waiting"])


def _write_on(talk: Talk, key: str) -> None:
    """Ask for one long text after the other, until the connection is closed."""
    fields = {"prompt": "a", "max_tokens": ENDLESS, "stream": True, "stream_interval": 1_000}
    with suppress(OSError, HungUpError):
        while True:
            if talk.ask(request("/v1/completions", fields, key=key)).status != 200:
                time.sleep(1)  # well within what its key may ask


@contextmanager
def reserve_filled(server: Running) -> Iterator[None]:
    """A text of each prober all the time, so that there is no place in what is reserved for callers with few texts."""
    talks = [Talk(server.port) for _ in KEYS]
    threads = [Thread(target=_write_on, args=both) for both in zip(talks, KEYS, strict=True)]
    held = 0
    for thread in threads:
        thread.start()
    while held != (held := _held(server)):  # until no more find a place
        time.sleep(0.5)
    try:
        yield
    finally:
        for talk in talks:
            talk.socket.shutdown(socket.SHUT_RDWR)
            talk.close()
        for thread in threads:
            thread.join()


def refusals(server: Running) -> list[Figure]:
    """What is refused for one reason or another."""
    talk = Talk(server.port)
    for _ in range(PER_MINUTE):
        talk.ask(request("/version", key=GREEDY))
    talk.close()

    def completion(key: str | None = None, **fields: object) -> bytes:
        return request("/v1/completions", {"prompt": "a", **fields}, key=key or random.choice(KEYS))

    def announced() -> bytes:
        headers = {"Content-Length": str(10**9), "Content-Type": "application/json"}
        return request("/v1/completions", key=random.choice(KEYS), method="POST", headers=headers)

    probes = {
        "429, the queue is full": Probe(completion, 429, "queue_full"),
        "429, a key over its rate": Probe(lambda: completion(GREEDY), 429, "rate_limit_exceeded"),
        "401, a key that is none": Probe(lambda: completion("a-key-it-does-not-know"), 401, "invalid_api_key"),
        "413, announced": Probe(announced, 413, "body_too_large"),
        "400, a field of the wrong type": Probe(lambda: completion(max_tokens="many"), 400, "invalid_value"),
    }
    with reserve_filled(server):
        times = probed(server.port, probes)
    return [one for name, seconds in times.items() for one in shown(f"P8: {name}", seconds)]


def measure() -> list[Figure]:
    """The server on one core with as many streams as it takes, running and waiting; the clients on the other."""
    with on_core(CLIENT_CORE):
        with unroll_serve(*FLAGS, key=",".join((CROWD_KEY, GREEDY, *KEYS))) as server:
            before = probed(server.port, {"/health/live": Probe(lambda: request("/health/live"))})["/health/live"]
            with crowd(server.port, ROWS + WAITING, ROWS, CROWD_KEY):
                figures = [*shown("/health/live of an idle server", before, None), *health(server), *refusals(server)]
                figures += large.measure(server, KEYS)
        return [*figures, *queueing.measure()]

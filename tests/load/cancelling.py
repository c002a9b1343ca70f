"""P5: how long a place stays taken once the client who had it is gone, streamed or not, running, reading or waiting."""

import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from tests.benchmarks.figures import Figure
from tests.benchmarks.timing import CLIENT_CORE, on_core, percentile
from tests.load.crowd import ENDLESS, crowd
from tests.load.process import Running, unroll_serve
from tests.load.wire import Talk, request
from tests.service.raw_client import vanish

TIMES = 100
FREE_SECONDS = 0.05
ROWS = 64
LONG_PROMPT = 500_000  # characters: seconds of reading
FLAGS = ("--max-rows", str(ROWS), "--prefix-cache-bytes", "0", "--threads", "1")
LOOK = request("/health")


@dataclass(frozen=True)
class Case:
    """A request to be given up by closing its socket in some way; so many others run beside it."""

    name: str
    data: bytes
    leave: Callable[[socket.socket], None]
    beside: int


def cases() -> Iterator[Case]:
    """Streamed and not; running, reading and waiting; by an end (FIN) and by a reset (RST)."""
    for beside, where in ((0, "running"), (ROWS - 1, "running beside 63"), (ROWS, "waiting behind 64")):
        for stream in (True, False):
            how = "streamed" if stream else "not streamed"
            short = request("/v1/completions", {"prompt": "a", "max_tokens": ENDLESS, "stream": stream})
            yield Case(f"{where}, {how}, FIN", short, socket.socket.close, beside)
            yield Case(f"{where}, {how}, RST", short, vanish, beside)
    for stream in (True, False):
        how = "streamed" if stream else "not streamed"
        long = request("/v1/completions", {"prompt": "a" * LONG_PROMPT, "max_tokens": 1, "stream": stream})
        yield Case(f"prompt being read, {how}, FIN", long, socket.socket.close, 0)
        yield Case(f"prompt being read beside 63, {how}, RST", long, vanish, ROWS - 1)


class Watcher:
    """Asks again and again how many texts there are; each question takes about a millisecond."""

    def __init__(self, server: Running) -> None:
        self._talk = Talk(server.port)

    def texts(self) -> int:
        """Texts that have a place or wait for one."""
        health = self._talk.ask(LOOK).json
        return int(health["running"]) + int(health["waiting"])

    def until(self, texts: int, seconds: float = 60) -> float:
        """Seconds until there are so many texts."""
        began = time.perf_counter()
        while self.texts() != texts:
            if time.perf_counter() - began > seconds:
                raise TimeoutError(f"there were not {texts} texts after {seconds:g} s, but {self.texts()}")
        return time.perf_counter() - began


def seconds_until_free(server: Running, watcher: Watcher, case: Case) -> float:
    """From the moment a client is gone until the server no longer counts its text."""
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(case.data)
        watcher.until(case.beside + 1)
        time.sleep(random.uniform(0, 0.02))  # at no fixed time of a turn or an interval
        case.leave(client)
        return watcher.until(case.beside)


def next_in_line(server: Running, watcher: Watcher) -> float:
    """From the moment a client with a place is gone until the one who waits for it gets its first character."""
    with (
        socket.create_connection(("127.0.0.1", server.port)) as first,
        socket.create_connection(("127.0.0.1", server.port)) as second,
    ):
        data = request("/v1/completions", {"prompt": "a", "max_tokens": ENDLESS, "stream": True})
        first.sendall(data)
        watcher.until(ROWS)
        second.sendall(data)
        watcher.until(ROWS + 1)
        first.close()
        began = time.perf_counter()
        second.recv(1)
        seconds = time.perf_counter() - began
        second.close()
        watcher.until(ROWS - 1)
        return seconds


def shown(name: str, seconds: list[float], target: float | None = FREE_SECONDS) -> list[Figure]:
    """The median and the most of some times."""
    bound = None if target is None else 1e3 * target
    return [
        Figure(f"{name}, p50", 1e3 * median(seconds), "ms", bound, "most"),
        Figure(f"{name}, p99", 1e3 * percentile(seconds, 99), "ms"),
        Figure(f"{name}, most of {len(seconds)}", 1e3 * max(seconds), "ms", bound, "most"),
    ]


def measure() -> list[Figure]:
    """Each case many times; the server on one core, the clients on the other."""
    figures: list[Figure] = []
    with on_core(CLIENT_CORE), unroll_serve(*FLAGS) as server:
        watcher = Watcher(server)
        for beside in (0, ROWS - 1, ROWS):
            with ExitStack() as stack:
                if beside:
                    stack.enter_context(crowd(server.port, beside, beside))
                watcher.until(beside)
                for case in (one for one in cases() if one.beside == beside):
                    seconds = [seconds_until_free(server, watcher, case) for _ in range(TIMES)]
                    figures += shown(f"P5: {case.name}", seconds)
                if beside == ROWS - 1:
                    seconds = [next_in_line(server, watcher) for _ in range(TIMES)]
                    figures += shown("P5: a place in the hands of the next in line", seconds)
            watcher.until(0)
        failures = server.total("unroll_step_failures_total")
    return [*figures, Figure("steps that failed", failures, "steps", 0, "most")]

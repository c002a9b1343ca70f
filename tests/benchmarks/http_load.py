"""Characters a second over HTTP against the engine alone, which runs in this process on the server's core."""

import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median

from model.checkpoint import BUNDLED, load
from tests.benchmarks.client import Client
from tests.benchmarks.engine import PROMPT, EngineAlone, engine_alone
from tests.benchmarks.figures import Figure, counted
from tests.benchmarks.server_process import served
from tests.benchmarks.timing import CLIENT_CORE, SERVER_CORE, on_core, ratio, side_by_side

CHARACTERS = 2000


def streams(client: Client, count: int) -> Callable[[], float]:
    """Characters a second of as many streams at once, from the first byte sent to the last one received.

    The connections are open before; each request is streamed with the server's own interval and asks for its usage.
    """

    def run() -> float:
        with on_core(CLIENT_CORE):
            connections = [client.open() for _ in range(count)]
            start = time.perf_counter()
            for stream in connections:
                client.ask(
                    stream,
                    prompt=PROMPT,
                    max_tokens=CHARACTERS,
                    seed=random.getrandbits(53),
                    stream=True,
                    stream_options={"include_usage": True},
                )
            client.wait(lambda: all(stream.ended is not None for stream in connections))
            seconds = time.perf_counter() - start
            client.close_all()
        written = sum(stream.written for stream in connections)
        if written != count * CHARACTERS:
            raise RuntimeError(f"{counted(count, 'stream')} of {CHARACTERS:,} characters wrote {written:,}")
        return written / seconds

    return run


def alone_on_core(alone: EngineAlone, rows: int) -> Callable[[], float]:
    """Characters a second of the engine, everything of it on the core that the server has."""

    def run() -> float:
        with on_core(SERVER_CORE):
            return rows * CHARACTERS / alone.write(rows, CHARACTERS)

    return run


def measure() -> list[Figure]:
    """Server and client on a core each, the engine alone on the server's while that waits; they take turns."""
    figures = []
    with ExitStack() as stack:
        with on_core(SERVER_CORE):  # where the engine's thread is to stay
            alone = stack.enter_context(engine_alone(load(BUNDLED)))
        server = stack.enter_context(served())
        client = stack.enter_context(Client(server.port))
        for count, rounds in ((1, 15), (64, 5)):
            runs = [streams(client, count), alone_on_core(alone, count)]
            http, engine_rate = side_by_side(runs, rounds)
            name = f"{counted(count, 'stream')} of {CHARACTERS:,} characters"
            figures += [
                Figure(f"HTTP, {name}", median(http), "characters/s"),
                Figure(f"engine alone on one core, {name}", median(engine_rate), "characters/s"),
                Figure(f"HTTP against the engine alone, {name}", ratio(http, engine_rate), "× rate", 0.7),
            ]
    return figures

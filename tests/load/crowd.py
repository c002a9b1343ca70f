"""Endless streams from a process of their own, so that reading them does not hold up what is measured beside them."""

import multiprocessing
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from typing import Any

from tests.benchmarks import client as benchmark_client
from tests.benchmarks.client import Client, Stream
from tests.benchmarks.engine import random_prompt
from tests.benchmarks.timing import CLIENT_CORE, on_core

ENDLESS = 100_000  # characters of a text at most; one that ends is followed by another
BEHIND = 5  # how much nicer the crowd is than those who measure on the same core
READY_SECONDS = 60


def run(port: int, count: int, begun: int, key: str | None, ready: Event) -> None:
    """Keep so many streams open, and say when so many of them have begun, until the process is ended."""
    os.nice(BEHIND)
    if key is not None:
        benchmark_client.HEAD += b"authorization: Bearer %s\r\n" % key.encode()

    def ask(stream: Stream) -> None:
        client.ask(stream, **fields())

    with Client(port) as client:
        streams = [client.open() for _ in range(count)]
        for stream in streams:
            ask(stream)
        while True:
            for stream in client.turn():
                if stream.ended is not None:
                    ask(stream)
            if not ready.is_set() and sum(stream.first is not None for stream in streams) >= begun:
                ready.set()


def fields() -> dict[str, Any]:
    """A stream with a short prompt and a text that does not end by itself."""
    return {"prompt": random_prompt(8), "max_tokens": ENDLESS, "stream": True, "seed": random.getrandbits(53)}


@contextmanager
def crowd(port: int, count: int, begun: int, key: str | None = None) -> Iterator[None]:
    """So many endless streams, from when `begun` of them are written until the end of a `with` block."""
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=run, args=(port, count, begun, key, ready), daemon=True)
    with on_core(CLIENT_CORE):
        process.start()
    try:
        if not ready.wait(READY_SECONDS):
            raise TimeoutError(f"{begun} of {count} streams did not begin within {READY_SECONDS} s")
        yield
    finally:
        process.kill()
        process.join()

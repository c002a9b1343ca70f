"""Whether a server's memory grows while it writes many millions of characters in a mix of requests."""

import os
import random
import time
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.client import Client, Stream
from tests.benchmarks.engine import random_prompt
from tests.benchmarks.figures import Figure
from tests.benchmarks.server_process import ServerProcess, served
from tests.benchmarks.timing import CLIENT_CORE, on_core

CHARACTERS = int(os.environ.get("BENCHMARK_SOAK_CHARACTERS", "20000000"))
FIRST = 1_000_000  # characters after which the memory is what it is compared with
STREAMS = 128
CACHE_BYTES = 4_000_000  # full long before the first comparison, for a cache that fills up is no leak
SLOWEST = 20_000  # characters a second; slower than this the soak is given up
STOPS = ["\n\n", "the ", "KING", "qzx", ".\n"]


@dataclass(slots=True)
class Counts:
    """What the server was made to do."""

    characters: int = 0
    ended: int = 0
    aborted: int = 0


def any_request() -> dict[str, Any]:
    """One of a mix: short and long prompts, stop strings or none, penalties, several texts, streamed or whole."""
    prompt = random_prompt(random.choice((0, 20, 20, 100, 100, 200, 1000)))
    fields: dict[str, Any] = {"prompt": prompt, "max_tokens": random.choice((50, 2000, 2000, 8000)), "n": 1}
    if random.random() < 0.3:
        fields["stop"] = random.sample(STOPS, random.randint(1, 3))
    if random.random() < 0.2:
        fields |= {"temperature": 0.8, "top_p": 0.9, "repetition_penalty": 1.1}
    if random.random() < 0.05:
        fields["n"] = 3
    if random.random() < 0.8:
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    return fields


class Soak:
    """Connections that are always in the middle of something; some hang up in the middle, and others come."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._patience: dict[Stream, float] = {}  # when those that hang up do
        self.counts = Counts()
        for _ in range(STREAMS):
            self._begin(client.open())

    def _begin(self, stream: Stream) -> None:
        fields = any_request()
        stream.keep = random.random() < 0.1
        if stream.keep:
            self._patience[stream] = time.monotonic() + random.expovariate(2)
        self._client.ask(stream, **fields)

    def turn(self) -> None:
        """Take what comes; begin anew where an answer has ended or was given up."""
        for stream in self._client.turn():
            if stream.ended is not None:
                self.counts.characters += stream.written
                self.counts.ended += 1
                self._patience.pop(stream, None)
                self._begin(stream)
        now = time.monotonic()
        for stream in [stream for stream, until in self._patience.items() if until < now]:
            self.counts.characters += stream.shown
            self.counts.aborted += 1
            del self._patience[stream]
            self._client.close(stream)
            self._begin(self._client.open())

    def run(self, characters: int) -> None:
        """Go on until so many characters are written in all."""
        deadline = time.monotonic() + 10 + characters / SLOWEST
        while self.counts.characters < characters:
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {self.counts.characters:,} characters the soak took too long")
            self.turn()


def soak(server: ServerProcess, client: Client) -> list[Figure]:
    """The memory after the first million characters and after all, both with 128 requests under way."""
    soaking = Soak(client)
    soaking.run(min(FIRST, CHARACTERS // 2))
    first, start = server.resident_megabytes, time.monotonic()
    begun = soaking.counts.characters
    soaking.run(CHARACTERS)
    last, seconds = server.resident_megabytes, time.monotonic() - start
    counts = soaking.counts
    what = f"{counts.ended:,} requests ended, {counts.aborted:,} aborted"
    return [
        Figure(f"soak, {STREAMS} streams, {what}", (counts.characters - begun) / seconds, "characters/s"),
        Figure(f"resident memory after {CHARACTERS / 1e6:g} million characters", last, "MB"),
        Figure("the same against after the first million", last - first, "MB more", 10, "most"),
    ]


def measure() -> list[Figure]:
    """A server on one core, the client on the other; BENCHMARK_SOAK_CHARACTERS says how many characters, 20 million."""
    with (
        on_core(CLIENT_CORE),
        served("--prefix-cache-bytes", str(CACHE_BYTES)) as server,
        Client(server.port) as client,
    ):
        return soak(server, client)

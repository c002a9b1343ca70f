"""What a second process behind the port adds for short requests, which the event loop limits."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median

from tests.benchmarks.capacity import REQUESTS, SHORT, short_requests
from tests.benchmarks.client import Client
from tests.benchmarks.figures import Figure
from tests.benchmarks.server_process import served
from tests.benchmarks.timing import CLIENT_CORE, CORES, on_core, ratio, side_by_side

ROUNDS = 5
SHARED = len(CORES) < 3
"""Whether the client has no core of its own."""


@contextmanager
def serving(*flags: str) -> Iterator[Client]:
    """A client of a server that has every core, or where there are three every one but the client's."""
    own = set(CORES if SHARED else CORES[:-1])
    with served(*flags, cores=own) as server, Client(server.port) as client:
        yield client


def measure() -> list[Figure]:
    """Requests a second with one process and with two, side by side, each with as many threads in all."""
    with serving("--threads", "2") as one, serving("--threads", "2", "--processes", "2") as two, on_core(CLIENT_CORE):
        figures = []
        for tokens in (1, SHORT):
            runs = [partial(short_requests, client, tokens) for client in (one, two)]
            alone, both = side_by_side(runs, ROUNDS)
            name = f"whole texts of {tokens}, 32 at once, {'the client on one of the cores' if SHARED else 'own cores'}"
            figures += [
                Figure(f"one process, {name}", REQUESTS / median(alone), "requests/s"),
                Figure(f"two processes, {name}", REQUESTS / median(both), "requests/s"),
                Figure(f"two against one, {name}", ratio(alone, both), "×"),
            ]
    return figures

"""What a unit search of a long text leaves to the inspections of others, beside what a score of it leaves."""

import json
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx

from tests.benchmarks.engine import random_prompt
from tests.benchmarks.figures import Figure
from tests.benchmarks.server_process import served
from tests.benchmarks.timing import CLIENT_CORE, on_core, ratio, side_by_side

LONG = 400_000  # characters that are read meanwhile
SHORT = 400  # characters of an inspection, as many as the page writes
BEGUN = 0.4  # seconds until the long text is being read
SECONDS = 1.0  # that inspections are counted
ROUNDS = 7
LEAST = 0.4  # of its pace: a half is the fair share, and the wait for the call that runs comes to it
UNIT = [{"layer": 0, "part": "cell", "unit": 17}]
INSPECTIONS: dict[str, dict[str, Any]] = {
    "inspections of a unit": {"units": UNIT, "top_logprobs": 0},
    "inspections of eight alternatives": {"top_logprobs": 8},
}
BESIDE: dict[str, tuple[str, str]] = {"a score": ("/v1/score", "texts"), "a unit search": ("/v1/inspect/units", "text")}


@contextmanager
def reading(port: int, path: str, body: dict[str, Any]) -> Iterator[None]:
    """Let the server read a long text. Raises RuntimeError where its answer comes before the `with` block ends."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
        time.sleep(BEGUN)
        yield
        if select.select([connection], [], [], 0)[0]:
            raise RuntimeError(f"the server answered {path} too early: {connection.recv(500)!r}")


def pace(client: httpx.Client, body: dict[str, Any]) -> float:
    """Inspections a second, one after the other."""
    start = time.perf_counter()
    count = 0
    while (taken := time.perf_counter() - start) < SECONDS:
        client.post("/v1/inspect", json=body).raise_for_status()
        count += 1
    return count / taken


def measure() -> list[Figure]:
    """Paces alone, beside a score and beside a unit search, in turns; the server has one core."""
    long, short = random_prompt(LONG), random_prompt(SHORT)
    figures = []
    with served() as server, on_core(CLIENT_CORE), httpx.Client(base_url=f"http://127.0.0.1:{server.port}") as client:

        def beside(kind: str, body: dict[str, Any]) -> float:
            path, field = BESIDE[kind]
            with reading(server.port, path, {field: [long] if field == "texts" else long}):
                return pace(client, body)

        for name, fields in INSPECTIONS.items():
            body = {"text": short, **fields}
            runs: list[Callable[[], float]] = [
                partial(pace, client, body),
                *(partial(beside, one, body) for one in BESIDE),
            ]
            alone, scored, searched = side_by_side(runs, ROUNDS)
            figures += [
                Figure(f"{name}, alone", sorted(alone)[len(alone) // 2], "a second"),
                Figure(f"{name}, beside a score", ratio(scored, alone), "of that"),
                Figure(f"{name}, beside a unit search", ratio(searched, alone), "of that", LEAST),
            ]
    return figures

"""What one core serves, what of it the event loop takes, and so how many threads one process can feed."""

import time
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.client import Client
from tests.benchmarks.figures import Figure
from tests.benchmarks.server_process import ServerProcess, served
from tests.benchmarks.timing import CLIENT_CORE, on_core

STREAMS, CHARACTERS, ROUNDS = 64, 2_000, 5
SHORT, CONNECTIONS, REQUESTS = 16, 32, 3_000
PRICE = 0.04  # US dollars for an hour of a core: a stated price, not a measured one


def processor_seconds(server: ServerProcess) -> tuple[float, float]:
    """Processor time of the event loop's thread and of all others together."""
    spent = {
        int(task.name): int((task / "schedstat").read_text().split()[0]) / 1e9
        for task in Path(f"/proc/{server.pid}/task").iterdir()
    }
    loop = spent.pop(server.pid)
    return loop, sum(spent.values())


def texts(client: Client, stream: bool) -> float:
    """Seconds until all texts of a round have ended, streamed or not."""
    began = time.perf_counter()
    opened = [client.open() for _ in range(STREAMS)]
    for at, one in enumerate(opened):
        client.ask(one, prompt="a", max_tokens=CHARACTERS, seed=at, stream=stream)
    client.wait(lambda: all(one.ended is not None for one in opened))
    for one in opened:
        client.close(one)
    return time.perf_counter() - began


def short_requests(client: Client, tokens: int = SHORT) -> float:
    """Seconds until many short texts are answered, each client asking again when it has its answer."""
    began, asked = time.perf_counter(), CONNECTIONS
    busy = {client.open() for _ in range(CONNECTIONS)}
    for stream in busy:
        client.ask(stream, prompt="a", max_tokens=tokens)
    while busy:
        for stream in [one for one in client.turn() if one.ended is not None]:
            if asked < REQUESTS:
                asked += 1
                client.ask(stream, prompt="a", max_tokens=tokens)
            else:
                busy.discard(stream)
                client.close(stream)
    return time.perf_counter() - began


@dataclass(frozen=True)
class Spent:
    """Seconds of some texts: on the clock, of the event loop's processor time and of all other threads'."""

    clock: float
    loop: float
    others: float


def spent(server: ServerProcess, client: Client, stream: bool) -> Spent:
    """What some rounds of texts take."""
    texts(client, stream)
    loop, others = processor_seconds(server)
    clock = sum(texts(client, stream) for _ in range(ROUNDS))
    after_loop, after_others = processor_seconds(server)
    return Spent(clock, after_loop - loop, after_others - others)


def measure() -> list[Figure]:
    """Figures of one core, and what they come to at a price."""
    with served() as server, on_core(CLIENT_CORE), Client(server.port) as client:
        streamed, whole = spent(server, client, True), spent(server, client, False)
        requests = REQUESTS / short_requests(client)
        memory = server.resident_megabytes
    characters = ROUNDS * STREAMS * CHARACTERS
    rate = characters / streamed.clock
    return [
        Figure(f"one core, {STREAMS} streams of {CHARACTERS:,}", rate, "characters/s"),
        Figure(f"one core, whole texts of {SHORT}, {CONNECTIONS} at once", requests, "requests/s"),
        Figure("memory of the server after it", memory, "MB"),
        Figure(f"a million characters at {PRICE} dollars an hour of a core", 1e6 / rate / 3600 * PRICE, "dollars"),
        *(
            figure
            for how, one in (("streamed", streamed), ("whole", whole))
            for figure in (
                Figure(f"processor time of the event loop, a million {how}", 1e6 * one.loop / characters, "s"),
                Figure(f"processor time of the engine and others, a million {how}", 1e6 * one.others / characters, "s"),
                Figure(f"the event loop fills a core at, {how}", characters / one.loop, "characters/s"),
                Figure(f"engine threads that one event loop feeds, {how}", one.others / one.loop, "threads"),
            )
        ),
    ]

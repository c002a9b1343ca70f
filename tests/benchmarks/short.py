"""What a core does of short requests, of a crowd that comes at the same moment, and of events of a character each."""

import time
from statistics import median

from tests.benchmarks.capacity import processor_seconds
from tests.benchmarks.client import Client
from tests.benchmarks.figures import Figure
from tests.benchmarks.server_process import ServerProcess, served
from tests.benchmarks.timing import CLIENT_CORE, on_core

CONNECTIONS, SECONDS, ROUNDS = 16, 1.0, 7
CROWD = 128
STREAMS, CHARACTERS = 64, 600
TARGETS = {1: 3_000, 16: 2_000}  # requests a second by max_tokens
PROMPT = "The king said to"


def short(server: ServerProcess, client: Client, tokens: int) -> tuple[float, float]:
    """Whole texts a second, each client asking again when it has its answer, and the processor time of one."""
    before, began, answered = sum(processor_seconds(server)), time.perf_counter(), 0
    busy = {client.open() for _ in range(CONNECTIONS)}
    for stream in busy:
        client.ask(stream, prompt=PROMPT, max_tokens=tokens)
    while busy:
        for stream in [one for one in client.turn() if one.ended is not None]:
            answered += 1
            if time.perf_counter() < began + SECONDS:
                client.ask(stream, prompt=PROMPT, max_tokens=tokens)
            else:
                busy.discard(stream)
                client.close(stream)
    return answered / (time.perf_counter() - began), (sum(processor_seconds(server)) - before) / answered


def crowd(client: Client, tokens: int) -> tuple[float, float]:
    """Seconds until the median and the last of many streams on open connections have begun, asked for together."""
    streams = [client.open() for _ in range(CROWD)]
    client.run_for(0.2)
    began = time.perf_counter()
    for at, stream in enumerate(streams):
        client.ask(stream, prompt=f"{PROMPT} {at}", max_tokens=tokens, stream=True)
    client.wait(lambda: all(one.ended is not None for one in streams))
    firsts = sorted((one.first or one.sent) - began for one in streams)
    client.close_all()
    return median(firsts), firsts[-1]


def characters(client: Client) -> float:
    """Characters a second of many streams with an event for each."""
    streams = [client.open() for _ in range(STREAMS)]
    began = time.perf_counter()
    for at, stream in enumerate(streams):
        client.ask(stream, prompt=PROMPT, max_tokens=CHARACTERS, seed=at, stream=True, stream_interval=0)
    client.wait(lambda: all(one.ended is not None for one in streams))
    seconds = time.perf_counter() - began
    client.close_all()
    return STREAMS * CHARACTERS / seconds


def measure() -> list[Figure]:
    """The medians of some rounds, after one to warm up; the server on a core, the client on another."""
    figures = []
    with served() as server, on_core(CLIENT_CORE), Client(server.port) as client:
        for tokens, target in TARGETS.items():
            rates, costs = zip(*[short(server, client, tokens) for _ in range(ROUNDS + 1)][1:], strict=True)
            name = f"whole texts of {tokens}, {CONNECTIONS} at once"
            figures += [
                Figure(name, median(rates), "requests/s", target),
                Figure(f"processor time of one, {name}", 1e6 * median(costs), "µs"),
            ]
        for tokens in TARGETS:
            firsts, lasts = zip(*[crowd(client, tokens) for _ in range(ROUNDS + 1)][1:], strict=True)
            name = f"{CROWD} streams of {tokens} at the same moment"
            figures += [
                Figure(f"median first event, {name}", 1e3 * median(firsts), "ms", 30, "most"),
                Figure(f"last first event, {name}", 1e3 * median(lasts), "ms"),
            ]
        rate = median([characters(client) for _ in range(ROUNDS + 1)][1:])
        figures.append(Figure(f"an event a character, {STREAMS} streams", rate, "characters/s", 35_000))
    return figures

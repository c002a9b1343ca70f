"""How long one has to wait for characters: for the first, and between two while others have much to read."""

import random
from itertools import pairwise
from statistics import median

from tests.benchmarks.client import Client, Stream
from tests.benchmarks.engine import random_prompt
from tests.benchmarks.figures import Figure
from tests.benchmarks.server_process import served
from tests.benchmarks.timing import CLIENT_CORE, on_core, percentile, ratio

PROBES = 300
ENDLESS = 100_000  # characters of one text at most
WINDOW = 3.0  # seconds
LONG_PROMPT = 1_000_000


def first_character(client: Client, stream: Stream, prompt: str, **fields: str) -> float:
    """Seconds from sending a request on an open connection to its first characters; waits for its end."""
    client.ask(stream, prompt=prompt, max_tokens=8, seed=random.getrandbits(53), stream=True, **fields)
    client.wait(lambda: stream.ended is not None)
    assert stream.first is not None
    return stream.first - stream.sent


def probes(client: Client) -> list[float]:
    """Seconds to the first character of one request after the other, each with a new prompt of 64 characters."""
    stream = client.open()
    seconds = []
    for _ in range(PROBES):
        client.run_for(random.uniform(0, 0.01))  # at no fixed time of a turn, a tick or an interval of others
        seconds.append(first_character(client, stream, random_prompt(64)))
    client.close(stream)
    return seconds[10:]


def begin_endless(client: Client, stream: Stream, /, **fields: float) -> None:
    """A text as long as can be asked for."""
    client.ask(stream, prompt=random_prompt(8), max_tokens=ENDLESS, seed=random.getrandbits(53), stream=True, **fields)


def idle(client: Client) -> list[Figure]:
    """Nobody else is there."""
    seconds = probes(client)
    return [
        Figure("first character, idle, cold prompt of 64, p50", 1e3 * median(seconds), "ms", 12, "most"),
        Figure("first character, idle, cold prompt of 64, p99", 1e3 * percentile(seconds, 99), "ms", 25, "most"),
    ]


def after_a_history(client: Client) -> list[Figure]:
    """From the state after 1,000,000 characters, and from nothing, in turn."""
    stream = client.open()
    stream.keep = True
    client.ask(stream, prompt=random_prompt(LONG_PROMPT), max_tokens=1, stream=True, return_state=True)
    client.wait(lambda: stream.ended is not None, 300)
    state = b"".join(stream.kept).partition(b'"state":"')[2].partition(b'"')[0].decode()
    stream.keep = False
    fresh, gone_on = list[float](), list[float]()
    for _ in range(PROBES):
        client.run_for(random.uniform(0, 0.01))
        fresh.append(first_character(client, stream, random_prompt(8)))
        gone_on.append(first_character(client, stream, random_prompt(8), state=state))
    client.close(stream)
    name = "first character after the state of 1,000,000 characters"
    return [
        Figure(f"{name}, p50", 1e3 * median(gone_on[10:]), "ms"),
        Figure(f"{name}, against an empty history", median(gone_on[10:]) / median(fresh[10:]), "×", 1.5, "most"),
    ]


def crowded(client: Client, count: int = 64) -> list[Figure]:
    """64 endless streams run beside."""
    beside = [client.open() for _ in range(count)]
    for stream in beside:
        begin_endless(client, stream)
    client.wait(lambda: all(stream.first is not None for stream in beside))
    seconds = probes(client)
    if any(stream.ended is not None for stream in beside):
        raise RuntimeError("a stream beside ended too early")
    client.close_all()
    name = f"first character, {count} streams running, cold prompt of 64"
    return [
        Figure(f"{name}, p50", 1e3 * median(seconds), "ms"),
        Figure(f"{name}, p99", 1e3 * percentile(seconds, 99), "ms", 100, "most"),
    ]


def arrivals_of_streams(client: Client, long_prompt: str, count: int = 8) -> list[list[tuple[float, int]]]:
    """When events of 8 streams with no interval arrived in some seconds, perhaps while a long prompt is sent and read.

    What arrives together is one arrival of several events. The window ends long before such a prompt is read.
    """
    watched = [client.open() for _ in range(count)]
    for stream in watched:
        stream.watch = True
        begin_endless(client, stream, stream_interval=0)
    client.wait(lambda: all(stream.first is not None for stream in watched))
    client.run_for(0.2)
    for stream in watched:
        stream.arrivals.clear()
    if long_prompt:
        client.ask(client.open(), prompt=long_prompt, max_tokens=1, stream=True)
    client.run_for(WINDOW)
    if any(stream.ended is not None for stream in client.streams):
        raise RuntimeError("a text ended too early")
    client.close_all()
    client.run_for(0.3)  # until the server has let go of them
    return [stream.arrivals for stream in watched]


def gaps(arrivals: list[list[tuple[float, int]]]) -> tuple[float, float, float]:
    """Seconds: the 99th percentile between two arrivals, and between two characters, also of one; the longest."""
    between = [(at - before, events) for times in arrivals for (before, _), (at, events) in pairwise(times)]
    of_arrivals = [seconds for seconds, _ in between]
    of_characters = [0.0] * sum(events - 1 for _, events in between) + of_arrivals
    return percentile(of_arrivals, 99), percentile(of_characters, 99), max(of_arrivals)


def beside_a_long_prompt(client: Client) -> list[Figure]:
    """Windows without and with a client that sends 1,000,000 characters of prompt, in turn, each with new streams.

    Gaps between arrivals count; those between characters, of which several arrive together, are smaller.
    """
    windows = [
        (gaps(arrivals_of_streams(client, random_prompt(LONG_PROMPT))), gaps(arrivals_of_streams(client, "")))
        for _ in range(4)
    ][1:]
    loud, quiet = ([both[at][0] for both in windows] for at in (0, 1))
    prompt = "while 1,000,000 characters of prompt are sent and read"
    name = "gap between arrivals of 8 streams, p99"
    characters = median(both[0][1] / both[1][1] for both in windows)
    return [
        Figure(name, 1e3 * median(quiet), "ms"),
        Figure(f"{name}, {prompt}", 1e3 * median(loud), "ms"),
        Figure(f"{name}, {prompt}, against without", ratio(loud, quiet), "×", 2, "most"),
        Figure("the same between characters, of which several may arrive together", characters, "×"),
        Figure(f"longest gap of 8 streams, {prompt}", 1e3 * median(both[0][2] for both in windows), "ms"),
        Figure("longest gap of 8 streams without", 1e3 * median(both[1][2] for both in windows), "ms"),
    ]


def cached_prompt(client: Client) -> list[Figure]:
    """The first character after a prompt of 4,000 characters, sent twice: cold, then at once from the cache."""
    stream, cold, cached = client.open(), [], []
    for _ in range(25):
        prompt = random_prompt(4000)
        cold.append(first_character(client, stream, prompt))
        cached.append(first_character(client, stream, prompt))
    client.close(stream)
    name = "cached prompt of 4,000 characters"
    return [
        Figure(f"{name}, HTTP, first character", 1e3 * median(cached[1:]), "ms"),
        Figure(f"{name}, HTTP, against a cold one", ratio(cold[1:], cached[1:]), "× faster"),
    ]


def measure() -> list[Figure]:
    """A server with its defaults on one core, the client on the other."""
    with on_core(CLIENT_CORE), served() as server, Client(server.port) as client:
        return [
            *idle(client),
            *after_a_history(client),
            *crowded(client),
            *beside_a_long_prompt(client),
            *cached_prompt(client),
        ]

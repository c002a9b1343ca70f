"""What strangers and greedy clients do to a server at its default settings, and what it and others keep meanwhile."""

import json
import os
import resource
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryFile

from tests.benchmarks.figures import Figure
from tests.benchmarks.timing import CLIENT_CORE, SERVER_CORE, on_core, percentile
from tests.load import greedy, honest
from tests.load.greedy import KEY, connected, together
from tests.load.process import Running, unroll_serve
from tests.load.wire import Answer, HungUpError, Talk, request

LONGEST = float(os.environ.get("LOAD_SECONDS", "10"))  # of each attack
STARTING = 1.5  # seconds in which the process that attacks starts
ALONE = 3.0  # seconds of the honest stream before
PATTERN_SECONDS = 0.5  # between two patterns of an honest client
PACE, PINNED_PACE = 0.8, 0.4  # of the honest stream, of what it had before
SPARE = 64 << 20  # bytes a server may map beyond what it has, where that is limited
RECOVERS = 30.0  # seconds until it takes work again, or has ended
LIMITED = (
    "100 unfinished bodies of 8 MB",
    "prompts of a megabyte, given up",
    "1,152 texts with long stop strings, given up",
    "128 streams by the character",
)
PAUSE = 0.01  # seconds between two probes
P99, WORST = 20.0, 100.0  # milliseconds of /health/live
ABOVE = 256e6 + 100e6  # bytes above the memory before: the ledger and what is not charged
CROWD = 2_080
BODIES, BODY = 100, 8 << 20
HEAD = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def head(key: str | None, *lines: str) -> bytes:
    """The headers of a request with a body."""
    own = [] if key is None else [f"Authorization: Bearer {key}"]
    return (HEAD + "".join(f"{line}\r\n" for line in (*own, *lines)) + "\r\n").encode()


def silent(port: int, until: float) -> None:
    """Connections that say nothing, from one address, anew as they are ended."""
    with ExitStack() as stack:
        for _ in range(CROWD):
            with suppress(OSError):
                stack.enter_context(connected(port, 5))
        time.sleep(max(0.0, until - time.monotonic()))


def in_chunks(key: str | None) -> Callable[[int, float], None]:
    """Bodies in chunks of one byte, again and again."""
    burst = head(key, "Transfer-Encoding: chunked") + b"1\r\na\r\n" * 42_000

    def attack(port: int, until: float) -> None:
        def one() -> None:
            while time.monotonic() < until:
                with suppress(OSError), connected(port, 5) as client:
                    client.sendall(burst)
                    client.recv(65_536)

        together(one, 16)

    return attack


def unfinished(port: int, until: float) -> None:
    """Many large bodies that never end."""
    with ExitStack() as stack:
        for _ in range(BODIES):
            with suppress(OSError):
                client = stack.enter_context(connected(port, 2))
                client.sendall(head(KEY, f"Content-Length: {BODY}") + b'{"prompt": "' + b"a" * (BODY - 1_000))
        time.sleep(max(0.0, until - time.monotonic()))


def repeated(body: bytes, path: str = "/v1/completions") -> Callable[[int, float], None]:
    """A body that is slow to look at, again and again."""
    data = request(path, key=KEY, body=body)

    def attack(port: int, until: float) -> None:
        def one() -> None:
            while time.monotonic() < until:
                with suppress(OSError), connected(port, 5) as client:
                    client.sendall(data)
                    client.recv(65_536)

        together(one, 4)

    return attack


BIASES = json.dumps({"prompt": "a", "logit_bias": {f"x{key}": 1 for key in range(9_000)}}).encode()
EMPTY = ("[" + ",".join(["[]"] * 1_400_000) + "]").encode("utf-16")
ATTACKS: dict[str, Callable[[int, float], None]] = {
    f"{CROWD:,} silent connections": silent,
    "bodies in chunks of a byte, without a key": in_chunks(None),
    "bodies in chunks of a byte": in_chunks(KEY),
    f"{BODIES} unfinished bodies of 8 MB": unfinished,
    "wrong biases": repeated(BIASES),
    "UTF-16": repeated(EMPTY, "/detokenize"),
    "quotation marks": repeated(b'"' * BODY),
    "long numbers": repeated(b"[" + b",".join([b"9" * 500] * 16_000) + b"]"),
    "unknown fields": repeated(json.dumps({"prompt": "a", **{f"x{key}": 1 for key in range(9_000)}}).encode()),
    **greedy.ATTACKS,
}


def attack(name: str, port: int, until: float) -> None:
    """Attack a port until a time; in a process of its own, which stands back."""
    os.nice(19)
    ATTACKS[name](port, until)


@contextmanager
def under(name: str, port: int) -> Iterator[float]:
    """An attack beside a `with` block; until when it lasts."""
    until = time.monotonic() + LONGEST
    process = get_context("spawn").Process(target=attack, args=(name, port, until), daemon=True)
    process.start()
    try:
        yield until
    finally:
        process.join(LONGEST)
        process.kill()
        process.join()


@dataclass
class Seen:
    """What was seen of a server for a while.

    milliseconds: of each probe of life. megabytes: the most memory. patterns: statuses of an honest client's patterns.
    """

    milliseconds: list[float] = field(default_factory=list)
    megabytes: float = 0.0
    patterns: Counter[int] = field(default_factory=Counter)


def looked(server: Running, until: float) -> Seen:
    """Probes of life, each on a connection of its own, and beside them now and then an honest client's pattern."""
    seen = Seen()
    patterns = threading.Thread(target=patterned, args=(server.port, until, seen.patterns))
    patterns.start()
    while time.monotonic() < until:
        began = time.perf_counter()
        answer = asked_once(server.port, request("/health/live"))
        if answer.status != 200:
            raise RuntimeError(f"/health/live says {answer.status}")
        seen.milliseconds.append(1e3 * (time.perf_counter() - began))
        seen.megabytes = max(seen.megabytes, server.resident_megabytes)
        time.sleep(PAUSE)
    patterns.join()
    return seen


def patterned(port: int, until: float, statuses: Counter[int]) -> None:
    """Ask for a new pattern now and then."""
    number = 0
    while time.monotonic() < until:
        number += 1
        statuses[pattern(port, number)] += 1
        time.sleep(PATTERN_SECONDS)


def pattern(port: int, number: int) -> int:
    """The status of an honest client's request with a new pattern."""
    fields = {"prompt": "a", "max_tokens": 20, "guided_regex": f"[a-z]{{{number + 1}}}( [a-z]+)*"}
    return asked_once(port, request("/v1/completions", fields, key=honest.KEY)).status


def asked_once(port: int, data: bytes) -> Answer:
    """An answer on a connection of its own."""
    talk = Talk(port)
    try:
        return talk.ask(data)
    finally:
        talk.close()


def attacked(name: str, core: int | None) -> list[Figure]:
    """An attack against a server of its own, on one core or on all."""
    place, least = ("two cores", PACE) if core is None else ("one core", PINNED_PACE)
    with TemporaryFile() as log, unroll_serve(key=f"{KEY},{honest.KEY}", core=core, stderr=log) as server:
        stream = honest.Honest(server.port)
        stream.start()
        time.sleep(1)
        pattern(server.port, 0)  # starts the process that compiles
        base, began = server.resident_megabytes, time.monotonic()
        time.sleep(ALONE)
        alone = stream.pace(began, time.monotonic())
        with under(name, server.port) as until:
            time.sleep(STARTING)  # of the process that attacks
            began = time.monotonic()
            seen = looked(server, until)
            pace = stream.pace(began, time.monotonic())
        stream.stop()
        log.seek(0)
        faults = log.read().count(b"Traceback")
    label, refused = f"{name}, {place}", sum(count for status, count in seen.patterns.items() if status != 200)
    figures = [
        Figure(f"{label}: memory above before", seen.megabytes - base, "MB", ABOVE / 1e6, "most"),
        Figure(f"{label}: honest stream, of {alone:,.0f} characters/s alone", pace / alone, "x", least),
        Figure(f"{label}: honest streams cut off", len(stream.failed), "", 0, "most"),
        Figure(f"{label}: exceptions in the log", faults, "", 0, "most"),
        Figure(f"{label}: honest patterns refused, of {dict(seen.patterns)}", refused, "", 0, "most"),
    ]
    if core is not None:
        figures += [
            Figure(
                f"{label}: /health/live, median of {len(seen.milliseconds)}", percentile(seen.milliseconds, 50), "ms"
            ),
            Figure(f"{label}: /health/live, p99", percentile(seen.milliseconds, 99), "ms", P99, "most"),
            Figure(f"{label}: /health/live, most", max(seen.milliseconds), "ms", WORST, "most"),
        ]
    return figures


def limited(name: str) -> list[Figure]:
    """An attack against a server that may map little more than it has (`ulimit -v`): it recovers, or ends."""
    with unroll_serve(key=KEY) as server:
        status = Path(f"/proc/{server.pid}/status").read_text("ascii")
        size = int(status.partition("VmSize:")[2].split()[0]) << 10
        server.limit(resource.RLIMIT_AS, size + SPARE)
        with under(name, server.port) as until:
            time.sleep(max(0.0, until - time.monotonic()))
        began, short = time.monotonic(), request("/v1/completions", {"prompt": "a", "max_tokens": 3}, key=KEY)
        answered = False
        while not answered and time.monotonic() < began + RECOVERS and server.process.poll() is None:
            with suppress(OSError, HungUpError):
                answered = asked_once(server.port, short).status == 200
            time.sleep(0.05)
        ended = bool(server.process.poll())
        seconds = time.monotonic() - began
    what = "ends with a status" if ended else "takes work again"
    figure = f"{name}, ulimit -v with {SPARE >> 20} MB to spare: {what} after"
    return [Figure(figure, seconds if answered or ended else float("inf"), "s", RECOVERS, "most")]


def measure(only: str | None = None) -> Iterator[Figure]:
    """Each attack for some seconds against servers of its own; clients and probes on the other core than the pinned."""
    for name in ATTACKS:
        if only is None or only in name:
            yield from attacked(name, None)
            with on_core(CLIENT_CORE):
                yield from attacked(name, SERVER_CORE)
    for name in LIMITED:
        if only is None or only in "ulimit":
            yield from limited(name)

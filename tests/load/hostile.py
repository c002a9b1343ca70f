"""What strangers and greedy clients do to a server at its default settings, and what it and others keep meanwhile."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from tests.benchmarks.figures import Figure
from tests.benchmarks.timing import CLIENT_CORE, on_core, percentile
from tests.load import greedy
from tests.load.greedy import KEY, together
from tests.load.process import Running, unroll_serve
from tests.load.wire import Talk, request

LONGEST = 10.0  # seconds of each attack
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
                stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
        time.sleep(max(0.0, until - time.monotonic()))


def in_chunks(key: str | None) -> Callable[[int, float], None]:
    """Bodies in chunks of one byte, again and again."""
    burst = head(key, "Transfer-Encoding: chunked") + b"1\r\na\r\n" * 42_000

    def attack(port: int, until: float) -> None:
        def one() -> None:
            while time.monotonic() < until:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as client:
                    client.sendall(burst)
                    client.recv(65_536)

        together(one, 16)

    return attack


def unfinished(port: int, until: float) -> None:
    """Many large bodies that never end."""
    with ExitStack() as stack:
        for _ in range(BODIES):
            with suppress(OSError):
                client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=2))
                client.sendall(head(KEY, f"Content-Length: {BODY}") + b'{"prompt": "' + b"a" * (BODY - 1_000))
        time.sleep(max(0.0, until - time.monotonic()))


def repeated(body: bytes, path: str = "/v1/completions") -> Callable[[int, float], None]:
    """A body that is slow to look at, again and again."""
    data = request(path, key=KEY, body=body)

    def attack(port: int, until: float) -> None:
        def one() -> None:
            while time.monotonic() < until:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as client:
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


@contextmanager
def under(attack: Callable[[int, float], None], port: int) -> Iterator[float]:
    """An attack beside a `with` block; until when it lasts."""
    until = time.monotonic() + LONGEST
    thread = threading.Thread(target=attack, args=(port, until))
    thread.start()
    try:
        yield until
    finally:
        thread.join()


def probed(server: Running, until: float) -> tuple[list[float], float]:
    """Milliseconds of probes of life, each on a connection of its own, and the most memory seen meanwhile."""
    taken, most = [], 0.0
    while time.monotonic() < until:
        began = time.perf_counter()
        talk = Talk(server.port)
        answer = talk.ask(request("/health/live"))
        talk.close()
        if answer.status != 200:
            raise RuntimeError(f"/health/live says {answer.status}")
        taken.append(1e3 * (time.perf_counter() - began))
        most = max(most, server.resident_megabytes)
        time.sleep(PAUSE)
    return taken, most


def measure() -> list[Figure]:
    """Each attack for some seconds against a server of its own on one core; clients and probes on the other."""
    figures = []
    for name, attack in ATTACKS.items():
        with on_core(CLIENT_CORE), unroll_serve(key=KEY) as server:
            base = server.resident_megabytes
            with under(attack, server.port) as until:
                taken, most = probed(server, until)
            figures += [
                Figure(f"{name}: /health/live, p99 of {len(taken)}", percentile(taken, 99), "ms", P99, "most"),
                Figure(f"{name}: /health/live, most", max(taken), "ms", WORST, "most"),
                Figure(f"{name}: memory above before", most - base, "MB", ABOVE / 1e6, "most"),
            ]
    return figures

"""How long large bodies hold up everybody else: the event loop's pauses while they arrive, one kind after the other."""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from tests.benchmarks.figures import Figure
from tests.benchmarks.timing import percentile
from tests.load.process import Running
from tests.load.wire import Talk, request

BYTES = (8 << 20) - 1_000
TIMES = 5  # each kind of body is sent, one right after the other
MOST = 50.0  # milliseconds a probe may take meanwhile: a tenth of the shortest time-out anybody gives a probe
LOOK = request("/health/live")


def bodies() -> Iterator[tuple[str, str, bytes]]:
    """Name, path and bytes: prompts as long as they may be, and bodies as large as they may be, valid and not."""
    completions = "/v1/completions"
    yield "a prompt of 1M characters", completions, json.dumps({"prompt": "a" * 1_000_000, "max_tokens": 1}).encode()
    escaped = b'{"prompt": "' + b"\\u00e9" * 1_000_000 + b'", "max_tokens": 1}'
    yield "a prompt of 1M characters, escaped", completions, escaped
    yield "a prompt of 1M ids", completions, json.dumps({"prompt": [65] * 1_000_000, "max_tokens": 1}).encode()
    yield "a prompt of 8 MB, too long", completions, b'{"prompt": "' + b"a" * BYTES + b'"}'
    yield "8 MB of ids, too many", completions, b'{"prompt": [' + b"1," * (BYTES // 2) + b"1]}"
    yield "8 MB of unknown fields", completions, _fields()
    yield "8 MB of unfinished JSON", completions, b'{"prompt": "a", "x": [' + b"[1]," * (BYTES // 4)
    yield "8 MB of wrong types", completions, b'{"prompt": [' + b"{}," * (BYTES // 3) + b"1]}"
    yield "8 MB of spaces", completions, b" " * BYTES
    yield "texts of 8 MB to score", "/v1/score", b'{"texts": ["' + b"a" * BYTES + b'"]}'
    yield "1M characters to tokenize", "/tokenize", json.dumps({"prompt": "a" * 1_000_000}).encode()


def _fields() -> bytes:
    fields = ",".join(f'"field{number}":1' for number in range(BYTES // 16))
    return b'{"prompt": "a", ' + fields.encode() + b"}"


class Prober(threading.Thread):
    """Asks whether the server is alive, again and again, until told to stop; seconds: of each answer."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._port = port
        self._over = threading.Event()

    def run(self) -> None:
        """Ask."""
        talk = Talk(self._port)
        while not self._over.wait(random.uniform(0, 0.004)):
            began = time.perf_counter()
            talk.ask(LOOK)
            self.seconds.append(time.perf_counter() - began)
        talk.close()

    def stop(self) -> None:
        """Stop asking."""
        self._over.set()
        self.join()


def send(server: Running, path: str, body: bytes, key: str) -> int:
    """Send a body on a connection of its own; the status of its answer, or 0 where it takes long and is given up."""
    talk = Talk(server.port)
    talk.socket.settimeout(3)
    try:
        return talk.ask(request(path, body=body, key=key)).status
    except TimeoutError:
        return 0
    finally:
        talk.close()


def measure(server: Running, keys: Sequence[str]) -> list[Figure]:
    """Probes of a saturated server while bodies of each kind arrive."""
    figures = []
    for name, path, body in bodies():
        prober = Prober(server.port)
        prober.start()
        statuses = Counter(send(server, path, body, random.choice(keys)) for _ in range(TIMES))
        prober.stop()
        answers = ", ".join(f"{count} × {status or 'given up'}" for status, count in statuses.items())
        figures += [
            Figure(f"/health/live beside {name} ({answers}), p99", 1e3 * percentile(prober.seconds, 99), "ms"),
            Figure(f"/health/live beside {name}, most", 1e3 * max(prober.seconds), "ms", MOST, "most"),
        ]
    return figures

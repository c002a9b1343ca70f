"""What greedy clients with a key ask for: work for those who have gone, answers nobody reads, all slots for one."""

import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any

from tests.load.wire import request

KEY = "the-key-of-a-client-of-ours"
"""What opens the server."""
ADDRESS = "127.0.0.2"
"""Where they come from."""
ROUTE = "/v1/completions"
SILENCE = 4.0  # seconds in which a client reads nothing

STOPS = ["a" * 1023 + chr(97 + at) for at in range(16)]
MANY = {"prompt": [""] * 128, "max_tokens": 1, "stop": STOPS}
BIASED = {"prompt": [""] * 72, "n": 16, "max_tokens": 1, "logit_bias": {str(at): 1 for at in range(256, 315)}}
STREAM = {"stream": True, "stream_interval": 0, "temperature": 1.5}
CROWD = {"prompt": [""] * 128, "n": 9, "max_tokens": 9_000, "stream_options": {"continuous_usage_stats": True}}
ECHO = {"prompt": "the " * 37_500, "max_tokens": 0, "echo": True, "logprobs": 100}
EMOJI = json.dumps({"inputs": "\U0001f600" * 1_000_000}, ensure_ascii=False).encode()

Attack = Callable[[int, float], None]
"""Attacks a port until a time, by `time.monotonic`."""


def connected(port: int, seconds: float) -> socket.socket:
    """A connection from another address than that of honest clients and probes."""
    return socket.create_connection(("127.0.0.1", port), seconds, (ADDRESS, 0))


def sent(fields: dict[str, Any] | bytes, path: str = ROUTE) -> bytes:
    """A request as it is sent."""
    return request(path, key=KEY, body=fields if isinstance(fields, bytes) else json.dumps(fields).encode())


def together(work: Callable[[], None], count: int) -> None:
    """Do the same in some threads at once, to their end."""
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def given_up(data: bytes, count: int = 40) -> Attack:
    """Requests whose clients leave as soon as they are sent, again and again."""

    def attack(port: int, until: float) -> None:
        while time.monotonic() < until:
            for _ in range(count):
                with suppress(OSError), connected(port, 5) as client:
                    client.sendall(data)
            time.sleep(0.2)

    return attack


def unread(data: bytes, count: int, rate: int | None = None) -> Attack:
    """Requests whose answers are read after a while of silence; at most at a `rate` of bytes a second."""

    def attack(port: int, until: float) -> None:
        def one() -> None:
            while time.monotonic() < until:
                with suppress(OSError), connected(port, 1) as client:
                    client.sendall(data)
                    time.sleep(SILENCE)
                    while time.monotonic() < until and client.recv(65_536 if rate is None else rate // 20):
                        if rate is not None:
                            time.sleep(0.05)

        together(one, count)

    return attack


def patterns(port: int, until: float) -> None:
    """Schemas that take long to compile, each another, more at once than the queue holds."""
    numbers = count()

    def one() -> None:
        while time.monotonic() < until:
            schema = {"enum": [f"{next(numbers):05}-{at:05}" for at in range(2_000)]}
            with suppress(OSError), connected(port, 1) as client:
                client.sendall(sent({"prompt": "a", "max_tokens": 20, "guided_json": schema}))
                client.recv(65_536)

    together(one, 80)


ATTACKS: dict[str, Attack] = {
    "2,048 texts with long stop strings, given up": given_up(sent({**MANY, "n": 16})),
    "1,152 texts with long stop strings, given up": given_up(sent({**MANY, "n": 9})),
    "1,152 texts with biases, given up": given_up(sent(BIASED)),
    "prompts of a megabyte, given up": given_up(sent({"prompt": "the " * 250_000, "max_tokens": 1})),
    "64 texts by the character, unread": unread(sent({"prompt": "a", "n": 16, "max_tokens": 50_000, **STREAM}), 4),
    "1,152 texts by the character with usage, unread": unread(sent({**CROWD, **STREAM}), 1),
    "128 streams by the character": unread(sent({"prompt": "a", "max_tokens": 50_000, **STREAM}), 128),
    "answers of 211 MB to 4 MB, read slowly": unread(sent(EMOJI, "/tokenize"), 8, 100_000),
    "an answer of 410 MB": unread(sent(ECHO), 2),
    "80 clients with slow schemas": patterns,
    "an event of 410 MB": unread(sent({**ECHO, "stream": True}), 2),
}

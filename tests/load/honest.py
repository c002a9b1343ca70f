"""A client with a key of its own that reads a stream all the while, and how fast it comes."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing

from tests.load.wire import request

KEY = "the-key-of-an-honest-client"
CHARACTERS = 100_000  # of a text; the next one follows
FIELDS = {"prompt": "The ", "max_tokens": CHARACTERS, "temperature": 1.0, "stream": True}


class Honest(threading.Thread):
    """Reads texts by streams until told to stop.

    seen: (time, characters) of each piece. failed: what ended a stream before its end.
    """

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.seen: list[tuple[float, int]] = []
        self.failed: list[str] = []
        self._port = port
        self._over = threading.Event()

    def run(self) -> None:
        """Read one text after the other."""
        while not self._over.is_set():
            try:
                for count in self._pieces():
                    self.seen.append((time.monotonic(), count))
                    if self._over.is_set():
                        return
            except (OSError, ValueError) as error:
                self.failed.append(repr(error))
                time.sleep(0.05)

    def stop(self) -> None:
        """Stop reading."""
        self._over.set()
        self.join(10)

    def pace(self, since: float, until: float) -> float:
        """Characters a second between two times."""
        return sum(count for at, count in self.seen if since <= at < until) / (until - since)

    def _pieces(self) -> Iterator[int]:
        """The characters of each piece of a text."""
        with closing(socket.create_connection(("127.0.0.1", self._port), timeout=10)) as connection:
            connection.sendall(request("/v1/completions", FIELDS, key=KEY))
            with connection.makefile("rb") as lines:
                status = lines.readline()
                if b" 200 " not in status:
                    raise ValueError(status.decode("latin-1").strip())
                for line in lines:
                    if line == b"data: [DONE]\n":
                        return
                    if line.startswith(b"data: {"):
                        event = json.loads(line[6:])
                        if "error" in event:
                            raise ValueError(event["error"]["code"])
                        yield sum(len(choice["text"]) for choice in event["choices"])

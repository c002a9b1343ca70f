"""Streams that survive: servers are killed in the middle of texts, and another process completes each of them.

LOAD_KILLS: how many servers are killed, 1,000 if not set; each writes `STREAMS` texts then.
"""

import contextlib
import http.client
import json
import os
import random
import signal
import threading
import time
from typing import Any

from rich.console import Console

from tests.benchmarks.figures import Figure
from tests.load.process import Running, unroll_serve

KILLS = int(os.environ.get("LOAD_KILLS", "1000"))
STREAMS = 4
CHARACTERS = 4_000
LATEST = 0.25  # seconds after the first event until the kill
FLAGS = ("--prefix-cache-bytes", "0")


def body_of(at: int) -> dict[str, Any]:
    """One of many different texts; some draw their seed at random, some report how likely characters were."""
    body = {"prompt": f"Scene {at}.\n", "max_tokens": CHARACTERS, "stream": True, "stream_interval": at % 3 * 10}
    return body | ({"seed": at} if at % 2 else {}) | ({"logprobs": 1} if at % 5 == 0 else {})


class Reader:
    """Reads one stream until it ends or breaks; `received` holds its bytes."""

    def __init__(self, running: Running, body: dict[str, Any], last: str = "") -> None:
        self.received = b""
        self.begun = threading.Event()
        self._port, self._body, self._last = running.port, body, last
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        headers = {"Host": "localhost", "Content-Type": "application/json"}
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request(
                *("POST", "/v1/completions", json.dumps(self._body)),
                headers=headers | ({"Last-Event-ID": self._last} if self._last else {}),
            )
            answer = connection.getresponse()
            while piece := answer.read1():
                self.received += piece
                self.begun.set()
        self.begun.set()
        connection.close()

    def events(self) -> list[tuple[str, str]]:
        """The data and id of each whole event."""
        self.thread.join(60)
        found = []
        for block in self.received.decode().split("\n\n")[:-1]:
            lines = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
            found.append((lines["data"], lines["id"]))
        return found


def told(events: list[tuple[str, str]]) -> tuple[str, list[float], str | None]:
    """The text of some events, what was reported of its characters, and why it ended."""
    text, reported, reason = "", list[float](), None
    for data, _ in events:
        if data != "[DONE]":
            (choice,) = json.loads(data)["choices"]
            text += choice["text"]
            reported += choice["logprobs"]["token_logprobs"] if choice["logprobs"] else []
            reason = choice["finish_reason"] or reason
    return text, reported, reason


def killed(at: int) -> list[tuple[dict[str, Any], list[tuple[str, str]]]]:
    """The bodies of some streams, and their events until their server was killed."""
    bodies = [body_of(at * STREAMS + one) for one in range(STREAMS)]
    with unroll_serve(*FLAGS) as running:
        readers = [Reader(running, body) for body in bodies]
        for reader in readers:
            reader.begun.wait(30)
        time.sleep(random.uniform(0, LATEST))
        running.signal(signal.SIGKILL)
        return list(zip(bodies, [reader.events() for reader in readers], strict=True))


def completed(other: Running, body: dict[str, Any], begun: list[tuple[str, str]]) -> bool:
    """Whether another process completes a text as if nothing had happened."""
    seed = json.loads(begun[0][0])["seed"]
    whole = Reader(other, {**body, "seed": seed}).events()
    if begun[-1][0] == "[DONE]":
        return told(begun) == told(whole)
    rest = Reader(other, body, begun[-1][1]).events()
    return told(begun + rest) == told(whole) and rest[-1][0] == "[DONE]" and told(whole)[2] == "length"


def measure() -> list[Figure]:
    """Kill servers, and complete what they wrote."""
    console, same, middle, texts = Console(stderr=True), 0, 0, 0
    with unroll_serve(*FLAGS) as other:
        for at in range(KILLS):
            for body, begun in killed(at):
                if begun:
                    texts += 1
                    middle += begun[-1][0] != "[DONE]"
                    if completed(other, body, begun):
                        same += 1
                    else:
                        console.print(f"differs: {json.dumps(body)} after the event {begun[-1][1]}")
            if at % 50 == 49:
                console.print(f"{at + 1:,} kills: {same:,} of {texts:,} texts identical, {middle:,} cut in the middle")
    return [
        Figure("servers killed in the middle of streams", KILLS, "kills"),
        Figure("texts that were cut in the middle", middle, "texts"),
        Figure("texts completed identical by another process", 100 * same / texts, "%", 100),
    ]

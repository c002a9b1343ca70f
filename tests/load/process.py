"""The program `unroll serve` in a process of its own: what it uses, what it counts, and how it ends."""

import http.client
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.benchmarks.server_process import REPOSITORY, ServerProcess
from tests.benchmarks.timing import SERVER_CORE, on_core

SERVE = ("-m", "unroll", "serve")
FAULTY = ("-m", "tests.load.faulty")

Sample = tuple[str, dict[str, str], float]


@dataclass(frozen=True)
class Running(ServerProcess):
    """A server that answers.

    process: its handle. key: what opens it, if anything has to.
    """

    process: subprocess.Popen[bytes]
    key: str | None = None

    @property
    def descriptors(self) -> int:
        """Files and sockets it has open."""
        return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())

    def kept_open(self, enough: int = 0, seconds: float = 1) -> int:
        """The fewest descriptors seen in some seconds, or until there are few enough.

        A server closes its end a moment after the client has closed the other, so that a single look finds
        connections that are going; what is lost stays in every look.
        """
        deadline = time.monotonic() + seconds
        fewest = self.descriptors
        while fewest > enough and time.monotonic() < deadline:
            time.sleep(0.02)
            fewest = min(fewest, self.descriptors)
        return fewest

    @property
    def threads(self) -> int:
        """Threads it has."""
        return sum(1 for _ in Path(f"/proc/{self.pid}/task").iterdir())

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of an answer, on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Host": "localhost", "Connection": "close"}
        connection.request("GET", path, headers=headers | ({"Authorization": f"Bearer {self.key}"} if self.key else {}))
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, body

    def samples(self) -> list[Sample]:
        """Name, labels and value of everything it counts."""
        status, body = self.get("/metrics")
        if status != 200:
            raise RuntimeError(f"/metrics answered {status}: {body[:200]}")
        families = text_string_to_metric_families(body)
        return [(one.name, one.labels, one.value) for family in families for one in family.samples]

    def total(self, name: str, **labels: str) -> float:
        """The sum of what it counts under a name, of the samples that have these labels."""
        return total(self.samples(), name, **labels)

    @property
    def texts(self) -> int:
        """Texts that have a place or wait for one."""
        health = json.loads(self.get("/health")[1])
        return int(health["running"]) + int(health["waiting"])

    def resting(self, seconds: float = 30) -> bool:
        """Whether it comes to rest: no text running, none waiting."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = self.samples()
            if not total(found, "unroll_requests_running") and not total(found, "unroll_requests_waiting"):
                return True
            time.sleep(0.05)
        return False

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def limit(self, kind: int, most: int) -> None:
        """Bound what it may use from now on, as `ulimit` does: a kind is one of resource.RLIMIT_…"""
        resource.prlimit(self.pid, kind, (most, resource.prlimit(self.pid, kind)[1]))

    def ended(self, seconds: float) -> tuple[int, float]:
        """Its exit status and the seconds until then. Raises subprocess.TimeoutExpired where it does not end."""
        began = time.monotonic()
        return self.process.wait(seconds), time.monotonic() - began


def total(samples: list[Sample], name: str, **labels: str) -> float:
    """The sum of the samples of a name that have these labels."""
    return sum(value for one, own, value in samples if one == name and labels.items() <= own.items())


@contextmanager
def unroll_serve(
    *arguments: str,
    program: tuple[str, ...] = SERVE,
    key: str | None = None,
    core: int | None = SERVER_CORE,
    stderr: Any = subprocess.DEVNULL,
) -> Iterator[Running]:
    """A server with some flags on a free port, on a core of its own, from when it answers to the end of the block.

    key: what opens it, or several, separated by commas.
    """
    environment = os.environ | {"PYTHONUNBUFFERED": "1"} | ({} if key is None else {"UNROLL_API_KEYS": key})
    command = [sys.executable, *program, "--port", "0", *arguments]

    def start() -> "subprocess.Popen[bytes]":
        return subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=stderr)

    process = _on(core, start)
    try:
        yield Running(process.pid, _port(process), process, None if key is None else key.partition(",")[0])
    finally:
        process.kill()
        process.communicate()


def _on(core: int | None, start: Callable[[], "subprocess.Popen[bytes]"]) -> "subprocess.Popen[bytes]":
    if core is None:
        return start()
    with on_core(core):
        return start()


def _port(process: "subprocess.Popen[bytes]") -> int:
    """Where it listens; its first line says so."""
    assert process.stdout is not None
    said = process.stdout.readline()
    found = re.search(rb"http://127\.0\.0\.1:(\d+)\s", said)
    if found is None:
        raise RuntimeError(f"the server did not start; it said {said!r}")
    return int(found[1])

"""A server of the bundled model in a process of its own, on a core of its own."""

import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.timing import SERVER_CORE, on_core

REPOSITORY = Path(__file__).parents[2]
START_SECONDS = 60


@dataclass(frozen=True)
class ServerProcess:
    """A server that answers."""

    pid: int
    port: int

    @property
    def resident_megabytes(self) -> float:
        """The memory it has now; not a number where the system does not say."""
        status = Path(f"/proc/{self.pid}/status")
        found = re.search(r"VmRSS:\s+(\d+) kB", status.read_text() if status.exists() else "")
        return int(found[1]) * 1024 / 1e6 if found else float("nan")


@contextmanager
def served(*arguments: str, cores: Collection[int] = (SERVER_CORE,)) -> Iterator[ServerProcess]:
    """`unroll serve` with some flags on a free port, from when it answers to the end of a `with` block.

    cores: those it may use.
    """
    with on_core(*cores):
        process = subprocess.Popen(
            [sys.executable, "-m", "unroll", "serve", "--port", "0", *arguments],
            cwd=REPOSITORY,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    try:
        yield ServerProcess(process.pid, _port(process))
    finally:
        process.kill()
        process.communicate()


def _port(process: subprocess.Popen[bytes]) -> int:
    """Where it listens; the server says so once it answers."""
    assert process.stdout is not None
    said, deadline = b"", time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if select.select([process.stdout], [], [], 0.1)[0]:
            more = os.read(process.stdout.fileno(), 4096)
            said += more
            if found := re.search(rb"http://127\.0\.0\.1:(\d+)\s", said):
                return int(found[1])
            if not more:
                break
    raise RuntimeError(f"the server did not start; it said {said!r}")

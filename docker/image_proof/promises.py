"""What the proofs of both images share: promises with what was seen, sizes, requests, and free ports."""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Promises:
    """Says of each promise whether it held and what was seen, and counts those that did not."""

    def __init__(self) -> None:
        self.broken = 0

    def __call__(self, promise: str, held: object, seen: object = "") -> bool:
        """Note one promise."""
        self.broken += not held
        say(f"  {'holds ' if held else 'BROKEN'}  {promise}" + (f": {seen}" if seen != "" else ""))
        return bool(held)

    def note(self, fact: str, seen: object) -> None:
        """Say what was measured where nothing is promised."""
        say(f"  seen    {fact}: {seen}")


def free_port() -> int:
    """A TCP port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(url: str, body: Any = None, timeout: float = 30) -> tuple[int, bytes]:
    """Status and body of an answer; 0 where nobody answers."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"} if data else {})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except (urllib.error.URLError, OSError):
        return 0, b""


def eventually(condition: Callable[[], object], seconds: float) -> float:
    """Seconds until the condition held; infinite where it did not in time."""
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        if condition():
            return time.monotonic() - started
        time.sleep(0.005)
    return float("inf")


def megabytes(path: Path) -> float:
    """What a folder takes on the disk, in units of 10⁶ bytes; a file with two names once."""
    words = subprocess.run(["du", "-s", "-B1", str(path)], capture_output=True, text=True, check=True).stdout.split()
    return int(words[0]) / 1e6


def packages(root: Path) -> Path:
    """The folder of installed packages in the root of an image."""
    [found] = (root / "opt/unroll/lib").glob("python*/site-packages")
    return found


def largest(folder: Path, count: int) -> str:
    """The largest things in a folder and what each takes."""
    sizes = sorted(((megabytes(path), path.name) for path in folder.iterdir()), reverse=True)
    return ", ".join(f"{name} {size:.1f}" for size, name in sizes[:count])


def say(line: str) -> None:
    """A line of what happens."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()

"""A real server of the bundled model: seconds to its first answer, and its resident memory."""

import json
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from tests.benchmarks.figures import Figure


def complete(port: int, max_tokens: int) -> bytes:
    """One whole completion."""
    body = json.dumps({"prompt": "ROMEO:", "max_tokens": max_tokens, "seed": 1}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/completions", body, {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return bytes(answer.read())


def start_to_answer() -> tuple[float, float]:
    """Seconds from starting the process to a finished answer of 16 characters; its peak memory in MB."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = time.perf_counter()
    server = subprocess.Popen(
        [sys.executable, "-m", "unroll", "serve", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            try:
                complete(port, 16)
                break
            except OSError:
                if server.poll() is not None or time.perf_counter() - start > 60:
                    raise
                time.sleep(0.005)
        seconds = time.perf_counter() - start
        complete(port, 2000)
        status = Path(f"/proc/{server.pid}/status")
        peak = re.search(r"VmHWM:\s+(\d+) kB", status.read_text() if status.exists() else "")
        return seconds, int(peak.group(1)) * 1024 / 1e6 if peak else float("nan")
    finally:
        server.terminate()
        server.wait(30)


def measure() -> list[Figure]:
    """The median of five starts."""
    runs = sorted(start_to_answer() for _ in range(5))
    seconds, memory = runs[2][0], max(memory for _, memory in runs)
    return [
        Figure("process start to first answer", seconds, "s", 1.5, "most"),
        Figure("server's peak resident memory", memory, "MB", 200, "most"),
    ]

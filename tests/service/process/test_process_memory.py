"""The process holds no more than its memory budget and what it needs for itself, whatever all clients send together."""

import socket
from contextlib import ExitStack, suppress
from pathlib import Path

from tests.service.serving import serving_process

BUDGET = 16_000_000  # bytes of all requests
OWN = 100_000_000  # bytes that are not charged, above what the server had before
CLIENTS, BODY = 40, 7_900_000
HEAD = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def test_bodies_that_never_end_hold_no_more_than_the_budget(checkpoint_folder: Path) -> None:
    arguments = (str(checkpoint_folder), "--port", "0", "--memory-budget-bytes", str(BUDGET))
    with serving_process(*arguments) as (process, url), ExitStack() as stack:

        def memory() -> int:
            """Bytes the server has in memory."""
            status = Path(f"/proc/{process.pid}/status").read_text("ascii")
            return int(status.partition("VmRSS:")[2].split()[0]) << 10

        host, port = url.rpartition("/")[2].split(":")
        before = most = memory()
        refused = 0
        sent = f'{HEAD}Content-Length: {BODY}\r\n\r\n{{"prompt": "'.encode() + b"a" * (BODY - 1_000)
        for _ in range(CLIENTS):
            client = stack.enter_context(socket.create_connection((host, int(port)), 2))
            with suppress(OSError):  # one that is refused is not read to its end
                client.sendall(sent)
            most = max(most, memory())
            client.settimeout(0.05)
            with suppress(OSError):
                refused += b" 503 " in client.recv(65_536)
        assert refused > CLIENTS / 2
        assert most - before < BUDGET + OWN

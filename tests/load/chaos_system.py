"""Chaos: what a server stands on gives way: no room for logs, no memory, no descriptors, no file of keys."""

import asyncio
import os
import resource
import signal
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.load.bystanders import Bystanders, Row
from tests.load.chaos_faults import health
from tests.load.process import Running, unroll_serve
from tests.load.wire import Answer, HungUpError, connected, once, request

ASKED = 200  # requests that are logged
DEBUG = ("--log-level", "debug")
SPARE_MEGABYTES = 24  # of address space beyond what the server has taken
SPARE_FILES = 12
KEYS = ["first-key-of-the-file", "second-key-of-the-file"]


async def logged(server: Running, what: str) -> Row:
    """Many requests whose lines of the log cannot be written."""
    async with Bystanders(server) as beside, connected(server.port) as wire:
        seen = {(await wire.ask(request("/no/such/route"))).status for _ in range(ASKED)}
    lost = server.total("unroll_log_failures_total")
    holds = seen == {404} and beside.unharmed and lost > 0 and health(server) == "live 200, ready 200"
    after = f"goes on: {health(server)}; {lost:.0f} lines lost and counted"
    return Row(what, f"{ASKED} × {', '.join(map(str, seen))}", beside.words, after, holds)


async def full_disk() -> Row:
    """Logs go to a device that is always full."""
    with open("/dev/full", "wb") as full, unroll_serve(*DEBUG, stderr=full) as server:
        return await logged(server, "logs to a full disk (/dev/full)")


async def closed_pipe() -> Row:
    """Logs go to a pipe whose reader has gone."""
    read, write = os.pipe()
    with unroll_serve(*DEBUG, stderr=write) as server:
        os.close(write)
        os.close(read)
        return await logged(server, "logs to a pipe whose reader has gone")


async def clogged_pipe() -> Row:
    """Logs go to a pipe that nobody reads and that is full."""
    read, write = os.pipe()
    with unroll_serve(*DEBUG, stderr=write) as server:
        os.set_blocking(write, False)
        try:
            while True:
                os.write(write, bytes(4_096))
        except BlockingIOError:
            os.set_blocking(write, True)
        async with Bystanders(server) as beside, connected(server.port) as wire:
            seen = {(await wire.ask(request("/no/such/route"))).status for _ in range(ASKED)}
        state = health(server)
        server.signal(signal.SIGTERM)
        code, seconds = await asyncio.to_thread(server.ended, 20)
        os.close(read)
        os.close(write)
    holds = seen == {404} and beside.unharmed and state == "live 200, ready 200" and not code
    after = f"goes on: {state}; ends {seconds:.1f} s after SIGTERM with status {code}"
    return Row("logs to a pipe that nobody reads", f"{ASKED} × {', '.join(map(str, seen))}", beside.words, after, holds)


async def tried(server: Running, data: bytes) -> str:
    """The answer to a request in words."""
    try:
        answer = await once(server.port, data)
    except (HungUpError, ConnectionError):
        return "connection ended before an answer"
    return f"{answer.status} {answer.code}".strip()


async def no_memory() -> Row:
    """No more address space, and large bodies."""
    body = b'{"texts": ["' + b"a" * (8 << 20) + b'"]}'
    with unroll_serve("--max-body-bytes", str(16 << 20)) as server:
        async with Bystanders(server) as beside:
            status = Path(f"/proc/{server.pid}/status").read_text("ascii")
            size = int(status.partition("VmSize:")[2].split()[0]) << 10
            server.limit(resource.RLIMIT_AS, size + (SPARE_MEGABYTES << 20))
            seen = [await tried(server, request("/v1/score", body=body)) for _ in range(3)]
            server.limit(resource.RLIMIT_AS, resource.RLIM_INFINITY)
        state, rest = health(server), server.resting()
    holds = beside.unharmed and state == "live 200, ready 200" and rest and "200" not in seen
    after = f"goes on: {state}, at rest {'again' if rest else 'NEVER AGAIN'}"
    return Row(f"{SPARE_MEGABYTES} MB of memory left, bodies of 8 MB", ", ".join(seen), beside.words, after, holds)


async def no_descriptors() -> Row:
    """No more descriptors, and many connections."""
    with unroll_serve() as server:
        async with Bystanders(server) as beside:
            server.limit(resource.RLIMIT_NOFILE, server.descriptors + SPARE_FILES)
            crowd = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(10 * SPARE_FILES)]
            await asyncio.sleep(2)
            for one in crowd:
                one.close()
            server.limit(resource.RLIMIT_NOFILE, 1_024)
            await asyncio.sleep(1.5)
        state = health(server)
    holds = beside.unharmed and state == "live 200, ready 200"
    what = f"{SPARE_FILES} descriptors left, {10 * SPARE_FILES} connections for 2 s"
    return Row(what, "they wait to be taken", beside.words, f"goes on: {state}", holds)


async def keys_gone() -> Row:
    """The file of keys is removed, spoiled and replaced, with SIGHUP each time."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "keys"
        file.write_text(KEYS[0] + "\n")
        with unroll_serve("--api-keys-file", str(file)) as server:
            seen = [await with_keys(server)]
            for change in (file.unlink, lambda: file.write_text("short\n"), lambda: file.write_text(KEYS[1] + "\n")):
                change()
                server.signal(signal.SIGHUP)
                await asyncio.sleep(0.3)
                seen.append(await with_keys(server))
    first, second = "200 and 401", "401 and 200"
    holds = seen == [first, first, first, second]
    words = "first and second key: " + "; ".join(
        f"{when}: {what}"
        for when, what in zip(("before", "file removed", "file spoiled", "second key"), seen, strict=True)
    )
    return Row(
        "the file of keys removed, spoiled, replaced; SIGHUP", words, "none", "goes on with the keys it has", holds
    )


async def with_keys(server: Running) -> str:
    """The statuses that both keys get."""
    answers: list[Answer] = [await once(server.port, request("/v1/models", key=key)) for key in KEYS]
    return " and ".join(str(answer.status) for answer in answers)


SCENARIOS: list[Callable[[], Any]] = [full_disk, closed_pipe, clogged_pipe, no_memory, no_descriptors, keys_gone]

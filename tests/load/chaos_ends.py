"""Chaos: the server is told to stop, or killed, in the middle of its work."""

import asyncio
import signal
import subprocess
import sys
from typing import Any

from tests.benchmarks.server_process import REPOSITORY
from tests.load.bystanders import Bystanders, Row
from tests.load.outcome import Outcome, counted, outcome
from tests.load.process import Running, unroll_serve

STREAMS = 64
ENDLESS = 100_000
SEED = {"prompt": "After the fall ", "max_tokens": 300, "seed": 7}


async def crowd(server: Running, **given: Any) -> list["asyncio.Task[Outcome]"]:
    """Texts that are all being written, half of them streamed."""
    tasks = [
        asyncio.create_task(outcome(server.port, {"prompt": "a", "stream": at % 2 == 0, "seed": at, **given}))
        for at in range(STREAMS)
    ]
    while server.total("unroll_requests_running") < STREAMS:
        await asyncio.sleep(0.02)
    return tasks


async def terminated() -> Row:
    """SIGTERM with enough grace."""
    with unroll_serve("--grace-seconds", "100") as server:
        async with Bystanders(server) as beside:
            tasks = await crowd(server, max_tokens=2_000)
            server.signal(signal.SIGTERM)
            seen = await asyncio.gather(*tasks)
        code, seconds = await asyncio.to_thread(server.ended, 30)
    whole = all(one.whole and one.finish == "length" for one in seen)
    refused = {one.words for one in beside.outcomes if one.finish is None}
    holds = whole and not code and refused <= {"503 draining, Retry-After 5", "connection ended before an answer"}
    after = f"exit status {code}, {seconds:.1f} s after the last text"
    return Row(f"SIGTERM, {STREAMS} texts running, enough grace", counted(seen), beside.words, after, holds)


async def terminated_with_little_grace() -> Row:
    """SIGTERM with a second of grace, and texts that take longer."""
    with unroll_serve("--grace-seconds", "1") as server:
        tasks = await crowd(server, max_tokens=ENDLESS)
        server.signal(signal.SIGTERM)
        seen = await asyncio.gather(*tasks)
        code, seconds = await asyncio.to_thread(server.ended, 30)
    holds = not code and all(one.whole and one.code == "draining" for one in seen)
    after = f"exit status {code}, {seconds:.1f} s after the last text"
    return Row(f"SIGTERM, {STREAMS} endless texts, 1 s of grace", counted(seen), "(all are concerned)", after, holds)


async def killed() -> Row:
    """SIGKILL, and a server anew."""
    with unroll_serve() as server:
        before = await outcome(server.port, SEED)
        tasks = await crowd(server, max_tokens=ENDLESS)
        server.signal(signal.SIGKILL)
        seen = await asyncio.gather(*tasks)
    with unroll_serve() as server:
        again = await outcome(server.port, SEED)
    same = again.text == before.text and bool(before.text)
    holds = same and not any(one.whole for one in seen)
    after = f"a new one writes {'the same text' if same else 'ANOTHER TEXT'} for the same seed"
    return Row(f"SIGKILL, {STREAMS} endless texts", counted(seen), "(all are concerned)", after, holds)


async def interrupted_while_loading() -> Row:
    """SIGTERM before there is a model."""
    command = [sys.executable, "-m", "unroll", "serve", "--port", "0"]
    codes = []
    for wait in (0.3, 0.5, 0.7, 0.9):
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        await asyncio.sleep(wait)
        process.send_signal(signal.SIGTERM)
        _, said = await asyncio.to_thread(process.communicate, None, 20)
        codes.append(f"{process.returncode}{' with a traceback' if b'Traceback' in said else ''}")
    after = (
        "exit status " + ", ".join(codes) + " after 0.3, 0.5, 0.7, 0.9 s; −15 is the system's own before Python listens"
    )
    return Row("SIGTERM while it starts", "nobody asks yet", "none", after, not any("trace" in one for one in codes))


SCENARIOS = [terminated, terminated_with_little_grace, killed, interrupted_while_loading]
